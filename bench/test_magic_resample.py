"""magic_resample beside torch's antialiased bicubic, Pillow, OpenCV, and the same filter in torch, eager and compiled.

    pytest bench/test_magic_resample.py --benchmark-only -s

Peers of the same filter must agree with the specification in float64; those of another one (bicubic, Lanczos, area)
are held to `OTHER_FILTER`, which a shift by a pixel breaks. Target of the classical forward pass on an H100: 1.7 times
the floor, and 10 times as fast as F.interpolate.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import pytest
import torch
from torch import Tensor

from bench import resample_peers as peers
from bench.devices import FULL, SMOKE, case, impl, place
from bench.peers import DTYPES, KINDS, bytes_of, compiled, finished
from bench.race import Case
from sr_kernels import functional as K

LAYOUTS = {"NCHW": torch.contiguous_format, "NHWC": torch.channels_last}
# Largest difference from the float64 result, of its largest value. bfloat16 rounds the result (2^-9 of it), in learned
# forms also the gains' gradients; uint8 rounds to one level of 255, Pillow's 8 bits of fixed point to another.
TOLERANCE = {"float32": 2e-5, "bfloat16": 8e-3, "uint8": 5e-3}
OTHER_FILTER = {False: 0.06, True: 0.12}  # by whether gradients are compared
SHRINK = 30 if SMOKE else 1


@dataclass(frozen=True)
class Resize:
    """One resize of one batch; height and width of the input. `compiles`: torch.compile is timed as well."""

    name: str
    height: int
    width: int
    scale: float
    device: str = "cpu"
    dtype: str = "float32"
    layout: str = "NCHW"
    channels: int = 3
    batch: int = 1
    training: bool = False
    compiles: bool = False

    @property
    def shape(self) -> tuple[int, int, int, int]:
        return self.batch, self.channels, max(8, self.height // SHRINK), max(8, self.width // SHRINK)

    @property
    def size(self) -> tuple[int, int]:
        return round(self.shape[2] * self.scale), round(self.shape[3] * self.scale)

    @property
    def id(self) -> str:
        return f"{self.name}-{self.layout}-{self.dtype}{'-training' if self.training else ''}".replace(" ", "-")

    @cached_property
    def x(self) -> Tensor:
        """Mostly smooth, as photographs are, so that other filters give nearly the same; values in 0..1, or 0..255."""
        torch.manual_seed(0)
        B, C, H, W = self.shape
        coarse = torch.rand(B, C, H // 8 + 1, W // 8 + 1)
        x = torch.nn.functional.interpolate(coarse, size=(H, W), mode="bilinear")
        x = 0.9 * x + 0.1 * torch.rand(self.shape)
        x = (255 * x).round() if self.dtype == "uint8" else x
        x = x.to(place(self.device), DTYPES[self.dtype]).contiguous(memory_format=LAYOUTS[self.layout])
        return x.requires_grad_(self.training)

    @cached_property
    def pull(self) -> Tensor | None:
        """The gradient that comes back, if one does, of mean 0 as that of a loss; in the layout of the result."""
        if not self.training:
            return None
        pull = torch.randn(*self.shape[:2], *self.size, device=self.x.device).to(self.x.dtype)
        return pull.contiguous(memory_format=LAYOUTS[self.layout])

    def ends(self, call: Callable[[], Tensor], *inputs: Tensor, pull: Tensor | None = None) -> Callable[[], object]:
        pull = self.pull if pull is None else pull
        return finished(call, inputs, None if pull is None else (pull,))

    def described(self, title: str, **fields: object) -> Case:
        """The case; its bytes are the picture and the result, each once, and their gradients as well in training."""
        out = self.shape[0] * self.shape[1] * self.size[0] * self.size[1] * self.x.element_size()
        moved = (bytes_of(self.x) + out) * (2 if self.training else 1)
        # uint8: no matrix rate to hold them against, and the bytes decide.
        work = 0 if self.dtype == "uint8" else peers.operations(self.shape, self.size) * (2 if self.training else 1)
        known = {"moved": moved, "flops": work, "kind": KINDS[self.training]}
        return Case("magic_resample", title, dtype=self.dtype, device=self.device, **(known | fields))  # type: ignore


def exact(x: Tensor, size: tuple[int, int], pull: Tensor | None, *inputs: Tensor, basis: Tensor | None = None):
    """In float64: the result, or the gradients of x and `inputs` (the gains) for `pull`. uint8 rounds at the end."""
    wide = [t.detach().double().requires_grad_(pull is not None) for t in (x, *inputs)]
    gains = wide[1] if inputs else None
    out = K.magic_resample(wide[0], size=size, gains=gains, basis=basis, impl="torch")
    if pull is not None:
        return torch.autograd.grad(out, wide, pull.double())
    return out.round().clamp(0, 255) if x.dtype == torch.uint8 else out


@pytest.fixture(autouse=True, scope="module")
def _exact_is_the_specification() -> None:
    """The gate's own float64 path against the specification, in the directions and forms that are timed."""
    x, basis = torch.rand(1, 3, 24, 33, dtype=torch.float64), torch.randn(12, 5, 5, dtype=torch.float64)
    lags = torch.rand(1, 6, 24, 33, dtype=torch.float64)
    for scale in (4, 3, 2, 1.5, 2 / 3, 0.5, 0.25):
        size = (round(24 * scale), round(33 * scale))
        for gains, stencils in ((None, None), (lags, None), (torch.rand(1, 12, 1, 1).double(), basis)):
            given = {"size": size, "gains": gains, "basis": stencils}
            expected = K.magic_resample(x, **given, impl="reference")
            torch.testing.assert_close(K.magic_resample(x, **given, impl="torch"), expected, rtol=0, atol=1e-9)


def cpu_cases():
    up, down = ("1024 to 4096", 1024, 1024, 4), ("4096 to 1024", 4096, 4096, 0.25)
    for name in (up, down):
        yield Resize(*name, compiles=name is up)
        yield Resize(*name, layout="NHWC")
        yield Resize(*name, layout="NHWC", dtype="uint8")
    yield Resize("256 to 1024", 256, 256, 4)
    yield Resize("256 to 1024", 256, 256, 4, training=True)


def cuda_cases():
    names = [
        ("1080p to 4K", 1080, 1920, 2),
        ("1080p to 4K", 1080, 1920, 2, "NHWC"),
        ("720p to 4K", 720, 1280, 3),
        ("540p to 4K", 540, 960, 4),
        ("1080p to 4K, 64 channels", 1080, 1920, 2, "NHWC", 64),
        ("540p to 4K, 64 channels", 540, 960, 4, "NHWC", 64),
        ("4K to 1080p", 2160, 3840, 0.5),
        ("4K to 1440p", 2160, 3840, 2 / 3),
        ("1080p x1.5", 1080, 1920, 1.5),
    ]
    for name, height, width, scale, *more in names:
        layout, channels = (*more, *("NCHW", 3)[len(more) :])
        for dtype in ("bfloat16", "float32"):
            for training in (False, True):
                compiles = FULL or (name == "1080p to 4K" and layout == "NCHW" and dtype == "bfloat16")
                where = {"device": "cuda", "dtype": dtype, "layout": layout, "channels": channels}
                yield Resize(name, height, width, scale, training=training, compiles=compiles, **where)
    yield Resize("1080p to 4K", 1080, 1920, 2, device="cuda", dtype="uint8")
    yield Resize("4K to 1080p", 2160, 3840, 0.5, device="cuda", dtype="uint8")


HEADLINES = {"cpu-1024-to-4096-NCHW-float32", "cpu-1024-to-4096-NHWC-uint8", "cuda-1080p-to-4K-NCHW-bfloat16"}
QUICK = {"256 to 1024"}


@pytest.mark.parametrize(
    "spec", [case(s.device, s, id=s.id, quick=s.name in QUICK) for s in (*cpu_cases(), *cuda_cases())]
)
def test_magic_resample(race, spec):
    x, size = spec.x, spec.size
    calls = {"F.interpolate": lambda: peers.interpolate(x, size)}
    others = ["F.interpolate"]
    outside = {}
    if spec.device == "cpu" and not spec.training:
        outside["Pillow MKS2021"] = peers.pillow(x, size, "MKS2021")
        outside["Pillow bicubic"] = peers.pillow(x, size, "BICUBIC")
        for method in ("INTER_CUBIC", "INTER_LANCZOS4") if spec.scale > 1 else ("INTER_AREA",):
            outside[f"OpenCV {method[6:].lower()}"] = peers.opencv(x, size, method)
        others += [name for name in outside if name != "Pillow MKS2021"]
    if spec.compiles:
        taps, call = peers.taps(x, size), compiled(peers.by_taps)
        calls["torch.compile"] = lambda: call(x, *taps)
    if spec.device == "cuda":
        calls["torch path"] = lambda: K.magic_resample(x, size=size, impl="torch")
    calls["ours"] = lambda: K.magic_resample(x, size=size, impl=impl(spec.device))
    race(
        spec.described(f"{spec.name}, {spec.layout}", headline=f"{spec.device}-{spec.id}" in HEADLINES),
        {name: spec.ends(call, x) for name, call in calls.items()} | outside,
        reference=lambda: exact(x, size, spec.pull),
        tolerance=TOLERANCE[spec.dtype],
        loose=dict.fromkeys(others, OTHER_FILTER[spec.training]),
        checked=peers.as_maps,
    )


FORMS = ["lags", "basis", "global basis"]


def learned_cases():
    for form in FORMS:
        for training in (False, True):
            batch = Resize("16 of 48 to 192", 48, 48, 4, batch=16, training=training, compiles=form == "global basis")
            yield form, batch
            for name, height, width, scale in (("1080p to 4K", 1080, 1920, 2), ("540p to 4K", 540, 960, 4)):
                compiles = FULL or (scale == 4 and form == "basis")
                more = {"device": "cuda", "dtype": "bfloat16", "training": training, "compiles": compiles}
                yield form, Resize(name, height, width, scale, **more)


@pytest.mark.parametrize(
    ("form", "spec"),
    [
        case(s.device, form, s, id=f"{form}-{s.id}".replace(" ", "-"), quick=form == "basis" and s.device == "cpu")
        for form, s in learned_cases()
    ],
)
def test_learned(race, form, spec):
    """Gains for each pixel (6 lags, or 12 stencils of 5x5 as in the generator), or one set of 12 for all pixels.

    Beside it the classical operation of ours, which shows what the gains add.
    """
    x, size = spec.x, spec.size
    torch.manual_seed(1)
    count, sides = (6 if form == "lags" else 12), ((1, 1) if form == "global basis" else spec.shape[2:])
    gains = (0.5 + torch.rand(1 if sides == (1, 1) else spec.batch, count, *sides)).to(x).requires_grad_(spec.training)
    basis = None if form == "lags" else torch.randn(12, 5, 5, device=x.device) / 25
    stencils = None if basis is None else peers.zero_sum(basis)
    classical, magic = peers.taps(x, size), peers.taps(x, size, "magic")

    def unfused(function) -> Callable[[], Tensor]:
        return lambda: function(x, gains, stencils, classical, magic)

    def ours(how) -> Callable[[], Tensor]:
        return lambda: K.magic_resample(x, size=size, gains=gains, basis=basis, impl=how)

    calls = {"unfused": unfused(peers.learned_by_taps)}
    if spec.compiles:
        calls["torch.compile"] = unfused(compiled(peers.learned_by_taps))
    if spec.device == "cuda":
        calls["torch path"] = ours("torch")
    calls["ours"] = ours(impl(spec.device))
    runs = {name: spec.ends(call, x, gains) for name, call in calls.items()}
    runs["ours, classical"] = spec.ends(lambda: K.magic_resample(x, size=size, impl=impl(spec.device)), x)
    work = peers.operations(spec.shape, size) + peers.bend_operations(spec.shape, gains, basis)
    plain = spec.described("")
    # Forward reads x and gains; backward reads both again beside the incoming gradient, and writes theirs.
    moved = plain.moved + bytes_of(gains) * (3 if spec.training else 1) + bytes_of(x) * (1 if spec.training else 0)
    race(
        spec.described(
            f"learned, {form}, {spec.name}",
            moved=moved,
            flops=work * (3 if spec.training else 1),
            headline=spec.device == "cuda" and spec.scale == 4 and form == "basis" and spec.training,
        ),
        runs,
        reference=lambda: exact(x, size, spec.pull, gains, basis=None if basis is None else basis.double()),
        # The torch path adds the shared stencils up first, and the gradient of that sum cancels: 6e-5 in float32.
        tolerance=2e-2 if spec.dtype == "bfloat16" else 1e-3 if form == "global basis" else 2e-5,
        loose={"ours, classical": None},
    )


def growing_cases():
    for device, dtype in (("cpu", "float32"), ("cuda", "bfloat16")):
        for side in (64, 128, 256, 512, 1024, 2048):
            yield Resize(f"{side} to {2 * side}", side, side, 2, device=device, dtype=dtype)


@pytest.mark.parametrize("spec", [case(s.device, s, id=s.id, quick=s.height == 128) for s in growing_cases()])
def test_growing_picture(race, spec):
    """Forward, RGB, from 64x64 to 4096x4096 of output."""
    x, size = spec.x, spec.size
    race(
        spec.described(spec.name, series="magic_resample x2", side=spec.height),
        {
            "F.interpolate": lambda: peers.interpolate(x, size),
            "ours": lambda: K.magic_resample(x, size=size, impl=impl(spec.device)),
        },
        reference=lambda: exact(x, size, None),
        tolerance=TOLERANCE[spec.dtype],
        loose={"F.interpolate": OTHER_FILTER[False]},
    )

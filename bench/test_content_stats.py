"""content_stats beside the same statistics written with torch's operators, eager and compiled, and a convolution.

    pytest bench/test_content_stats.py --benchmark-only -s

On a CPU the yardstick is the convolution of a small network (32 to 32 channels, 3x3) on the same pixels: statistics
cost about as much as one such layer (on large pictures in training, less), of which the smallest generator has 18. The
target on an H100 is 10 us and 9 ns per 1000 pixels for the forward pass.
"""

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from bench import clock
from bench.devices import COMPILE_ONLY, FULL, SMOKE, case, impl, place
from bench.peers import DTYPES, KINDS, bytes_of, compiled, finished
from bench.race import Case
from sr_kernels import functional as K
from sr_kernels.content_stats import fast
from sr_kernels.content_stats.constants import (
    BLUR,
    COHERENCE_FLOOR,
    GREY,
    LAPLACIAN,
    LOG_SCALE,
    LUMA,
    RADIUS,
    SCHARR,
    SCHARR_NORM,
    TRACE_FLOOR,
)

WINDOW = 8
SHRINK = 20 if SMOKE else 1
# Against float64, of the largest value. On flat spots the deviation of float32 differs in the fourth digit, and its
# gradient, which the inverse of that deviation scales, in the second.
TOLERANCE = {False: {"bfloat16": 2e-2, "float32": 2e-3}, True: {"bfloat16": 5e-2, "float32": 5e-2}}
# Per pixel and scale, two operations for a multiply-add: luma 5; derivatives and Laplacian 2 * 10 + 6; six products 6;
# six separable blurs of 7 taps 6 * 2 * 13; some 50 for the eight formulas. The coarse scale: a quarter of the pixels.
OPERATIONS = 5 + 26 + 6 + 156 + 50


@dataclass(frozen=True)
class Picture:
    batch: int
    height: int
    width: int
    device: str = "cpu"
    dtype: str = "float32"
    training: bool = False
    compiles: bool = False

    @property
    def title(self) -> str:
        return f"{'' if self.batch == 1 else f'{self.batch} of '}{self.width}x{self.height}"

    @property
    def id(self) -> str:
        return f"{self.title.replace(' ', '-')}-{self.dtype}{'-training' if self.training else ''}"

    def draw(self) -> Tensor:
        torch.manual_seed(0)
        height, width = (max(16, n // SHRINK) for n in (self.height, self.width))
        x = torch.rand(self.batch, 3, height, width, device=place(self.device))
        return x.to(DTYPES[self.dtype]).requires_grad_(self.training)


def unfused(x: Tensor, window: int) -> tuple[Tensor, Tensor, Tensor]:
    """The formulas of `sr_kernels.content_stats.reference` as one would write them, a convolution for each map."""
    y = (x.float() * torch.tensor(LUMA, device=x.device).view(3, 1, 1)).sum(1, keepdim=True)
    fine, coarse = unfused_scale(y), unfused_scale(F.avg_pool2d(y, 2, ceil_mode=True))
    detail = fine[:, :1]
    difficulty = [F.avg_pool2d(detail, window, ceil_mode=True), F.max_pool2d(detail, window, ceil_mode=True)]
    return fine.to(x.dtype), coarse.to(x.dtype), torch.cat(difficulty, 1).to(x.dtype)


def unfused_scale(y: Tensor) -> Tensor:
    """(B,1,H,W) -> (B,8,H,W)."""
    around = F.pad(y, (RADIUS,) * 4, mode="replicate")
    scharr, laplacian, blur = (torch.tensor(taps, device=y.device) for taps in (SCHARR, LAPLACIAN, BLUR))

    def filtered(stencil: Tensor) -> Tensor:
        return F.conv2d(around, stencil[None, None])

    def mean(maps: Tensor) -> Tensor:
        return F.conv2d(F.conv2d(maps, blur.view(1, 1, 7, 1)), blur.view(1, 1, 1, 7))

    gx, gy = filtered(scharr / SCHARR_NORM), filtered(scharr.t() / SCHARR_NORM)
    J11, J12, J22 = mean(gx * gx), mean(gx * gy), mean(gy * gy)
    centred = around[:, :, 1:-1, 1:-1] - 0.5
    average = mean(centred)
    variance = (mean(centred * centred) - average * average).clamp_min(0)
    trace = J11 + J22
    a, b = (J11 - J22) / (trace + TRACE_FLOOR), 2 * J12 / (trace + TRACE_FLOOR)
    coherence = (a * a + b * b + COHERENCE_FLOOR**2).sqrt()
    strengths = [
        LOG_SCALE * torch.log1p(GREY * mean(filtered(laplacian).abs())),
        LOG_SCALE / 2 * torch.log1p(GREY**2 * variance),
        LOG_SCALE / 2 * torch.log1p(GREY**2 * trace),
    ]
    return torch.cat([*strengths, a, b, (a * a - b * b) / coherence, 2 * a * b / coherence, average + 0.5], 1)


def layer(x: Tensor) -> tuple[Callable[[], Tensor], Tensor]:
    """The yardstick on the pixels of x: a convolution of 32 channels, and its weights."""
    features = torch.rand(x.shape[0], 32, *x.shape[2:], device=x.device, requires_grad=x.requires_grad)
    features = features.contiguous(memory_format=torch.channels_last)
    weight = torch.rand(32, 32, 3, 3, device=x.device, requires_grad=x.requires_grad)
    return lambda: F.conv2d(features, weight, padding=1), weight


def launches(x: Tensor, training: bool) -> int | None:
    """Kernels that our Triton forward, or forward and backward, enqueues."""
    if importlib.util.find_spec("triton") is None:
        return None
    from sr_kernels import launch
    from sr_kernels.content_stats import tiling
    from sr_kernels.content_stats.backward import backward
    from sr_kernels.content_stats.forward import forward

    picture = tiling.Picture(x.detach().to("meta"))
    count = len(launch.collect(forward(picture, WINDOW)))
    if training:
        grads = K.content_stats(x.detach(), window=WINDOW, impl="torch")
        fine, coarse, difficulty = (grad.to("meta") for grad in grads)
        count += len(launch.collect(backward(fine, coarse, difficulty, picture, WINDOW)))
    return count


@pytest.fixture(autouse=True, scope="module")
def _exact_is_the_specification() -> None:
    """The gate's own float64 path against the specification."""
    for sides in ((20, 20), (17, 23)):
        x = torch.rand(1, 3, *sides, dtype=torch.float64)
        expected, actual = (K.content_stats(x, window=WINDOW, impl=how) for how in ("reference", "torch"))
        for one, other in zip(actual, expected, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-6)


def cases():
    for training in (False, True):
        for batch, height, width in ((16, 48, 48), (1, 180, 320), (1, 512, 512)):
            # The compiled gradient takes a CPU's compiler a minute.
            yield Picture(batch, height, width, training=training, compiles=height == 512 and not training)
        for height, width in ((180, 320), (360, 640), (1080, 1920)):
            for dtype in ("bfloat16", "float32"):
                compiles = FULL or (height == 1080 and dtype == "bfloat16")
                yield Picture(1, height, width, "cuda", dtype, training, compiles)


@pytest.mark.parametrize("spec", [case(s.device, s, id=s.id, quick=s.height == 180) for s in cases()])
def test_content_stats(race, spec):
    x = spec.draw()
    where = impl(spec.device)
    calls = {"eager": lambda: unfused(x, WINDOW)}
    if spec.compiles:
        calls["torch.compile"] = partial(compiled(unfused), x, WINDOW)
        if FULL or not spec.training:
            calls["torch path, compiled"] = partial(compiled(fast.content_stats), x, WINDOW)
    if spec.device == "cuda":
        calls["torch path"] = lambda: K.content_stats(x, window=WINDOW, impl="torch")
    calls["ours"] = lambda: K.content_stats(x, window=WINDOW, impl=where)
    with torch.no_grad():
        stats = K.content_stats(x, window=WINDOW, impl="torch")
    pulls = [torch.rand_like(s, memory_format=torch.contiguous_format) for s in stats] if spec.training else None
    runs = {name: finished(call, (x,), pulls) for name, call in calls.items()}
    if spec.device == "cpu":
        call, weight = layer(x)
        runs["conv 32 -> 32"] = finished(call, (weight,), None if pulls is None else (torch.ones_like(call()),))
    notes = {}
    if spec.device == "cuda":
        notes["launches"] = launches(x, spec.training)
        if not spec.training:
            notes["target_milliseconds"] = round(0.01 + 9e-9 * spec.height * spec.width, 4)
        if spec.height == 180 and not COMPILE_ONLY:
            notes |= host_bound(calls if not spec.training else runs, place(spec.device), spec.training)
    race(
        described(spec, x, stats, headline=(spec.device, spec.height, spec.dtype) in HEADLINES and not spec.training),
        runs,
        reference=lambda: exact(x, pulls),
        tolerance=TOLERANCE[spec.training][spec.dtype],
        loose={"conv 32 -> 32": None},
        notes=notes,
    )


HEADLINES = {("cpu", 512, "float32"), ("cuda", 1080, "bfloat16")}


def described(spec: Picture, x: Tensor, stats: K.ContentStats, **fields: object) -> Case:
    """Bytes: the picture read and the statistics written; for gradients the same again, and the picture's written."""
    moved = bytes_of(x, *stats) * (2 if spec.training else 1) + (bytes_of(x) if spec.training else 0)
    # The gradient computes everything again and goes through each linear map backwards.
    flops = round(1.25 * OPERATIONS * x.shape[0] * x.shape[2] * x.shape[3] * (3 if spec.training else 1))
    known = {"title": spec.title, "kind": KINDS[spec.training], "moved": moved, "flops": flops}
    return Case("content_stats", dtype=spec.dtype, device=spec.device, **(known | fields))  # type: ignore


def exact(x: Tensor, pulls: list[Tensor] | None) -> tuple[Tensor, ...]:
    """In float64: the statistics, or the gradient of the picture for `pulls`."""
    wide = x.detach().double().requires_grad_(pulls is not None)
    stats = K.content_stats(wide, window=WINDOW, impl="torch")
    return tuple(stats) if pulls is None else torch.autograd.grad(tuple(stats), wide, [p.double() for p in pulls])


def host_bound(calls: dict[str, clock.Call], where: str, training: bool) -> dict[str, object]:
    """Milliseconds of calls one after the other without a pause, and of ours as a CUDA graph."""
    with torch.set_grad_enabled(training):
        found = {f"{name}, back to back": clock.launch_to_launch(calls[name], where) for name in ("eager", "ours")}
        if (replay := clock.graph_replay(calls["ours"], where)) is not None:
            found["ours, CUDA graph"] = replay
    return {f"{name} (ms)": round(1e3 * seconds, 4) for name, seconds in found.items()}


def growing():
    for device, dtype in (("cpu", "float32"), ("cuda", "bfloat16")):
        for side in (64, 128, 256, 512, 1024, 2048, 4096):
            yield Picture(1, side, side, device, dtype)


@pytest.mark.parametrize("spec", [case(s.device, s, id=s.id, quick=s.height == 128) for s in growing()])
def test_growing_picture(race, spec):
    """Forward, from 64x64 to 4096x4096."""
    x = spec.draw()
    with torch.no_grad():
        stats = K.content_stats(x, window=WINDOW, impl="torch")
    race(
        described(spec, x, stats, title=f"growing, {spec.title}", series="content_stats", side=spec.height),
        {
            "eager": lambda: unfused(x, WINDOW),
            "ours": lambda: K.content_stats(x, window=WINDOW, impl=impl(spec.device)),
        },
        reference=lambda: exact(x, None),
        tolerance=TOLERANCE[False][spec.dtype],
    )

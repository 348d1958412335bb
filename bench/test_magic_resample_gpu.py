"""magic_resample on a GPU beside torch's antialiased bicubic, torchvision's resize, and the torch path of our own.

`PYTHONPATH=.:kernels python3 -m pytest bench/test_magic_resample_gpu.py --benchmark-only -s`. The floor is the time
that a copy of the bytes takes which a fused kernel must move: the picture, the gains and the result, each once. Targets
for the classical forward pass: 1.7 times the floor, and 10 times as fast as F.interpolate.

SR_BENCH_SMOKE=1 tries the code on a CPU, with the torch path and small pictures.
"""

import importlib
import importlib.util
from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from bench import gpu
from sr_kernels import functional as K
from sr_kernels.dispatch import Impl

if reason := gpu.obstacle():
    pytest.skip(reason, allow_module_level=True)

IMPL = "torch" if gpu.SMOKE else "triton"
SHRINK = 30 if gpu.SMOKE else 1
LAYOUTS = {"NCHW": torch.contiguous_format, "NHWC": torch.channels_last}
# The peers are other filters: they are only held to the same order of magnitude. Ours is proven in tests/kernels.
OTHER_FILTER = 0.5


@dataclass(frozen=True)
class Shape:
    """One resize; height and width of the input."""

    height: int
    width: int
    scale: float
    channels: int = 3
    layout: str = "NCHW"


SHAPES = {
    "1080p-4K": Shape(1080, 1920, 2),
    "1080p-4K-NHWC": Shape(1080, 1920, 2, layout="NHWC"),
    "720p-4K": Shape(720, 1280, 3),
    "540p-4K": Shape(540, 960, 4),
    "1080p-4K-64": Shape(1080, 1920, 2, 64, "NHWC"),
    "540p-4K-64": Shape(540, 960, 4, 64, "NHWC"),
    "4K-1080p": Shape(2160, 3840, 0.5),
    "4K-1440p": Shape(2160, 3840, 2 / 3),
    "1080p-x1.5": Shape(1080, 1920, 1.5),
}
Run = Callable[[], tuple[Tensor, ...]]


def picture(shape: Shape, dtype: torch.dtype, training: bool = False) -> Tensor:
    torch.manual_seed(0)
    size = (1, shape.channels, shape.height // SHRINK, shape.width // SHRINK)
    x = torch.rand(size, device=gpu.DEVICE).to(dtype).contiguous(memory_format=LAYOUTS[shape.layout])
    return x.requires_grad_(training)


def interpolate(x: Tensor, scale: float) -> Tensor:
    return F.interpolate(x, scale_factor=scale, mode="bicubic", antialias=True)


def peers(x: Tensor, scale: float) -> dict[str, Callable[[], Tensor]]:
    found: dict[str, Callable[[], Tensor]] = {
        "torch path": lambda: K.magic_resample(x, scale=scale, impl="torch"),
        "F.interpolate": lambda: interpolate(x, scale),
    }
    if importlib.util.find_spec("torchvision") is not None:
        v2 = importlib.import_module("torchvision.transforms.v2")
        size = [round(n * scale) for n in x.shape[2:]]
        bicubic = v2.InterpolationMode.BICUBIC
        found["torchvision resize"] = lambda: v2.functional.resize(x, size, bicubic, antialias=True)
    return found


def measure(
    record: Callable[..., None], title: str, runs: dict[str, Run], *, moved: int, tolerance: float, training: bool
) -> None:
    with torch.set_grad_enabled(training):
        found = gpu.compete(runs, ours="ours", tolerance=tolerance, checked=lambda _, result: result)
    floor = moved / gpu.copy_bandwidth()
    gpu.table(title, found, ours="ours", floor=floor)

    def ours() -> None:
        with torch.set_grad_enabled(training):
            runs["ours"]()
        gpu.wait()

    record(found.seconds, gpu.DEVICE, ours=ours, **gpu.fields(found, ours="ours", floor=floor))


def size_of(*tensors: Tensor) -> int:
    return sum(t.numel() * t.element_size() for t in tensors)


@pytest.mark.parametrize("training", [False, True], ids=["forward", "training"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32], ids=lambda d: str(d)[6:])
@pytest.mark.parametrize("name", SHAPES)
def test_magic_resample_gpu(record, name, dtype, training):
    shape = SHAPES[name]
    x = picture(shape, dtype, training)
    contestants = {**peers(x, shape.scale), "ours": lambda: K.magic_resample(x, scale=shape.scale, impl=IMPL)}
    with torch.no_grad():
        out = contestants["ours"]()
    pull = torch.rand_like(out)

    def finished(call: Callable[[], Tensor]) -> Run:
        return lambda: torch.autograd.grad(call(), x, pull) if training else (call(),)

    runs = {key: finished(call) for key, call in contestants.items()}
    moved = size_of(x, out) * (2 if training else 1)
    title = f"{name} {str(dtype)[6:]} {'forward + backward' if training else 'forward'}"
    measure(record, title, runs, moved=moved, tolerance=OTHER_FILTER, training=training)


@pytest.mark.parametrize("training", [False, True], ids=["forward", "training"])
@pytest.mark.parametrize("form", ["lags", "basis", "basis-global"])
@pytest.mark.parametrize("name", ["1080p-4K", "540p-4K"])
def test_learned_gpu(record, name, form, training):
    """Gains in bfloat16 for each pixel (6 lags, or 12 stencils of 5x5 as in the generator), or one set for all."""
    shape = SHAPES[name]
    x = picture(shape, torch.bfloat16, training)
    basis = None if form == "lags" else torch.randn(12, 5, 5, device=gpu.DEVICE) / 25
    count, sides = (6 if basis is None else 12), ((1, 1) if form == "basis-global" else x.shape[2:])
    gains = (1 + torch.rand(1, count, *sides, device=gpu.DEVICE)).to(x.dtype).requires_grad_(training)

    def call(impl: Impl) -> Run:
        def run() -> tuple[Tensor, ...]:
            out = K.magic_resample(x, scale=shape.scale, gains=gains, basis=basis, impl=impl)
            return torch.autograd.grad(out, (x, gains), pull) if training else (out,)

        return run

    with torch.no_grad():
        out = K.magic_resample(x, scale=shape.scale, impl=IMPL)
    pull = torch.rand_like(out)
    runs = {"torch path": call("torch"), "ours": call(IMPL)}
    moved = size_of(x, gains, out) * (2 if training else 1)
    title = f"{name} {form} {'forward + backward' if training else 'forward'}"
    measure(record, title, runs, moved=moved, tolerance=0.02, training=training)

"""magic_resample beside torch's antialiased bicubic, Pillow's MKS2021 in mode F, and merely filling the output.

Run on an idle machine: `pytest bench/test_magic_resample.py --benchmark-only -s`.
"""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from sr_kernels import functional as K


def pillow(x: Tensor, height: int, width: int) -> np.ndarray:
    planes = [Image.fromarray(plane.numpy(), "F") for plane in x.flatten(0, 1)]
    return np.stack([np.asarray(p.resize((width, height), Image.Resampling.MKS2021)) for p in planes])


def bicubic(x: Tensor, scale: float) -> Tensor:
    return F.interpolate(x, scale_factor=scale, mode="bicubic", antialias=True)


@pytest.fixture(autouse=True)
def _gate() -> None:
    """No number for a wrong result: equal to Pillow in the layouts and directions that are timed."""
    x = 255 * torch.rand(1, 3, 130, 210)
    for scale in (4, 0.25):
        height, width = round(130 * scale), round(210 * scale)
        expected = torch.from_numpy(pillow(x, height, width)).view(1, 3, height, width)
        for layout in (torch.contiguous_format, torch.channels_last):
            actual = K.magic_resample(x.contiguous(memory_format=layout), scale=scale, impl="torch")
            torch.testing.assert_close(actual, expected, rtol=0, atol=2e-4, check_stride=False)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=["NCHW", "channels_last"])
@pytest.mark.parametrize(("side", "scale"), [(1024, 4), (4096, 0.25)], ids=["up", "down"])
@torch.inference_mode()
def test_magic_resample(race, side, scale, layout):
    """RGB float32, 1024 to 4096 pixels and back."""
    x = torch.rand(1, 3, side, side).contiguous(memory_format=layout)
    target = round(side * scale)
    planes = [Image.fromarray(plane.numpy(), "F") for plane in x[0].contiguous()]

    def fill() -> None:
        torch.empty(1, 3, target, target).fill_(0.5)

    def ours() -> None:
        K.magic_resample(x, scale=scale, impl="torch")

    def interpolate() -> None:
        bicubic(x, scale)

    def run_pillow() -> None:
        for plane in planes:
            plane.resize((target, target), Image.Resampling.MKS2021)

    race(
        {
            "fill the output": fill,
            "magic_resample": ours,
            "F.interpolate bicubic aa": interpolate,
            "Pillow MKS2021, mode F": run_pillow,
        },
        ours="magic_resample",
        tolerance=0,
    )


@pytest.mark.parametrize("training", [False, True], ids=["forward", "training"])
def test_learned(race, training):
    """A training batch, 16 x 48x48 to 192x192: what gains add to the classical operation."""
    x = torch.rand(16, 3, 48, 48, requires_grad=training)
    per_pixel = torch.rand(16, 6, 48, 48, requires_grad=training)
    one = torch.rand(1, 12, 1, 1, requires_grad=training)
    basis = torch.randn(12, 5, 5)

    def step(out: Tensor, *inputs: Tensor) -> None:
        if training:
            torch.autograd.grad(out.sum(), inputs)

    race(
        {
            "F.interpolate bicubic aa": lambda: step(bicubic(x, 4), x),
            "magic_resample": lambda: step(K.magic_resample(x, scale=4), x),
            "lags, per pixel": lambda: step(K.magic_resample(x, scale=4, gains=per_pixel), x, per_pixel),
            "basis 12 x 5x5, global": lambda: step(K.magic_resample(x, scale=4, gains=one, basis=basis), x, one),
        },
        ours="magic_resample",
        tolerance=0,
    )

"""Colour under transparency: the push-pull pyramid, band by band as whole."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from sr_engine.infer import transparency
from sr_engine.infer.transparency import fill_transparent


def whole(colour: Tensor, alpha: Tensor) -> Tensor:
    """The definition, in float64 and all at once."""
    visible = alpha > 0
    if visible.all():
        return colour
    if max(colour.shape[-2:]) == 1:
        return torch.where(visible, colour, torch.full_like(colour, 0.5))
    weight = F.avg_pool2d(alpha, 2, ceil_mode=True)
    mean = F.avg_pool2d(colour * alpha, 2, ceil_mode=True) / weight.clamp_min(1e-300)
    around = F.interpolate(whole(mean, weight), size=colour.shape[-2:], mode="bilinear")
    return torch.where(visible, colour, around)


def scene(height: int, width: int, dtype: torch.dtype, share: float) -> tuple[Tensor, Tensor, float]:
    torch.manual_seed(0)
    peak = {torch.uint8: 255, torch.uint16: 65535}.get(dtype, 1)
    colour, alpha = torch.rand(2, 3, height, width), torch.rand(2, 1, height, width)
    alpha = torch.where(torch.rand_like(alpha) < share, alpha, 0.0)
    alpha[..., : height // 2, : width // 2] = 0
    if peak > 1:
        colour, alpha = (colour * peak).round(), (alpha * peak).round()
    return colour.to(dtype), alpha.to(dtype), float(peak)


@pytest.mark.parametrize("band", [1, 2000])
@pytest.mark.parametrize("dtype", [torch.float32, torch.uint8, torch.uint16])
@pytest.mark.parametrize("share", [0.0, 0.02, 0.7])
@pytest.mark.parametrize("size", [(37, 50), (64, 64), (1, 9), (9, 1), (1, 1), (3, 200)])
def test_in_bands_it_is_the_whole(size, share, dtype, band, monkeypatch):
    monkeypatch.setattr(transparency, "_BAND", band)
    colour, alpha, peak = scene(size[0], size[1], dtype, share)
    before = colour.clone()
    found = fill_transparent(colour, alpha, peak=peak)
    assert found.dtype == dtype
    assert torch.equal(colour, before), "the picture is the caller's"
    expected = whole(colour.double() / peak, alpha.double() / peak) * peak
    assert (found.double() - expected).abs().max() <= (1e-5 if peak == 1 else 0.5 + 1e-6 * peak)
    visible = (alpha.double() > 0).expand(-1, 3, -1, -1)
    assert torch.equal(found.double()[visible], colour.double()[visible])


def test_what_is_all_visible_is_not_copied():
    colour = torch.rand(1, 3, 8, 8)
    assert fill_transparent(colour, torch.full((1, 1, 8, 8), 0.01)) is colour


def test_a_large_picture_takes_little_beside_the_result():
    """Of 8 bits: the copy (1 byte a value), a quarter as floats (1 byte), a third of it for the other levels, bands."""
    from torch.utils._python_dispatch import TorchDispatchMode

    class Largest(TorchDispatchMode):
        most = 0

        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            out = func(*args, **(kwargs or {}))
            if isinstance(out, Tensor) and out.is_floating_point():
                self.most = max(self.most, out.nbytes)
            return out

    picture = torch.from_numpy(np.zeros((1, 4, 2000, 3000), np.uint8))
    picture[..., 500:900, 700:2000] = 200
    with Largest() as seen:
        fill_transparent(picture[:, :3], picture[:, 3:], peak=255.0)
    assert seen.most <= 3 * 1000 * 1500 * 4

"""The output reduced again against Pillow's bicubic, at borders and in the middle, and its gradient."""

import numpy as np
import pytest
import torch
from PIL import Image

from sr_engine.config import registry
from sr_engine.losses.consistency import MARGIN
from sr_engine.losses.inputs import LossInputs


def pictures(scale=4, height=9, width=7, seed=0):
    """sr and lr as float32 (B, 3, H, W), unrelated."""
    generator = torch.Generator().manual_seed(seed)
    sr = torch.rand(2, 3, scale * height, scale * width, generator=generator)
    return sr, torch.rand(2, 3, height, width, generator=generator)


def pillow(sr, size):
    """Pillow's BICUBIC in mode F, plane by plane."""
    height, width = size
    planes = [
        np.asarray(Image.fromarray(p.numpy(), "F").resize((width, height), Image.Resampling.BICUBIC))
        for p in sr.flatten(0, 1)
    ]
    return torch.from_numpy(np.stack(planes)).view(*sr.shape[:2], height, width)


def loss(sr, lr, **arguments):
    return registry.build("loss", "consistency", **arguments)(LossInputs(sr, torch.zeros_like(sr), lr))


@pytest.mark.parametrize("scale", [2, 3, 4])
@pytest.mark.parametrize("criterion", ["l1", "l2"])
def test_value_is_the_distance_to_pillows_bicubic(scale, criterion):
    sr, lr = pictures(scale)
    inner = (pillow(sr, lr.shape[2:]) - lr)[..., MARGIN:-MARGIN, MARGIN:-MARGIN].double()
    expected = inner.abs().mean() if criterion == "l1" else inner.square().mean()
    assert loss(sr, lr, criterion=criterion).item() == pytest.approx(expected.item(), rel=1e-5)


def test_patches_cut_from_a_reduced_picture_fit_exactly():
    whole = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    low = pillow(whole, (16, 16))
    cut = loss(whole[..., 16:48, 12:48], low[..., 4:12, 3:12])
    assert cut.item() < 1e-6  # the outermost pixels, which see beyond the patch, differ by 0.01 and more
    assert (pillow(whole[..., 16:48, 12:48], (8, 9)) - low[..., 4:12, 3:12]).abs().max() > 1e-2


def test_a_picture_of_borders_alone_counts_as_a_whole():
    sr, lr = pictures(height=4, width=3)
    expected = (pillow(sr, (4, 3)) - lr).abs().mean()
    assert loss(sr, lr).item() == pytest.approx(expected.item(), rel=1e-5)


def test_gradcheck():
    sr, lr = (x[:1, :1].double() for x in pictures(scale=2, height=6, width=5))
    wide = registry.build("loss", "consistency", criterion="l2")

    def value(x):  # `distance` sums in fp32, which finite differences of 1e-2 of a square survive
        return wide(LossInputs(x, torch.zeros_like(x), lr))

    sr.requires_grad_()
    assert torch.autograd.gradcheck(value, (sr,), eps=1e-2, atol=1e-4, rtol=1e-2)


def test_detail_that_bicubic_removes_costs_nothing():
    """What a discriminator asks for may be added where reduction does not see it; a cast of colour is seen in full."""
    sr, _ = pictures()
    low = pillow(sr, (9, 7))
    checks = torch.tensor([[1.0, -1.0], [-1.0, 1.0]]).repeat(18, 14)
    assert loss(sr + 0.1 * checks, low).item() < 1e-4
    assert loss(sr + 0.1, low).item() == pytest.approx(0.1, rel=1e-4)

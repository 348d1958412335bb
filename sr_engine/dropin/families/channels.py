"""What the networks with attention between channels share when they are checked."""

import torch
from torch import Tensor

from sr_engine.dropin.checks import expect, expect_heads

# Pictures of few pixels: cosines of random maps are of order pixels ** -0.5.
TRIAL_SIZES = [(6, 9), (7, 5)]


def expect_channels(dim: int, heads: int, temperature: Tensor) -> None:
    """The channels divide into heads that a kernel can hold, and each head has one temperature."""
    expect_heads(dim, heads)
    shape = tuple(temperature.shape)
    expect(shape == (heads, 1, 1), f"its temperature has the shape {shape}, not one number for each of {heads} heads")


def sharpen_cosines(temperature: Tensor) -> None:
    """Make the logits of `TRIAL_SIZES` of order 5."""
    with torch.no_grad():
        temperature.uniform_(25, 50)

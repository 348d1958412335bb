"""sRGB values as displayed and the light they stand for.

IEC 61966-2-1: a straight line near black, a power of 2.4 above. Means of pixels, and so all resampling, are physically
those of light: a checkerboard of black and white is as bright as a grey of 188, not of 128.
"""

import torch
from torch import Tensor


def to_linear(x: Tensor) -> Tensor:
    """Display values 0..1 as linear light 0..1, of any float dtype; what lies outside is clipped, NaN stays."""
    x = x.clamp(0, 1)
    return torch.where(x <= 0.04045, x / 12.92, ((x + 0.055) / 1.055) ** 2.4)


def to_display(x: Tensor) -> Tensor:
    """Linear light 0..1 as display values 0..1, the inverse of `to_linear`; what lies outside is clipped, NaN stays."""
    x = x.clamp(0, 1)
    return torch.where(x <= 0.0031308, 12.92 * x, 1.055 * x ** (1 / 2.4) - 0.055)

"""The classical degradation of the super-resolution literature: antialiased bicubic reduction, rounded to 8 bits.

Pillow's BICUBIC (Keys, a = -0.5, support widened by the factor) scores within 0.01 dB of MATLAB's `imresize`; they
differ at the border, where Pillow renormalises and MATLAB mirrors.
"""

from typing import ClassVar, Literal

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from PIL import Image as Pillow

from sr_engine.data.degradation import Pixels, cut_with_margin
from sr_engine.data.images import to_uint8

# Low-resolution pixels around a patch that its own bicubic reduction can see: the filter reaches 2 * scale pixels.
MARGIN = 2


class Bicubic:
    """The degradation `bicubic`; see `Degradation`."""

    type: Literal["bicubic"] = "bicubic"
    drawn: ClassVar[bool] = False
    slow: ClassVar[bool] = False

    def whole(self, hr: Pixels, scale: int, rng: Generator) -> Pixels:  # noqa: ARG002
        return bicubic_down(hr, scale)

    def patch(self, hr: Pixels, top: int, left: int, size: int, scale: int, rng: Generator) -> Pixels:  # noqa: ARG002
        return cut_with_margin(lambda region: bicubic_down(region, scale), hr, top, left, size, scale, MARGIN)


def mod_crop(pixels: NDArray, scale: int) -> NDArray:
    """(H, W, C) cut at the bottom and right to multiples of `scale`."""
    height, width = pixels.shape[:2]
    return pixels[: height - height % scale, : width - width % scale]


def bicubic_down(hr: NDArray, scale: int) -> NDArray[np.uint8]:
    """(H, W, C) uint8 (uint16 is rounded to it first) reduced to (H // scale, W // scale, C) uint8.

    Rows and columns beyond a multiple of `scale` are dropped first. C is 1 or 3; scale 1 returns the picture.
    """
    hr = mod_crop(to_uint8(hr), scale)
    if scale == 1:
        return hr
    grey = hr.shape[2] == 1
    picture = Pillow.fromarray(hr[:, :, 0] if grey else np.ascontiguousarray(hr))
    small = np.asarray(picture.resize((hr.shape[1] // scale, hr.shape[0] // scale), Pillow.Resampling.BICUBIC))
    return small[:, :, None] if grey else small

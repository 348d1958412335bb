"""Self-ensemble: a network's mean over the eight flips and turns of a picture.

Lim et al. 2017, "Enhanced Deep Residual Networks for Single Image Super-Resolution", section 3.4 (EDSR+).
"""

from itertools import product
from typing import NamedTuple

import torch
from torch import Tensor


class Region(NamedTuple):
    """Part of a picture, in pixels."""

    top: int
    left: int
    bottom: int
    right: int

    @property
    def size(self) -> tuple[int, int]:
        return self.bottom - self.top, self.right - self.left

    def of(self, x: Tensor) -> Tensor:
        """These pixels of (..., H, W), a view."""
        return x[..., self.top : self.bottom, self.left : self.right]


class Turn(NamedTuple):
    """One of the eight: flipped upside down, flipped left to right, then rows and columns exchanged."""

    down: bool = False
    right: bool = False
    exchanged: bool = False

    def __call__(self, x: Tensor) -> Tensor:
        x = self._flipped(x)
        return x.mT if self.exchanged else x

    def back(self, x: Tensor) -> Tensor:
        """The inverse."""
        return self._flipped(x.mT if self.exchanged else x)

    def needed(self, region: Region, size: tuple[int, int], multiple: int) -> Region:
        """`region` of a picture of this size, made larger below and to the right until it begins at multiples of
        `multiple` in the turned picture too, so that windows lie there as in the whole turned picture."""
        bottom = _ending(region.bottom, size[0], multiple) if self.down else region.bottom
        right = _ending(region.right, size[1], multiple) if self.right else region.right
        return region._replace(bottom=bottom, right=right)

    def place(self, region: Region, size: tuple[int, int]) -> tuple[int, int]:
        """Where `region` begins in the turned picture: (top, left)."""
        top = size[0] - region.bottom if self.down else region.top
        left = size[1] - region.right if self.right else region.left
        return (left, top) if self.exchanged else (top, left)

    def _flipped(self, x: Tensor) -> Tensor:
        axes = [-2] * self.down + [-1] * self.right
        if x.dtype == torch.uint16:  # which torch doesn't flip
            return x.view(torch.int16).flip(axes).view(torch.uint16) if axes else x
        return x.flip(axes) if axes else x


AS_IT_IS = Turn()
ALL_TURNS = tuple(Turn(*flags) for flags in product((False, True), repeat=3))


def _ending(end: int, length: int, multiple: int) -> int:
    return length - (length - end) // multiple * multiple

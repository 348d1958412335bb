"""Where training patches are cut, for any range of samples at once: numbers from (seed, sample number) alone.

The same draw serves the streaming loader, one sample at a time, and the in-memory one, thousands at a time: the
counter of the generator is the number of the sample, so both get the same patches whatever is asked for together.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.random import Generator, Philox
from numpy.typing import NDArray

from sr_engine.data.detail import grid_step

Int64 = NDArray[np.int64]

# Philox makes four numbers at each count of its counter.
_COUNTS_PER_SAMPLE = 2
# Keeps these draws apart from those of one sample's own generator, whose counter starts at 0 (`TrainStream`).
_DOMAIN = 1


class Place(NamedTuple):
    """Number of a picture, HR row and column of a patch's corner, and one of the 8 symmetries of the square."""

    picture: int
    top: int
    left: int
    turn: int


class Places(NamedTuple):
    """`Place`s as columns, (n,) each."""

    picture: Int64
    top: Int64
    left: Int64
    turn: Int64

    def first(self) -> Place:
        """The first of them."""
        return Place(int(self.picture[0]), int(self.top[0]), int(self.left[0]), int(self.turn[0]))


class PlaceDraw:
    """Random places of patches in pictures whose detail is known.

    A share `hard` of the patches has a chance that grows with `detail`; the others are equally likely everywhere.

    Args:
        areas: relative chance of each picture as a whole.
        sizes: HR height and width of each picture, not below `scale * patch_size`.
        details: of each picture, from `patch_detail`; used only if `hard` > 0.
        aligned: for each picture, whether corners are multiples of `scale` (ready-made LR), else any pixel.
    """

    def __init__(
        self,
        *,
        areas: NDArray[np.float64],
        sizes: Sequence[tuple[int, int]],
        details: Sequence[NDArray[np.float32]],
        aligned: Sequence[bool],
        hard: float,
        augment: bool,
        scale: int,
        patch_size: int,
        seed: int,
    ) -> None:
        self.hard, self.augment, self.scale, self.seed = hard, augment, scale, seed
        self.last = np.array(sizes, np.int64) - scale * patch_size
        self.step = grid_step(patch_size) * scale
        self.aligned = np.array(aligned, bool)
        self.by_area = cumulative(areas)
        if hard > 0:
            self.columns = np.array([detail.shape[1] for detail in details], np.int64)
            self.first_cell = np.concatenate([[0], np.cumsum([detail.size for detail in details])[:-1]])
            cells = [area * d.ravel() / d.size for area, d in zip(areas, details, strict=True)]
            self.by_detail = cumulative(np.concatenate(cells))

    def align(self) -> None:
        """From now on corners are multiples of `scale` in all pictures."""
        self.aligned[:] = True

    def __call__(self, first: int, count: int) -> Places:
        """Places of the samples `first`, `first + 1`, ..., `count` of them."""
        u = _uniform(self.seed, first, count)
        picture = np.searchsorted(self.by_area, u[1], side="right")
        last = self.last[picture]
        top, left = (u[2] * (last[:, 0] + 1)).astype(np.int64), (u[3] * (last[:, 1] + 1)).astype(np.int64)
        if self.hard > 0:
            hard = u[0] < self.hard
            cell = np.searchsorted(self.by_detail, u[1], side="right")
            owner = np.searchsorted(self.first_cell, cell, side="right") - 1
            row, column = np.divmod(cell - self.first_cell[owner], self.columns[owner])
            last = self.last[owner]
            picture = np.where(hard, owner, picture)
            # The grid ends before the last rows and columns do: its cells reach to the next line, or to the border.
            top = np.where(hard, np.minimum(row * self.step + (u[2] * self.step).astype(np.int64), last[:, 0]), top)
            left = np.where(
                hard, np.minimum(column * self.step + (u[3] * self.step).astype(np.int64), last[:, 1]), left
            )
        aligned = self.aligned[picture]
        top = np.where(aligned, top // self.scale * self.scale, top)
        left = np.where(aligned, left // self.scale * self.scale, left)
        turn = (u[4] * 8).astype(np.int64) if self.augment else np.zeros(count, np.int64)
        return Places(picture, top, left, turn)


def cumulative(weights: NDArray) -> NDArray[np.float64]:
    """Cumulative chances; the last is exactly 1, so that a draw in [0, 1) always finds an entry."""
    total = np.cumsum(weights, dtype=np.float64)
    total /= total[-1]
    total[-1] = 1.0
    return total


def _uniform(seed: int, first: int, count: int) -> NDArray[np.float64]:
    """(8, count) numbers in [0, 1): column k belongs to sample `first + k`."""
    counter = np.array([_COUNTS_PER_SAMPLE * first, 0, 0, _DOMAIN], np.uint64)
    generator = Generator(Philox(key=np.array([seed, 0], np.uint64), counter=counter))
    return generator.random((count, 4 * _COUNTS_PER_SAMPLE)).T

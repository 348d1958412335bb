"""Training samples by number: sample i is determined by (seed, i) and the data set, by nothing else.

So a batch does not depend on how many workers prepare it, on which process of several asks, or on a resume.
"""

import logging
import os
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
from numpy.random import Generator, Philox
from numpy.typing import NDArray

from sr_engine.data.build import PictureSet
from sr_engine.data.detail import grid_step, patch_detail
from sr_engine.data.pictures import check_size
from sr_engine.data.places import Place, PlaceDraw, cumulative
from sr_engine.errors import DataError, ImageFileError

log = logging.getLogger(__name__)

_TRIES = 50
_REDRAW = 2**48  # beyond the number of any sample: where another place is drawn for one that cannot be read


class Sample(NamedTuple):
    """lr (3, p, p) and hr (3, p*scale, p*scale); the name of the picture."""

    lr: NDArray[np.uint8]
    hr: NDArray[np.uint8]
    name: str


class TrainStream:
    """An endless, indexable sequence of training samples.

    Args:
        dataset: from `build_dataset(..., role="train")` with the same scale and patch size.
        scale: enlargement, 1 to 4.
        patch_size: side of the LR patch.
        seed: of crops, augmentation and degradation.

    Attributes:
        draw: places of the samples by number, for a set whose pictures are all decoded; else None.
        skipped: reasons by file name, of pictures that could not be decoded.

    Raises:
        DataError: a picture is smaller than a patch.
    """

    def __init__(self, dataset: PictureSet, *, scale: int, patch_size: int, seed: int) -> None:
        self.dataset, self.scale, self.patch_size, self.seed = dataset, scale, patch_size, seed
        self.skipped: dict[str, str] = {}
        side = scale * patch_size
        for picture, (height, width) in zip(dataset.pictures, dataset.sizes, strict=True):
            if min(height, width) < side:
                raise DataError(f"{picture.hr}: is {width}x{height}, expected at least {side}x{side} for a patch.")
        self._detail: dict[int, NDArray[np.float32]] = {}
        entries = zip(dataset.pictures, dataset.sizes, strict=True)
        self._area = np.array([picture.weight * height * width for picture, (height, width) in entries])
        self._by_area = cumulative(self._area)
        # Sets that do not fit into memory are not decoded beforehand: only their patches are weighed, not the pictures.
        self.draw = self._draw_of_all() if dataset.complete else None

    def _draw_of_all(self) -> PlaceDraw:
        dataset = self.dataset
        weighed = range(len(dataset)) if dataset.hard_sampling > 0 else ()
        with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
            details = list(pool.map(self._detail_of, weighed))
        return PlaceDraw(
            areas=self._area,
            sizes=dataset.sizes,
            details=details,
            aligned=[picture.lr is not None for picture in dataset.pictures],
            hard=dataset.hard_sampling,
            augment=dataset.augment,
            scale=self.scale,
            patch_size=self.patch_size,
            seed=self.seed,
        )

    def __getitem__(self, index: int) -> Sample:
        """Sample `index` >= 0.

        Raises:
            ImageFileError: the picture drawn cannot be decoded. With `on_bad_file: skip` another one is drawn and the
                reason is kept in `skipped`, by file name.
        """
        rng = Generator(Philox(key=np.array([self.seed, index], np.uint64)))
        for attempt in range(_TRIES):
            known = None if self.draw is None else self.draw(index + attempt * _REDRAW, 1).first()
            chosen = known.picture if known else int(np.searchsorted(self._by_area, rng.random(), side="right"))
            try:
                return self._sample(known or self._place_in(chosen, rng), rng)
            except ImageFileError as error:
                if self.dataset.on_bad_file == "error":
                    raise
                name = str(self.dataset.pictures[chosen].hr)
                if name not in self.skipped:
                    self.skipped[name] = str(error)
        raise DataError(f"{_TRIES} pictures in a row cannot be decoded, the last: {next(reversed(self.skipped))}.")

    def _sample(self, place: Place, rng: Generator) -> Sample:
        picture = self.dataset.pictures[place.picture]
        pixels = self.dataset.cache.get(picture)
        check_size(picture, pixels, self.dataset.sizes[place.picture], self.scale)
        scale, size, side = self.scale, self.patch_size, self.patch_size * self.scale
        _, top, left, turn = place
        if pixels.lr is not None:
            low = pixels.lr[top // scale :, left // scale :][:size, :size]
        else:
            low = self.dataset.degradation.patch(pixels.hr, top, left, size, scale, rng)
        high = pixels.hr[top : top + side, left : left + side]
        return Sample(_channels_first(low, turn), _channels_first(high, turn), picture.name)

    def _place_in(self, chosen: int, rng: Generator) -> Place:
        """A place in a picture whose detail is measured when it is first drawn."""
        size, scale = self.patch_size, self.scale
        last = [n - size * scale for n in self.dataset.sizes[chosen]]
        if rng.random() < self.dataset.hard_sampling:
            detail = self._detail_of(chosen)
            cell = int(np.searchsorted(cumulative(detail.ravel()), rng.random(), side="right"))
            step = grid_step(size) * scale
            corner = [k * step + int(rng.integers(step)) for k in divmod(cell, detail.shape[1])]
            corner = [min(start, end) for start, end in zip(corner, last, strict=True)]
        else:
            corner = [int(rng.integers(end + 1)) for end in last]
        if self.dataset.pictures[chosen].lr is not None:
            corner = [start // scale * scale for start in corner]
        return Place(chosen, corner[0], corner[1], int(rng.integers(8)) if self.dataset.augment else 0)

    def _detail_of(self, chosen: int) -> NDArray[np.float32]:
        if chosen not in self._detail:
            picture = self.dataset.pictures[chosen]
            pixels = self.dataset.cache.get(picture)
            check_size(picture, pixels, self.dataset.sizes[chosen], self.scale)
            self._detail[chosen] = patch_detail(pixels.hr, self.scale, self.patch_size)
        return self._detail[chosen]


def _channels_first(pixels: NDArray[np.uint8], turn: int) -> NDArray[np.uint8]:
    """(H, W, 3) to (3, H, W), after one of the 8 symmetries of the square."""
    if turn & 1:
        pixels = pixels[::-1]
    if turn & 2:
        pixels = pixels[:, ::-1]
    return pixels.transpose(2, 1, 0) if turn & 4 else pixels.transpose(2, 0, 1)

"""Whole pictures with their low-resolution partners: for validation, evaluation and a look at the training data."""

from collections.abc import Sequence
from typing import NamedTuple, overload

import numpy as np
from numpy.typing import NDArray

from sr_engine.data.bicubic import mod_crop
from sr_engine.data.build import PictureSet
from sr_engine.data.spoil import seeded
from sr_engine.data.stream import TrainStream


class EvalPair(NamedTuple):
    """A name, lr (h, w, 3) and hr (h*scale, w*scale, 3), uint8."""

    name: str
    lr: NDArray[np.uint8]
    hr: NDArray[np.uint8]


class _Pairs(Sequence[EvalPair]):
    def __init__(self, dataset: PictureSet, scale: int) -> None:
        self.dataset, self.scale = dataset, scale

    def __len__(self) -> int:
        return len(self.dataset)

    @overload
    def __getitem__(self, index: int) -> EvalPair: ...
    @overload
    def __getitem__(self, index: slice) -> list[EvalPair]: ...
    def __getitem__(self, index: int | slice) -> EvalPair | list[EvalPair]:
        if isinstance(index, slice):
            return [self[k] for k in range(*index.indices(len(self)))]
        index = range(len(self))[index]
        picture = self.dataset.pictures[index]
        pixels = self.dataset.cache.get(picture)
        hr = mod_crop(pixels.hr, self.scale)
        if pixels.lr is not None:
            return EvalPair(picture.name, pixels.lr, hr)
        rng = seeded(picture.name)  # adding pictures to the set leaves the others as they were
        return EvalPair(picture.name, self.dataset.degradation.whole(hr, self.scale, rng), hr)


def validation_pairs(dataset: PictureSet, *, scale: int) -> Sequence[EvalPair]:
    """The pictures of `build_dataset(..., role="val")`, decoded when asked for, HR cut to a multiple of `scale`.

    Grey pictures are replicated to RGB. What a degradation draws depends on the name of the picture alone: a picture is
    degraded alike in every validation of every training.
    """
    return _Pairs(dataset, scale)


def preview_pairs(stream: TrainStream, n: int) -> list[EvalPair]:
    """The first `n` training samples of a stream, as pictures to look at."""
    return [
        EvalPair(sample.name, sample.lr.transpose(1, 2, 0), sample.hr.transpose(1, 2, 0))
        for sample in (stream[k] for k in range(n))
    ]

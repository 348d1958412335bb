"""Pictures for pruning: some to measure importance on, others to judge the result by."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sr_engine.data import EvalPair, build_dataset, validation_pairs
from sr_engine.errors import DataError

SIDE = 48  # of a crop in low-resolution pixels
BATCH = 8
CROPS = 96
_EVERY = 4  # one picture of so many is held out


class Pictures(NamedTuple):
    """measured: for importance. held_out: for nothing but judging; reduced with bicubic as `sr-engine eval` does."""

    measured: Sequence[EvalPair]
    held_out: Sequence[EvalPair]


def pictures(folder: str | Path | None, *, scale: int) -> Pictures:
    """Every fourth picture of a folder of high-resolution ones (at least one) held out, or the demo photographs.

    Raises:
        DataError: fewer than two pictures, or some that cannot be used; for None: scikit-image is not installed.
    """
    if folder is None:
        sets = [build_dataset(("demo", {}), scale=scale, role=role) for role in ("train", "val")]
        return Pictures(*(validation_pairs(found, scale=scale) for found in sets))
    found = validation_pairs(build_dataset(("folder", {"path": str(folder)}), scale=scale, role="val"), scale=scale)
    if len(found) < 2:
        raise DataError(f"{folder}: has one picture; expected at least two, since one is held out to judge the result.")
    held = range(min(_EVERY, len(found)) - 1, len(found), _EVERY)
    return Pictures([found[k] for k in range(len(found)) if k not in held], [found[k] for k in held])


def crops(pairs: Sequence[EvalPair], *, scale: int, count: int = CROPS) -> Iterator[tuple[Tensor, Tensor]]:
    """Batches of at most BATCH crops, equally many of every picture, on a regular grid: always the same.

    Yields (lr (B, 3, h, w), hr (B, 3, h * scale, w * scale)) in 0..1; h and w are at most SIDE, less where the smallest
    picture is smaller.
    """
    side = min(SIDE, *(min(pair.lr.shape[:2]) for pair in pairs))
    each = max(count // len(pairs), 1)
    cut = [crop for pair in pairs for crop in _of_picture(pair, side, scale, each)]
    for start in range(0, len(cut), BATCH):
        low, high = zip(*cut[start : start + BATCH], strict=True)
        yield torch.stack(low), torch.stack(high)


def _of_picture(pair: EvalPair, side: int, scale: int, count: int) -> Iterator[tuple[Tensor, Tensor]]:
    height, width = pair.lr.shape[:2]
    down = max(round((count * height / width) ** 0.5), 1)
    across = max(-(-count // down), 1)
    for place in range(count):
        top = _spread(place // across, down, height - side)
        left = _spread(place % across, across, width - side)
        low = pair.lr[top : top + side, left : left + side]
        high = pair.hr[top * scale : (top + side) * scale, left * scale : (left + side) * scale]
        yield _tensor(low), _tensor(high)


def _spread(index: int, count: int, room: int) -> int:
    """Place `index` of `count` over 0..room, both ends included."""
    return room // 2 if count == 1 else min(index, count - 1) * room // (count - 1)


def _tensor(pixels: NDArray[np.uint8]) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1))).float() / 255

"""A second picture for each training picture, such as what a teacher makes of it, and patches of it at the same places.

Places follow from the number of a batch alone, so patches are found for batches that any loader made.
"""

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sr_engine.data.loader import Batch
from sr_engine.data.memory import gather, home, starts, walk
from sr_engine.data.places import PlaceDraw, Places
from sr_engine.data.stream import TrainStream
from sr_engine.errors import DataError, TrainingError

_BLOCK = 64  # batches whose places are drawn and sent to the device together


class TargetMemory:
    """Enlargements of the LR pictures of a stream, and their patches.

    From now on patches of the stream begin at multiples of `scale`: only there a patch of the LR picture is one of the
    picture that was enlarged.

    Args:
        stream: of a set that is decoded as a whole.
        read: number of a picture -> (h * scale, w * scale, 3), uint8 or float16 in 0..1; all of one kind. h and w are
            the sides of the LR picture; called in threads.
        batch_size, rank, world_size: as for `train_loader`.
        device: where patches are wanted.

    Raises:
        DataError: the set is not decoded as a whole.
    """

    def __init__(
        self,
        stream: TrainStream,
        read: Callable[[int], NDArray],
        *,
        batch_size: int,
        rank: int,
        world_size: int,
        device: torch.device,
    ) -> None:
        self._draw = aligned_draw(stream)
        self._batch_size, self._rank, self._world_size, self.device = batch_size, rank, world_size, device
        self._side = stream.patch_size * stream.scale
        self._names = [picture.name for picture in stream.dataset.pictures]
        sizes = np.array(stream.dataset.sizes, np.int64) // stream.scale * stream.scale
        self._width, self._start = sizes[:, 1], starts(sizes.prod(1))
        first = read(0)
        pixels = np.empty((int(sizes.prod(1).sum()), 3), first.dtype)

        def fill(k: int) -> None:
            pixels[self._start[k] : self._start[k] + sizes[k].prod()] = read(k).reshape(-1, 3)

        with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
            list(pool.map(fill, range(len(sizes))))
        self.bytes = pixels.nbytes
        self._pixels = torch.from_numpy(pixels).to(home(device, self.bytes))
        self._block = -1
        self._tables: Sequence[Tensor] = ()
        self._pictures: list[list[int]] = []

    def cut(self, batch: Batch) -> Tensor:
        """The patches that belong to those of a batch: (B, 3, p*scale, p*scale) on the device, float32, channels_last.

        Raises:
            TrainingError: the batch holds patches of other pictures than its number says.
        """
        block, row = divmod(batch.index, _BLOCK)
        if block != self._block:
            self._load(block)
        if [self._names[k] for k in self._pictures[row]] != batch.names:
            raise TrainingError(f"batch {batch.index} holds other pictures than were drawn: a picture has disappeared.")
        patches = gather(self._pixels, self._tables[row], self._side).to(self.device, non_blocking=True)
        patches = patches.permute(0, 3, 1, 2)
        return patches.div(255.0) if patches.dtype == torch.uint8 else patches.float()

    def _load(self, block: int) -> None:
        """Find the patches of `_BLOCK` batches."""
        size, ranks = self._batch_size, self._world_size
        drawn = self._draw(block * _BLOCK * ranks * size, _BLOCK * ranks * size)
        places = Places(*(column.reshape(-1, ranks, size)[:, self._rank].ravel() for column in drawn))
        columns = walk(
            self._start[places.picture], self._width[places.picture], places.top, places.left, places.turn, self._side
        )
        table = torch.from_numpy(np.stack(columns, axis=1).astype(np.int64)).to(self._pixels.device)
        self._block, self._tables = block, table.split(size)
        self._pictures = places.picture.reshape(-1, size).tolist()


def aligned_draw(stream: TrainStream) -> PlaceDraw:
    """The places of a stream, all of which are at multiples of its scale from now on.

    Raises:
        DataError: the set is not decoded as a whole.
    """
    if stream.draw is None:
        raise DataError(
            "the training pictures do not fit into memory, as patches of ready-made targets (distill.cache) need: "
            "raise cache_mb of the data set, or set distill.cache: null."
        )
    stream.draw.align()
    return stream.draw

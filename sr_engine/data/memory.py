"""All training pictures as bytes on the training device, and batches cut there: nothing is prepared elsewhere.

The LR patch is a crop of the reduced picture. A crop may begin at any HR pixel, and pictures that begin at different
pixels of a block of scale x scale reduce to different ones, so each picture is reduced scale^2 times, once at each
phase: together as many bytes as the original has. A ready-made LR has one phase.
"""

import logging
import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sr_engine.data.bicubic import bicubic_down
from sr_engine.data.build import PictureSet
from sr_engine.data.places import Places

log = logging.getLogger(__name__)

# Of a GPU's free memory that pictures may take; the rest is for the training.
_SHARE_OF_GPU = 0.5


class PatchMemory:
    """The pictures of a set and their reductions, decoded.

    Args:
        dataset: from `build_dataset(..., role="train")`, complete, with bicubic degradation or ready-made LR.
        scale: enlargement, 1 to 4.
        patch_size: side of an LR patch.
        device: where the patches are wanted. The bytes lie there too, unless they need more than half of a GPU's free
            memory: then they lie in main memory, and patches travel as bytes.
    """

    def __init__(self, dataset: PictureSet, *, scale: int, patch_size: int, device: torch.device) -> None:
        self.scale, self.patch_size, self.device = scale, patch_size, device
        sizes = np.array(dataset.sizes, np.int64)
        self._hr_width = sizes[:, 1]
        phases = np.stack(np.divmod(np.arange(scale**2), scale), axis=1)
        lr_sizes = (sizes[:, None, :] - phases) // scale  # (pictures, phases, 2)
        self._lr_width = lr_sizes[:, :, 1]
        lr_counts = lr_sizes.prod(2)
        lr_counts[[picture.lr is not None for picture in dataset.pictures], 1:] = 0  # corners at whole LR pixels alone
        self._hr_start = starts(sizes.prod(1))
        self._lr_start = starts(lr_counts.ravel()).reshape(-1, scale**2)
        hr = np.empty((int(sizes.prod(1).sum()), 3), np.uint8)
        lr = np.empty((int(lr_counts.sum()), 3), np.uint8)

        def fill(k: int) -> None:
            pixels = dataset.cache.get(dataset.pictures[k])
            _put(hr, self._hr_start[k], pixels.hr)
            if pixels.lr is not None:
                _put(lr, self._lr_start[k, 0], pixels.lr)
                return
            for phase, (down, right) in enumerate(phases):
                _put(lr, self._lr_start[k, phase], bicubic_down(pixels.hr[down:, right:], scale))

        with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
            list(pool.map(fill, range(len(dataset))))
        self.bytes = hr.nbytes + lr.nbytes
        place = home(device, self.bytes)
        self._hr, self._lr = torch.from_numpy(hr).to(place), torch.from_numpy(lr).to(place)
        log.info("%d training pictures take %.0f MiB of memory (%s)", len(dataset), self.bytes / 2**20, place)

    def table(self, places: Places) -> Tensor:
        """(n, 6) integers where `cut` finds n patches: the first pixel and its distance to the next row and column, of
        the LR patch and of the HR patch."""
        phase = places.top % self.scale * self.scale + places.left % self.scale
        lr = walk(
            self._lr_start[places.picture, phase],
            self._lr_width[places.picture, phase],
            places.top // self.scale,
            places.left // self.scale,
            places.turn,
            self.patch_size,
        )
        hr = walk(
            self._hr_start[places.picture],
            self._hr_width[places.picture],
            places.top,
            places.left,
            places.turn,
            self.patch_size * self.scale,
        )
        fits = max(len(self._hr), len(self._lr)) < 2**31
        table = torch.from_numpy(np.stack([*lr, *hr], axis=1).astype(np.int32 if fits else np.int64))
        if self._hr.device.type == "cuda":
            return table.pin_memory().to(self._hr.device, non_blocking=True)
        return table

    def cut(self, table: Tensor) -> tuple[Tensor, Tensor]:
        """The patches of rows of a `table`: lr (n, 3, p, p) and hr (n, 3, p*scale, p*scale) on the device, float32 in
        [0, 1], channels_last."""
        lr = gather(self._lr, table[:, :3], self.patch_size)
        hr = gather(self._hr, table[:, 3:], self.patch_size * self.scale)
        return self._as_float(lr), self._as_float(hr)

    def _as_float(self, patches: Tensor) -> Tensor:
        if self.device.type == "cuda" and patches.device.type == "cpu":
            patches = patches.pin_memory()  # from other memory the host waits for the copy
        return patches.to(self.device, non_blocking=True).permute(0, 3, 1, 2).div(255.0)  # bytes to floats in one pass


def gather(pixels: Tensor, table: Tensor, side: int) -> Tensor:
    """(n, side, side, 3) from (pixels, 3): the patches of rows (first pixel, step down, step right) of a table."""
    first, down, right = table.unsqueeze(-1).unbind(1)  # (n, 1) each
    along = torch.arange(side, device=pixels.device, dtype=table.dtype)
    rows = first + down * along
    index = rows.unsqueeze(2) + (right * along).unsqueeze(1)
    return pixels.index_select(0, index.flatten()).view(*index.shape, 3)


def walk(
    start: NDArray, width: NDArray, top: NDArray, left: NDArray, turn: NDArray, side: int
) -> tuple[NDArray, NDArray, NDArray]:
    """First pixel of turned square patches, and the steps to their next row and column."""
    up, back, swapped = turn & 1, turn >> 1 & 1, turn & 4
    down = np.where(up, -width, width)
    right = np.where(back, -1, 1)
    first = start + (top + up * (side - 1)) * width + left + back * (side - 1)
    return first, np.where(swapped, right, down), np.where(swapped, down, right)


def starts(counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """Where parts of these lengths begin when they lie one after the other."""
    return np.concatenate([[0], np.cumsum(counts)[:-1]])


def _put(flat: NDArray[np.uint8], start: int, picture: NDArray[np.uint8]) -> None:
    flat[start : start + picture.shape[0] * picture.shape[1]] = picture.reshape(-1, 3)


def home(device: torch.device, count: int) -> torch.device:
    """Where `count` bytes that are wanted on `device` shall lie: there, or in main memory if they are too many."""
    if device.type == "cuda" and count > _SHARE_OF_GPU * torch.cuda.mem_get_info(device)[0]:
        log.warning("the training pictures need %.0f MiB, too much for %s: kept in main memory", count / 2**20, device)
        return torch.device("cpu")
    return device

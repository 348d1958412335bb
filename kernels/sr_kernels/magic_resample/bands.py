"""One axis of a resize as blocks of a banded matrix, ready to multiply with."""

from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from sr_kernels.magic_resample.filters import axis_weights


class Map(NamedTuple):
    """The linear map of a resize from `source` to `target` (height, width), or its transpose."""

    kernel: str
    source: tuple[int, int]
    target: tuple[int, int]
    transposed: bool = False

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of what comes out."""
        return self.source if self.transposed else self.target


class Block(NamedTuple):
    """Part of one axis' map: out[rows] = weights @ x[window]."""

    rows: slice
    window: slice
    weights: Tensor


def axis_blocks(
    m: Map, axis: int, length: int, dtype: torch.dtype, device: torch.device, interleaved: int = 1
) -> tuple[Block, ...]:
    """The map along `axis` (0 rows, 1 columns) in blocks of `length` outputs.

    With `interleaved` = c every entry becomes c x c times the identity, for rows of c channels side by side.
    """
    return _axis_blocks(m.kernel, m.source[axis], m.target[axis], m.transposed, length, dtype, device, interleaved)


@lru_cache(maxsize=128)
def _axis_blocks(
    kernel: str,
    n_in: int,
    n_out: int,
    transposed: bool,
    length: int,
    dtype: torch.dtype,
    device: torch.device,
    interleaved: int,
) -> tuple[Block, ...]:
    start, weights = axis_weights(kernel, n_in, n_out)
    taps = weights.shape[1]
    blocks = []
    for low in range(0, n_in if transposed else n_out, length):
        high = min(low + length, n_in if transposed else n_out)
        if transposed:
            # Outputs that read any of the inputs low..high; starts never decrease.
            first, last = np.searchsorted(start, low - taps, "right"), np.searchsorted(start, high, "left")
            window = slice(int(first), int(last))
            dense = _dense(start[window], weights[window], low, high).T
        else:
            window = slice(int(start[low]), int(start[high - 1]) + taps)
            dense = _dense(start[low:high], weights[low:high], window.start, window.stop)
        dense = np.kron(dense, np.eye(interleaved))
        with torch.inference_mode(False):  # the cache outlives the caller's mode
            matrix = torch.from_numpy(np.ascontiguousarray(dense)).to(device, dtype)
        blocks.append(Block(_times(slice(low, high), interleaved), _times(window, interleaved), matrix))
    return tuple(blocks)


def _dense(start: np.ndarray, weights: np.ndarray, low: int, high: int) -> np.ndarray:
    """Rows of the band over the columns low..high."""
    taps = weights.shape[1]
    dense = np.zeros((len(start), high - low + 2 * taps))
    columns = start[:, None] + np.arange(taps) - low + taps
    np.put_along_axis(dense, columns, weights, axis=1)
    return dense[:, taps : taps + high - low]


def _times(s: slice, factor: int) -> slice:
    return slice(s.start * factor, s.stop * factor)

"""One axis of a resize as blocks of a banded matrix, ready to multiply with."""

import math
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from sr_kernels.magic_resample.filters import axis_weights
from sr_kernels.magic_resample.recent import recent

# Outputs of one block, where an axis grows and where it shrinks.
GROWING, SHRINKING = 32, 16


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


class Run(NamedTuple):
    """Blocks of one axis' map in a row, whose windows are equally long and equally far apart.

    Block b makes the outputs rows.start + b * length + (0 .. length) as weights[b] @ x[window.start + b * step :].
    """

    rows: slice
    window: slice
    step: int
    weights: Tensor  # [blocks, length, window]


Stripe = tuple[Run, ...]


def block_length(n: int, n_out: int) -> int:
    """How many outputs one block should make.

    Longer blocks multiply with more zeros, and more so where the axis shrinks. A whole number of periods of the phases
    makes all blocks alike, so that they form one run.
    """
    length = GROWING if n_out >= n else SHRINKING
    period = n_out // math.gcd(n, n_out)
    return period * round(length / period) if period <= length else length


def _bytes(stripes: tuple[Stripe, ...]) -> int:
    return sum(run.weights.nbytes for stripe in stripes for run in stripe)


@recent(size=_bytes, most=64 * 2**20)
def axis_stripes(
    kernel: str,
    n_in: int,
    n_out: int,
    transposed: bool,
    length: int,
    blocks: int,
    interleaved: int,
    dtype: torch.dtype,
    device: torch.device,
) -> tuple[Stripe, ...]:
    """The map of one axis in blocks of `length` outputs, so many `blocks` a stripe.

    With `interleaved` = c every weight becomes c x c times the identity, for lines of c channels side by side.
    """
    start, weights = axis_weights(kernel, n_in, n_out)
    taps = weights.shape[1]
    n = n_in if transposed else n_out
    parts = []
    for low in range(0, n, length):
        high = min(low + length, n)
        if transposed:
            # Outputs that read any of the inputs low..high; starts never decrease.
            first, last = np.searchsorted(start, low - taps, "right"), np.searchsorted(start, high, "left")
            window = slice(int(first), int(last))
            dense = _dense(start[window], weights[window], low, high).T
        else:
            window = slice(int(start[low]), int(start[high - 1]) + taps)
            dense = _dense(start[low:high], weights[low:high], window.start, window.stop)
        parts.append((low * interleaved, window.start * interleaved, np.kron(dense, np.eye(interleaved))))
    return tuple(_runs(parts[i : i + blocks], dtype, device) for i in range(0, len(parts), blocks))


def _runs(parts: list[tuple[int, int, np.ndarray]], dtype: torch.dtype, device: torch.device) -> Stripe:
    """Neighbours of one shape and one distance together; parts are (first row, first of the window, weights)."""
    groups = [[parts[0]]]
    for part in parts[1:]:
        group = groups[-1]
        same_shape = part[2].shape == group[-1][2].shape
        same_step = len(group) == 1 or part[1] - group[-1][1] == group[1][1] - group[0][1]
        if same_shape and same_step:
            group.append(part)
        else:
            groups.append([part])
    return tuple(_run(group, dtype, device) for group in groups)


def _run(group: list[tuple[int, int, np.ndarray]], dtype: torch.dtype, device: torch.device) -> Run:
    (row, low, _), (last_row, last_low, last) = group[0], group[-1]
    step = group[1][1] - low if len(group) > 1 else 0
    with torch.inference_mode(False):  # the cache outlives the caller's mode
        weights = torch.from_numpy(np.stack([dense for _, _, dense in group])).to(device, dtype)
    return Run(slice(row, last_row + len(last)), slice(low, last_low + last.shape[1]), step, weights)


def _dense(start: np.ndarray, weights: np.ndarray, low: int, high: int) -> np.ndarray:
    """Rows of the band over the columns low..high."""
    taps = weights.shape[1]
    dense = np.zeros((len(start), high - low + 2 * taps))
    columns = start[:, None] + np.arange(taps) - low + taps
    np.put_along_axis(dense, columns, weights, axis=1)
    return dense[:, taps : taps + high - low]

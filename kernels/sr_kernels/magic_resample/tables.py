"""What the Triton kernels read of a filter: bands of one axis, the phases of an integer upscale, norms at the edges."""

from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from sr_kernels.magic_resample.filters import FILTERS, Array, axis_weights, phase_weights

# Weights below this come from rounding where a filter is zero; those that count are above 1e-8.
ZERO = 1e-12


class Band(NamedTuple):
    """One axis: out[o] = sum_t weights[t, o] * x[start[o] + t]; no tap lies outside the picture."""

    start: Tensor  # int32 [n_out]
    weights: Tensor  # float32 [taps, n_out]

    @property
    def taps(self) -> int:
        return self.weights.shape[0]


@lru_cache(maxsize=128)
def band(kernel: str, n_in: int, n_out: int, transposed: bool, device: torch.device) -> Band:
    """The resize of one axis from n_in to n_out, or its transpose (n_out to n_in), in the fewest taps."""
    start, weights = axis_weights(kernel, n_in, n_out)
    targets, taps = np.nonzero(np.abs(weights) > ZERO)
    values, sources = weights[targets, taps], start[targets] + taps
    if transposed:
        return _on(device, *_packed(sources, targets, values, n_in, n_out))
    return _on(device, *_packed(targets, sources, values, n_out, n_in))


def _packed(rows: Array, columns: Array, values: Array, n_rows: int, n_columns: int) -> tuple[Array, Array]:
    """The entries of a banded matrix as the first column of each row's window, and windows [taps, n_rows]."""
    low, high = np.full(n_rows, n_columns), np.zeros(n_rows, dtype=np.int64)
    np.minimum.at(low, rows, columns)
    np.maximum.at(high, rows, columns)
    taps = int((high - low).max()) + 1
    start = np.clip(low, 0, n_columns - taps)
    windows = np.zeros((taps, n_rows))
    windows[columns - start[rows], rows] = values
    return start.astype(np.int32), windows.astype(np.float32)


def _on(device: torch.device, start: Array, windows: Array) -> Band:
    with torch.inference_mode(False):  # the cache outlives the caller's mode
        return Band(torch.from_numpy(start).to(device), torch.from_numpy(windows).to(device))


@lru_cache(maxsize=128)
def phases(kernel: str, scale: int) -> tuple[tuple[float, ...], ...]:
    """Weights of an integer upscale away from the edges: of each phase 2r + 1, over x[i-r .. i+r], their sum 1."""
    if scale == 1:
        return ((1.0,),)
    weights = phase_weights(kernel, scale)
    weights = np.where(np.abs(weights) > ZERO, weights, 0.0)
    return tuple(tuple(row) for row in (weights / weights.sum(1, keepdims=True)).tolist())


@lru_cache(maxsize=128)
def stages(kernel: str, scale: int) -> tuple[tuple[float, ...], tuple[tuple[float, ...], ...]]:
    """The same `phases` as sharpening taps on the grid of the picture, and the phases of the base function after them.

    Fewer products than in one where several outputs share the sharpening, and the same result: what lies outside the
    picture is zero for the first stage, and its results are kept there for the second.
    """
    sharpening = FILTERS[kernel].sharpening
    if scale == 1 or len(sharpening) == 1:
        return (1.0,), phases(kernel, scale)
    return sharpening, phases("magic", scale)


@lru_cache(maxsize=128)
def norms(kernel: str, n: int, scale: int, device: torch.device) -> Tensor:
    """float32 [n * scale]: what the `phases` of each output are multiplied with, because taps outside are dropped."""
    weights = np.array(phases(kernel, scale))
    radius = weights.shape[1] // 2
    source = np.arange(n)[:, None] + np.arange(-radius, radius + 1)
    inside = ((source >= 0) & (source < n)).astype(np.float64)
    with torch.inference_mode(False):
        return torch.from_numpy((1 / (inside @ weights.T)).astype(np.float32).reshape(-1)).to(device)

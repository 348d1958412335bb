"""The kernels as numbers: base functions, sharpening taps and the weights of one axis, in float64.

A filter is k(x) = sum_j s_j b(x - j): a base function b and symmetric sharpening taps s at the spacing of the smaller
image. For the Magic Kernel family b is the quadratic B-spline m and s comes from J. Costella's Magic Kernel Sharp
(johncostella.com/magic); each longer s is one more Newton step towards the inverse of m's samples, which is the
prefilter of B-spline interpolation.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

Array = np.ndarray


def _magic(x: Array) -> Array:
    """Quadratic B-spline on (-1.5, 1.5)."""
    x = np.abs(x)
    return np.where(x <= 0.5, 0.75 - x * x, np.where(x < 1.5, 0.5 * (x - 1.5) ** 2, 0.0))


def _bicubic(x: Array) -> Array:
    """Keys' cubic with a = -1/2 (Pillow's and MATLAB's), on (-2, 2)."""
    x = np.abs(x)
    near = (1.5 * x - 2.5) * x * x + 1
    far = ((-0.5 * x + 2.5) * x - 4) * x + 2
    return np.where(x <= 1, near, np.where(x < 2, far, 0.0))


def _lanczos3(x: Array) -> Array:
    return np.where(np.abs(x) < 3, np.sinc(x) * np.sinc(x / 3), 0.0)


@dataclass(frozen=True)
class Filter:
    """A resampling kernel: base function, its half width, and the sharpening taps s_-n .. s_n."""

    base: Callable[[Array], Array]
    base_support: float
    sharpening: tuple[float, ...] = (1.0,)

    @property
    def support(self) -> float:
        """Half width of the composite kernel."""
        return self.base_support + len(self.sharpening) // 2

    @property
    def lags(self) -> tuple[float, ...]:
        """c_1 .. c_n with  sharpened x = x + sum_k c_k ((x[i-k] + x[i+k]) / 2 - x[i])."""
        centre = len(self.sharpening) // 2
        return tuple(2 * s for s in self.sharpening[centre + 1 :])

    def __call__(self, x: Array) -> Array:
        centre = len(self.sharpening) // 2
        return sum((s * self.base(x - (j - centre)) for j, s in enumerate(self.sharpening)), np.zeros_like(x))


def _stages(*stages: list[int]) -> tuple[float, ...]:
    taps = np.ones(1)
    for stage in stages:
        taps = np.convolve(taps, np.array(stage, dtype=np.float64) / sum(stage))
    return tuple(taps.tolist())


_2013 = [-1, 6, -1]
_2021 = [1, 0, 34, 0, 1]
_V7 = [1, 0, 0, 0, 1154, 0, 0, 0, 1]

FILTERS = {
    "magic": Filter(_magic, 1.5),
    "mks2013": Filter(_magic, 1.5, _stages(_2013)),
    "mks2021": Filter(_magic, 1.5, _stages(_2013, _2021)),
    "mks_v7": Filter(_magic, 1.5, _stages(_2013, _2021, _V7)),
    "bicubic": Filter(_bicubic, 2.0),
    "lanczos3": Filter(_lanczos3, 3.0),
}


def axis_weights(kernel: str, n_in: int, n_out: int) -> tuple[Array, Array]:
    """The linear map of one axis: out[o] = sum_t weights[o, t] * x[start[o] + t].

    Half-pixel centres, the kernel widened by n_in / n_out when that exceeds 1, taps outside the picture dropped and the
    row divided by the sum of the others. Equal sizes are the identity. This is the staged definition (sharpening on
    the grid of the smaller image, then or before it the magic kernel) on the zero-extended signal, divided by
    the same operator applied to ones: both stages share the spacing, so their product is k(x) at every ratio.

    Returns:
        start int64 (n_out,), non-decreasing, and weights float64 (n_out, taps); every start + taps <= n_in.
    """
    if n_in == n_out:
        return np.arange(n_out), np.ones((n_out, 1))
    filter_ = FILTERS[kernel]
    width = max(1.0, n_in / n_out)
    # One division of exact integers: (o + 1/2) * n_in / n_out - 1/2.
    centre = ((2 * np.arange(n_out) + 1) * n_in - n_out) / (2 * n_out)
    taps = min(int(2 * filter_.support * width) + 1, n_in)
    start = np.clip(np.ceil(centre - filter_.support * width).astype(np.int64), 0, n_in - taps)
    weights = filter_((start[:, None] + np.arange(taps) - centre[:, None]) / width)
    return start, weights / weights.sum(axis=1, keepdims=True)


def phase_weights(kernel: str, scale: int) -> Array:
    """Weights of an integer upscale away from the edges, not normalised: (scale, 2r + 1) over x[i-r .. i+r] for
    output scale * i + phase."""
    filter_ = FILTERS[kernel]
    offset = (2 * np.arange(scale) + 1) / (2 * scale) - 0.5
    radius = math.ceil(filter_.support + 0.5) - 1
    return filter_(np.arange(-radius, radius + 1) - offset[:, None])

"""Colour maps of even steps to the eye: lines through Oklab, whose L is the lightness that is seen."""

from collections.abc import Sequence
from functools import cache

import numpy as np
from numpy.typing import NDArray

# Oklab to the cones' cube roots, and the cones to linear sRGB: Ottosson 2020, "A perceptual color space for image
# processing".
_CONES = np.array(
    [[1, 0.3963377774, 0.2158037573], [1, -0.1055613458, -0.0638541728], [1, -0.0894841775, -1.2914855480]]
)
_LINEAR = np.array(
    [
        [4.0767416621, -3.3077115913, 0.2309699292],
        [-1.2684380046, 2.6097574011, -0.3413193965],
        [-0.0041960863, -0.7034186147, 1.7076147010],
    ]
)

# Lightness, chroma and hue in degrees, in even steps of the value. Lightness rises steadily, so a map can be read in
# grey as well.
_SEQUENTIAL = ((0.16, 0.05, 310), (0.36, 0.14, 295), (0.53, 0.09, 235), (0.73, 0.13, 165), (0.97, 0.15, 108))
# Red below, nothing in the middle, blue above.
_DIVERGING = ((0.40, 0.15, 27), (0.68, 0.13, 40), (0.96, 0.00, 90), (0.68, 0.10, 240), (0.38, 0.12, 262))


def oklch(lightness: NDArray, chroma: NDArray, hue: NDArray) -> NDArray[np.uint8]:
    """(...) lightness 0..1, chroma, hue in radians -> (..., 3) sRGB; colours that a screen lacks are clipped."""
    lab = np.stack((lightness, chroma * np.cos(hue), chroma * np.sin(hue)), -1)
    linear = np.clip((lab @ _CONES.T) ** 3 @ _LINEAR.T, 0, 1)
    values = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    return np.rint(255 * values).astype(np.uint8)


def sequential(values: NDArray, low: float, high: float) -> NDArray[np.uint8]:
    """(...) -> (..., 3): dark purple at `low` and below, over blue and green to pale yellow at `high` and above."""
    return _look_up(_table(_SEQUENTIAL), values, low, high)


def diverging(values: NDArray, low: float, high: float) -> NDArray[np.uint8]:
    """(...) -> (..., 3): red at `low`, white in the middle, blue at `high`."""
    return _look_up(_table(_DIVERGING), values, low, high)


def directional(cosine: NDArray, sine: NDArray) -> NDArray[np.uint8]:
    """(...) coherence times cosine and sine of twice an angle -> (..., 3): the angle as hue, the coherence as light."""
    coherence = np.clip(np.hypot(cosine, sine), 0, 1)
    return oklch(0.15 + 0.62 * coherence, 0.15 * coherence, np.arctan2(sine, cosine))


def _look_up(table: NDArray[np.uint8], values: NDArray, low: float, high: float) -> NDArray[np.uint8]:
    steps = np.clip((values - low) / (high - low), 0, 1)
    return table[np.rint(steps * (len(table) - 1)).astype(np.intp)]


@cache
def _table(points: Sequence[tuple[float, float, float]]) -> NDArray[np.uint8]:
    """256 colours on the line through `points` in Oklab."""
    lightness, chroma, hue = np.array(points).T
    a, b = chroma * np.cos(np.radians(hue)), chroma * np.sin(np.radians(hue))
    at, given = np.linspace(0, 1, 256), np.linspace(0, 1, len(points))
    l, a, b = (np.interp(at, given, line) for line in (lightness, a, b))  # noqa: E741
    return oklch(l, np.hypot(a, b), np.arctan2(b, a))

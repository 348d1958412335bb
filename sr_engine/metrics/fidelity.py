"""PSNR and SSIM on the luma of 8-bit pictures, as super-resolution papers report them.

Luma is BT.601 in studio range, kept unrounded; `shave` pixels (the scale) are left out at each border; all in float64.
"""

import math

import numpy as np
from numpy.typing import NDArray

from sr_engine.errors import DataError

PEAK = 255.0
LUMA = np.array([65.481, 128.553, 24.966]) / 255  # BT.601 weights of 8-bit RGB; 16 is added
WINDOW, SIGMA = 11, 1.5
C1, C2 = (0.01 * PEAK) ** 2, (0.03 * PEAK) ** 2  # K1 and K2 of Wang et al. 2004


def rgb_to_y(image: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Luma of an 8-bit picture.

    Args:
        image: (H,W,3) RGB, or grey as (H,W,1) or (H,W), which counts as RGB with three equal channels.

    Returns:
        (H,W) in 16..235, not rounded.
    """
    pixels = image.astype(np.float64)
    if pixels.ndim == 3 and pixels.shape[2] == 3:
        return pixels @ LUMA + 16
    if pixels.ndim == 2 or pixels.shape[2] == 1:
        return pixels.reshape(pixels.shape[:2]) * LUMA.sum() + 16
    raise DataError(f"a picture of shape {image.shape} has no luma: (H,W,3) RGB or grey (H,W) or (H,W,1) expected.")


def psnr_y(sr: NDArray[np.uint8], hr: NDArray[np.uint8], *, shave: int) -> float:
    """Peak signal-to-noise ratio of the luma in dB; inf for equal pictures.

    Args:
        sr, hr: 8-bit pictures of one height and width, RGB or grey (see rgb_to_y).
        shave: pixels left out at each border; the scale, by convention.

    Raises:
        DataError: the pictures differ in size, aren't 8-bit, or nothing is left of them.
    """
    a, b = _luma_pair(sr, hr, shave)
    return _decibels(float(np.mean(np.square(a - b))))


def psnr_rgb(a: NDArray[np.uint8], b: NDArray[np.uint8]) -> float:
    """PSNR over all values of two 8-bit pictures (H,W,C) in dB, no border left out; inf for equal pictures.

    Raises:
        DataError: the pictures differ in shape or aren't 8-bit.
    """
    if a.shape != b.shape or a.dtype != np.uint8 or b.dtype != np.uint8:
        raise DataError(f"two 8-bit pictures of one shape expected, got {a.dtype} {a.shape} and {b.dtype} {b.shape}.")
    return _decibels(float(np.mean(np.square(a.astype(np.float64) - b))))


def ssim_y(sr: NDArray[np.uint8], hr: NDArray[np.uint8], *, shave: int) -> float:
    """Structural similarity of the luma (Wang et al. 2004): 11x11 Gaussian of sigma 1.5, whole windows only.

    Arguments and errors are those of psnr_y; after shaving, 11 pixels must be left in each direction.
    """
    a, b = _luma_pair(sr, hr, shave)
    if min(a.shape) < WINDOW:
        raise DataError(f"SSIM needs {WINDOW} pixels in each direction, but {a.shape} are left after shaving {shave}.")
    mean_a, mean_b = _blur(a), _blur(b)
    variance_a, variance_b = _blur(a * a) - mean_a * mean_a, _blur(b * b) - mean_b * mean_b
    covariance = _blur(a * b) - mean_a * mean_b
    luminance = (2 * mean_a * mean_b + C1) / (mean_a * mean_a + mean_b * mean_b + C1)
    contrast = (2 * covariance + C2) / (variance_a + variance_b + C2)
    return float(np.mean(luminance * contrast))


def _decibels(error: float) -> float:
    """PSNR of a mean squared error of 8-bit values."""
    return math.inf if error == 0 else 10 * math.log10(PEAK * PEAK / error)


def _luma_pair(sr: NDArray[np.uint8], hr: NDArray[np.uint8], shave: int) -> tuple[NDArray[np.float64], ...]:
    for name, image in (("sr", sr), ("hr", hr)):
        if image.dtype != np.uint8:
            raise DataError(f"{name} is {image.dtype}: round it to uint8 first, scores are defined on 8-bit pictures.")
    if sr.shape[:2] != hr.shape[:2]:
        raise DataError(f"sr is {sr.shape[:2]} and hr {hr.shape[:2]} (height, width): crop them to one size first.")
    if shave < 0 or min(hr.shape[:2]) <= 2 * shave:
        raise DataError(f"shave {shave} must be >= 0 and leave something of a picture of {hr.shape[:2]}.")
    keep = slice(shave, -shave or None)
    return rgb_to_y(sr)[keep, keep], rgb_to_y(hr)[keep, keep]


def _blur(x: NDArray[np.float64]) -> NDArray[np.float64]:
    at = np.arange(WINDOW) - WINDOW // 2
    taps = np.exp(-at * at / (2 * SIGMA * SIGMA))
    taps /= taps.sum()
    rows, columns = (n - WINDOW + 1 for n in x.shape)
    x = sum((tap * x[i : i + rows] for i, tap in enumerate(taps)), np.zeros((rows, x.shape[1])))
    return sum((tap * x[:, i : i + columns] for i, tap in enumerate(taps)), np.zeros((rows, columns)))

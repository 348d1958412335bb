"""The classical degradation against the formula, in float64."""

import numpy as np
import pytest

from sr_engine.data.bicubic import bicubic_down, mod_crop

RNG = np.random.default_rng(0)


def keys(x: np.ndarray, a: float = -0.5) -> np.ndarray:
    """Keys' cubic convolution kernel (1981)."""
    x = np.abs(x)
    near, far = (a + 2) * x**3 - (a + 3) * x**2 + 1, a * x**3 - 5 * a * x**2 + 8 * a * x - 4 * a
    return np.where(x < 1, near, np.where(x < 2, far, 0.0))


def weights(size: int, scale: int) -> np.ndarray:
    """(size // scale, size): the kernel widened by the factor, renormalised at the borders."""
    centres = (np.arange(size // scale) + 0.5) * scale
    w = keys((np.arange(size) + 0.5 - centres[:, None]) / scale)
    return w / w.sum(1, keepdims=True)


@pytest.mark.parametrize("scale", [2, 3, 4])
@pytest.mark.parametrize("channels", [1, 3])
def test_equals_the_antialiased_keys_kernel(scale: int, channels: int) -> None:
    hr = RNG.integers(0, 256, (37, 50, channels), dtype=np.uint8)
    cut = mod_crop(hr, scale).astype(np.float64)
    exact = np.einsum("yh,xw,hwc->yxc", weights(cut.shape[0], scale), weights(cut.shape[1], scale), cut)
    low = bicubic_down(hr, scale)
    assert low.shape == (37 // scale, 50 // scale, channels)
    # Pillow rounds and clips to 8 bits after the horizontal pass as well.
    assert np.abs(low - exact.clip(0, 255)).max() <= 1.6


def test_scale_1_and_16_bit() -> None:
    hr = RNG.integers(0, 256, (9, 11, 3), dtype=np.uint8)
    assert np.array_equal(bicubic_down(hr, 1), hr)
    assert np.array_equal(bicubic_down(hr.astype(np.uint16) * 257, 2), bicubic_down(hr, 2))

"""Samples of pictures between integers and floats, grey and RGB, 16 and 8 bits, with and without transparency."""

import numpy as np
from numpy.typing import NDArray


def to_float(pixels: NDArray) -> NDArray[np.float32]:
    """uint8 or uint16 samples as float32 in [0, 1]; floats pass through as float32."""
    if pixels.dtype.kind == "f":
        return pixels.astype(np.float32, copy=False)
    return np.divide(pixels, np.float32(np.iinfo(pixels.dtype).max), dtype=np.float32)


def from_float(values: NDArray, dtype: type[np.unsignedinteger] = np.uint8) -> NDArray:
    """Floats in [0, 1] as uint8 or uint16: clipped, then rounded to nearest."""
    top = np.iinfo(dtype).max
    return np.rint(np.clip(values, 0.0, 1.0) * top).astype(dtype)


def to_uint8(pixels: NDArray) -> NDArray[np.uint8]:
    """uint16 rounded to 8 bits (65535 / 255 = 257 exactly); uint8 as it is."""
    return pixels if pixels.dtype == np.uint8 else ((pixels.astype(np.uint32) + 128) // 257).astype(np.uint8)


def to_rgb(pixels: NDArray) -> NDArray:
    """(H, W, 1) grey replicated to (H, W, 3); RGB as it is."""
    return pixels if pixels.shape[2] == 3 else np.repeat(pixels, 3, axis=2)


def over_white(samples: NDArray) -> NDArray:
    """(H, W, 2 | 4) with alpha last, not premultiplied, composed over white: (H, W, 1 | 3) of the same dtype."""
    opacity = to_float(samples[:, :, -1:])
    return from_float(to_float(samples[:, :, :-1]) * opacity + 1.0 - opacity, samples.dtype.type)

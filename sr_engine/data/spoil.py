"""A fixed defect of low-resolution pictures, to compare models by: what sensors and JPEG leave, the same every time."""

import hashlib
import io

import numpy as np
from numpy.random import Generator, Philox
from numpy.typing import NDArray
from PIL import Image as Pillow

from sr_engine.errors import DataError


def spoil(lr: NDArray[np.uint8], *, noise: float, jpeg: int | None, seed: int | str) -> NDArray[np.uint8]:
    """Gaussian noise, then JPEG with halved colour resolution (4:2:0).

    Args:
        lr: (H, W, C) with C of 1 or 3; it stays as it is.
        noise: standard deviation, of 255; independent in each channel. 0 is none.
        jpeg: quality of libjpeg, 1..100; None is no JPEG.
        seed: of the noise; the name of the picture gives each picture its own.

    Returns:
        The picture, as new memory. It depends on the arguments alone (and on the version of libjpeg).

    Raises:
        DataError: another type or shape, or a noise or quality out of its range.
    """
    if lr.dtype != np.uint8 or lr.ndim != 3 or lr.shape[2] not in (1, 3):
        raise DataError(f"spoil: the picture must be uint8 (H, W, 1 or 3), got {lr.dtype} {lr.shape}.")
    if not 0 <= noise <= 255:
        raise DataError(f"spoil: noise must be between 0 and 255, got {noise}.")
    if jpeg is not None and not 1 <= jpeg <= 100:
        raise DataError(f"spoil: jpeg must be a quality between 1 and 100, got {jpeg}.")
    out = lr.copy()
    if noise > 0:
        drawn = seeded(seed).standard_normal(lr.shape, np.float32)
        out = np.rint(np.clip(lr + drawn * np.float32(noise), 0, 255)).astype(np.uint8)
    return out if jpeg is None else through_jpeg(out, jpeg, "4:2:0")


def through_jpeg(pixels: NDArray[np.uint8], quality: int, subsampling: str) -> NDArray[np.uint8]:
    """(H, W, 1 or 3) written as JPEG and read again; `subsampling` is 4:4:4, 4:2:2 or 4:2:0."""
    grey = pixels.shape[2] == 1
    buffer = io.BytesIO()
    picture = Pillow.fromarray(pixels[:, :, 0] if grey else np.ascontiguousarray(pixels))
    picture.save(buffer, "JPEG", quality=quality, subsampling=subsampling)
    read = np.array(Pillow.open(buffer, formats=("JPEG",)))
    return read[:, :, None] if grey else read


def seeded(seed: int | str) -> Generator:
    """A generator of random numbers that depends on a number or a text alone, on every machine and in every process."""
    digest = hashlib.blake2b(f"{type(seed).__name__} {seed}".encode(), digest_size=16).digest()
    return Generator(Philox(key=int.from_bytes(digest, "little")))

"""What is known of a picture before its first row: all that a file's head says."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Header:
    """Size, samples and descriptions of a picture to be written; `channels`: 1 grey, 2 grey and alpha, 3 RGB, 4 RGB
    and alpha (not premultiplied). The descriptions are as in `sr_engine.data.images.Image`, `dpi` that of this file.
    """

    width: int
    height: int
    channels: int
    dtype: type[np.uint8] | type[np.uint16] = np.uint8
    icc: bytes | None = None
    exif: bytes | None = None
    xmp: bytes | None = None
    iptc: bytes | None = None
    dpi: tuple[float, float] | None = None

    @property
    def bytes_per_row(self) -> int:
        return self.width * self.channels * np.dtype(self.dtype).itemsize


@dataclass(frozen=True)
class Encoding:
    """How a picture is written; `form` is Pillow's name: PNG, JPEG, WEBP, TIFF, BMP, AVIF, GIF or PPM.

    quality: of JPEG, WebP and AVIF, 1..100. lossless: of WebP and AVIF; the other formats are what they are.
    """

    form: str
    quality: int = 95
    lossless: bool = False

"""Formats whose encoders want the picture whole (WebP, AVIF, BMP, GIF), and PPM, which needs no encoder."""

from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow

from sr_engine.data.encoders.header import Encoding, Header
from sr_engine.data.exif import resolution_alone, written_exif


class WholePicture:
    """Collects rows (n, width, channels) of uint8; `finish` encodes them with Pillow."""

    def __init__(self, file: BinaryIO, header: Header, encoding: Encoding) -> None:
        self._file, self._header, self._encoding = file, header, encoding
        self._samples = np.empty((header.height, header.width, header.channels), np.uint8)
        self._rows = 0

    def __call__(self, rows: NDArray) -> None:
        self._samples[self._rows : self._rows + len(rows)] = rows
        self._rows += len(rows)

    def finish(self) -> None:
        samples = self._samples
        picture = Pillow.fromarray(samples[:, :, 0] if samples.shape[2] == 1 else samples)
        picture.save(self._file, self._encoding.form, **options(self._header, self._encoding))


class PpmRows:
    """Netpbm's binary grey (P5) or colour (P6), 8 or 16 bits, as they come."""

    def __init__(self, file: BinaryIO, header: Header) -> None:
        self._file = file
        top = np.iinfo(header.dtype).max
        file.write(b"P%d\n%d %d\n%d\n" % (6 if header.channels == 3 else 5, header.width, header.height, top))

    def __call__(self, rows: NDArray) -> None:
        big_end_first = rows.astype(">u2") if rows.dtype == np.uint16 else rows
        self._file.write(np.ascontiguousarray(big_end_first).data)

    def finish(self) -> None:
        pass


def options(header: Header, encoding: Encoding) -> dict[str, Any]:
    """Pillow's arguments of `save` for this format."""
    form = encoding.form
    if form == "BMP":
        return {"dpi": header.dpi} if header.dpi else {}
    if form not in ("WEBP", "AVIF"):
        return {}
    chosen: dict[str, Any] = {"quality": encoding.quality}
    if form == "WEBP":
        chosen["lossless"] = encoding.lossless
        chosen["exact"] = encoding.lossless  # also the colour under full transparency
    exif = written_exif(header.exif, header.width, header.height, header.dpi)
    if exif is None and header.dpi:
        exif = resolution_alone(header.dpi)  # these formats have no other place for it
    described = {"icc_profile": header.icc, "exif": exif, "xmp": header.xmp}
    return chosen | {name: block for name, block in described.items() if block}

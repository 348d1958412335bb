"""Pictures written from top to bottom, as their rows are finished, so that none has to fit into memory.

PNG, TIFF, JPEG and PPM hold a few rows at a time; WebP, AVIF, BMP and GIF collect the picture and encode it at the end.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO, Protocol

import numpy as np
from numpy.typing import NDArray

from sr_engine.atomic import atomic_write
from sr_engine.data.encoders.header import Encoding, Header
from sr_engine.data.encoders.jpeg import SEGMENT, JpegRows
from sr_engine.data.encoders.png import PngRows
from sr_engine.data.encoders.tiff import TiffRows
from sr_engine.data.encoders.whole import PpmRows, WholePicture
from sr_engine.data.metadata import fitting_profile
from sr_engine.data.samples import over_white, to_uint8
from sr_engine.errors import ImageFileError

__all__ = [
    "Encoding",
    "Header",
    "bytes_needed",
    "check_encoding",
    "check_fits",
    "left_out",
    "memory_needed",
    "row_writer",
]

_DEEP, _ALPHA = ("PNG", "TIFF", "PPM"), ("PNG", "TIFF", "WEBP", "AVIF", "GIF")
# JPEG's own limit is 65535, but libjpeg, which nearly everything reads it with, stops at 65500.
_LONGEST_SIDE = {"WEBP": 16383, "JPEG": 65500, "GIF": 65535, "AVIF": 65536, "PNG": 2**31 - 1, "TIFF": 2**31 - 1}
_NAMES = {"WEBP": "WebP"}
_BMP_BYTES = 2**32 - 2**16
# Of a pixel, while the whole picture is encoded, with the picture itself; measured, and rounded up (docs/log.md).
_WHOLE = {"WEBP": 16, "AVIF": 32, "BMP": 12, "GIF": 16}
_WEBP_LOSSLESS = 64


class _Writer(Protocol):
    def __call__(self, rows: NDArray) -> None: ...
    def finish(self) -> None: ...


def check_fits(path: str | Path, form: str, width: int, height: int) -> None:
    """Refuse a picture that a format cannot hold, before it is made.

    Raises:
        ImageFileError: too wide or too high, naming formats that can hold it.
    """
    longest = _LONGEST_SIDE.get(form)
    if longest is not None and max(width, height) > longest:
        limit = f"{_NAMES.get(form, form)} holds at most {longest} pixels a side"
    elif form == "BMP" and (width * 3 + 3) // 4 * 4 * height > _BMP_BYTES:
        limit = "BMP holds at most 4 GiB"
    else:
        return
    others = ".png or .tif" if form not in ("PNG", "TIFF") else ".ppm"
    raise ImageFileError(f"{path}: the picture is {width} x {height}, but {limit}: use {others}.")


def check_encoding(path: str | Path, encoding: Encoding) -> None:
    """Refuse what a format cannot do.

    Raises:
        ImageFileError: without loss where the format always loses, or a quality outside 1..100.
    """
    if encoding.lossless and encoding.form in ("JPEG", "AVIF", "GIF"):
        raise ImageFileError(f"{path}: {encoding.form} cannot be written without loss: use .png, .tif or .webp.")
    if not 1 <= encoding.quality <= 100:
        raise ImageFileError(f"{path}: the quality is {encoding.quality}, expected a number from 1 to 100.")


def bytes_needed(header: Header, encoding: Encoding) -> int:
    """Disk space that the file takes at most: as if nothing could be compressed."""
    fitted = _fitted(header, encoding.form)
    described = sum(len(block) for block in (header.icc, header.exif, header.xmp, header.iptc) if block)
    samples = fitted.height * (fitted.bytes_per_row + 4)
    return samples + samples // 64 + 2 * described + 65536


def memory_needed(header: Header, encoding: Encoding) -> int:
    """Bytes that `row_writer` holds at once, besides the rows it is given: some rows, or the whole picture."""
    fitted = _fitted(header, encoding.form)
    if encoding.form not in _WHOLE:
        return 12 * max(1 << 20, 16 * fitted.bytes_per_row) + 32 * fitted.height
    bytes_a_pixel = _WEBP_LOSSLESS if encoding.form == "WEBP" and encoding.lossless else _WHOLE[encoding.form]
    return bytes_a_pixel * fitted.width * fitted.height + (16 << 20)


def left_out(header: Header, form: str) -> tuple[str, ...]:
    """A short sentence for each thing of a picture that this format cannot hold."""
    if form in ("BMP", "GIF", "PPM"):
        held = {"colour profile": header.icc, "EXIF": header.exif, "XMP": header.xmp, "IPTC": header.iptc}
    elif form in ("WEBP", "AVIF"):
        held = {"colour profile": header.icc if header.channels < 3 else None, "IPTC": header.iptc}
    elif form == "JPEG":
        described = {"EXIF": (header.exif, 256), "XMP": (header.xmp, 29), "IPTC": (header.iptc, 28)}
        held = {what: block for what, (block, head) in described.items() if block and len(block) > SEGMENT - head}
    else:
        held = {}
    name = _NAMES.get(form, form)
    lost = [f"{name} cannot hold the {what} of this picture." for what, block in held.items() if block]
    if header.dtype == np.uint16 and form not in _DEEP:
        lost.append(f"{name} has 8 bits: the picture's 16 were rounded.")
    if header.channels in (2, 4) and form not in _ALPHA:
        lost.append(f"{name} has no transparency: the picture was laid over white.")
    return tuple(lost)


@contextmanager
def row_writer(path: str | Path, header: Header, encoding: Encoding) -> Iterator[Callable[[NDArray], None]]:
    """Write a picture with the function that this yields: call it with finished rows, from the top down.

    Rows are (n, width, channels) of the header's dtype, any n. Samples that the format cannot hold are changed first:
    16 bits are rounded to 8, transparent pixels laid over white (see `left_out`). The file appears when all rows are
    there; until then, and when anything fails, an old file of this name stays.

    Raises:
        ImageFileError: the format cannot hold the picture, the rows are of another shape or too few or too many, or
            the file cannot be written (no permission, disk full).
    """
    path = Path(path)
    check_fits(path, encoding.form, header.width, header.height)
    check_encoding(path, encoding)
    callers: BaseException | None = None
    try:
        with atomic_write(path) as temporary, temporary.open("wb") as file:
            rows = _CheckedRows(path, header, encoding, file)
            try:
                yield rows
            except BaseException as error:
                callers = error
                raise
            rows.finish()
    except (OSError, ValueError) as error:  # ValueError: of an encoder, or a name with a zero character
        if error is callers:
            raise
        reason = getattr(error, "strerror", None) or str(error).rstrip(".")
        raise ImageFileError(f"{path}: cannot be written: {reason}.") from error


class _CheckedRows:
    def __init__(self, path: Path, header: Header, encoding: Encoding, file: BinaryIO) -> None:
        self._path, self._header = path, header
        self._fitted = _fitted(header, encoding.form)
        self._writer, self._rows = _writer(file, self._fitted, encoding), 0

    def __call__(self, rows: NDArray) -> None:
        header = self._header
        if rows.ndim != 3 or rows.shape[1:] != (header.width, header.channels) or rows.dtype != header.dtype:
            raise ImageFileError(
                f"{self._path}: got rows of shape {rows.shape} and {rows.dtype}, expected "
                f"(n, {header.width}, {header.channels}) and {np.dtype(header.dtype)}."
            )
        self._rows += len(rows)
        if self._rows > header.height:
            raise ImageFileError(f"{self._path}: got {self._rows} rows, expected {header.height}.")
        if header.channels != self._fitted.channels:
            rows = over_white(rows)
        if header.dtype != self._fitted.dtype:
            rows = to_uint8(rows)
        try:
            self._writer(rows)
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or str(error).rstrip(".")
            raise ImageFileError(f"{self._path}: cannot be written: {reason}.") from error

    def finish(self) -> None:
        if self._rows != self._header.height:
            raise ImageFileError(f"{self._path}: got {self._rows} rows, expected {self._header.height}.")
        self._writer.finish()


def _fitted(header: Header, form: str) -> Header:
    """The header of what is written: the format's own depth and channels, and a profile for them."""
    if form not in _DEEP:
        header = replace(header, dtype=np.uint8)
    if form not in _ALPHA and header.channels in (2, 4):
        header = replace(header, channels=header.channels - 1)
    grey = header.channels < 3
    icc = None if grey and form in ("WEBP", "AVIF") else fitting_profile(header.icc, 1 if grey else 3)
    return replace(header, icc=icc)


def _writer(file: BinaryIO, header: Header, encoding: Encoding) -> _Writer:
    match encoding.form:
        case "PNG":
            return PngRows(file, header)
        case "TIFF":
            return TiffRows(file, header)
        case "JPEG":
            return JpegRows(file, header, encoding.quality)
        case "PPM":
            return PpmRows(file, header)
    return WholePicture(file, header, encoding)

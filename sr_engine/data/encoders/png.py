"""PNG (third edition) row by row, 8 and 16 bits, in a few rows of memory.

Each row gets the filter whose result has the smallest sum of magnitudes, the heuristic of the specification's section
12.7, judged from a sample of its pixels. Encoding looks at the picture's own rows only, so blocks of rows need no loop.
"""

import struct
import zlib
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from sr_engine.data.encoders.header import Header
from sr_engine.data.exif import written_exif
from sr_engine.data.metadata import photoshop_block

_COLOUR_TYPES = {1: 0, 2: 4, 3: 2, 4: 6}
_BLOCK = 1 << 18  # bytes of rows filtered at once: they stay in a core's cache
_CHUNK = 1 << 20  # bytes of an IDAT chunk, about
_SAMPLED = 8  # every eighth pixel is enough to choose a filter
_LEVEL = (
    5  # with "filtered": up to 7 % more bytes than level 6 of Pillow, in two thirds of its time (bench/png_encoder.py)
)
_UP = 2
_METRE = 39.37007874  # inches


class PngRows:
    """Call with finished rows (n, width, channels) of uint8 or uint16; `finish` ends the file."""

    def __init__(self, file: BinaryIO, header: Header, *, animation: bytes = b"") -> None:
        self._file, self._pixel = file, header.channels * np.dtype(header.dtype).itemsize
        self._above = np.zeros((1, header.bytes_per_row), np.uint8)
        self._rows_at_once = max(1, _BLOCK // header.bytes_per_row)
        self._deflate = zlib.compressobj(_LEVEL, zlib.DEFLATED, 15, 9, zlib.Z_FILTERED)
        self._waiting: list[bytes] = []
        file.write(head(header, animation))

    def __call__(self, rows: NDArray) -> None:
        big_end_first = rows.astype(">u2") if rows.dtype == np.uint16 else rows
        lines = np.ascontiguousarray(big_end_first).reshape(len(rows), -1).view(np.uint8)
        for first in range(0, len(lines), self._rows_at_once):
            block = lines[first : first + self._rows_at_once]
            above = np.concatenate((self._above, block[:-1]))
            self._waiting.append(self._deflate.compress(filtered(block, above, self._pixel).data))
            self._above = block[-1:].copy()
            if sum(map(len, self._waiting)) >= _CHUNK:
                self._write()

    def finish(self) -> None:
        self._waiting.append(self._deflate.flush())
        self._write()
        self._file.write(chunk(b"IEND", b""))

    def _write(self) -> None:
        self._file.write(chunk(b"IDAT", b"".join(self._waiting)))
        self._waiting = []


def filtered(rows: NDArray[np.uint8], above: NDArray[np.uint8], pixel: int) -> NDArray[np.uint8]:
    """Rows (n, bytes) as PNG stores them, (n, 1 + bytes): each begins with the number of its filter.

    Args:
        above: the row above each. pixel: bytes of a pixel.
    """
    kinds = _choose(rows, above, pixel)
    out = np.empty((len(rows), 1 + rows.shape[1]), np.uint8)
    out[:, 0] = kinds
    for kind in np.unique(kinds):
        chosen = kinds == kind
        some = slice(None) if chosen.all() else chosen
        x, b = rows[some], above[some]
        out[some, 1:] = _apply(kind, x, _shifted(x, pixel), b, _shifted(b, pixel))
    return out


def chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(data, zlib.crc32(name)))


def head(header: Header, animation: bytes = b"") -> bytes:
    """All before the first IDAT; `animation` are whole chunks to stand there."""
    depth = 8 * np.dtype(header.dtype).itemsize
    size = struct.pack(">IIBBBBB", header.width, header.height, depth, _COLOUR_TYPES[header.channels], 0, 0, 0)
    parts = [b"\x89PNG\r\n\x1a\n", chunk(b"IHDR", size), animation]
    if header.icc:
        parts.append(chunk(b"iCCP", b"icc\0\0" + zlib.compress(header.icc)))
    if header.dpi:
        x, y = (max(1, round(value * _METRE)) for value in header.dpi)
        parts.append(chunk(b"pHYs", struct.pack(">IIB", x, y, 1)))
    if exif := written_exif(header.exif, header.width, header.height, header.dpi):
        parts.append(chunk(b"eXIf", exif.removeprefix(b"Exif\0\0")))
    if header.xmp:
        parts.append(chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + header.xmp))
    if header.iptc:
        block = photoshop_block(header.iptc)
        text = b"\niptc\n%8d\n%s\n" % (len(block), block.hex("\n", -36).encode())
        parts.append(chunk(b"zTXt", b"Raw profile type iptc\0\0" + zlib.compress(text)))
    return b"".join(parts)


def _choose(rows: NDArray[np.uint8], above: NDArray[np.uint8], pixel: int) -> NDArray[np.uint8]:
    width = rows.shape[1] // pixel
    if width < 2:
        return np.full(len(rows), _UP, np.uint8)
    x = rows.reshape(len(rows), width, pixel)
    up = above.reshape(x.shape)
    here, left = slice(1, None, _SAMPLED), slice(0, -1, _SAMPLED)
    sample, a, b, c = x[:, here], x[:, left], up[:, here], up[:, left]
    costs = np.empty((5, len(rows)), np.int64)
    for kind in range(5):
        difference = np.ascontiguousarray(_apply(kind, sample, a, b, c))
        magnitude = np.abs(difference.view(np.int8)).view(np.uint8)  # |-128| wraps to -128, which is 128 again
        costs[kind] = magnitude.sum((1, 2), dtype=np.int64)
    return costs.argmin(0).astype(np.uint8)


def _shifted(rows: NDArray[np.uint8], pixel: int) -> NDArray[np.uint8]:
    """Each byte replaced by that of the pixel to the left, 0 outside."""
    out = np.zeros_like(rows)
    out[:, pixel:] = rows[:, :-pixel]
    return out


def _apply(kind: int, x: NDArray, a: NDArray, b: NDArray, c: NDArray) -> NDArray:
    """A filter on bytes x; a is to the left, b above, c above a."""
    match kind:
        case 1:
            return x - a
        case 2:
            return x - b
        case 3:
            return x - ((a & b) + ((a ^ b) >> 1))  # floor of the mean without a ninth bit
        case 4:
            return x - _paeth(a, b, c)
    return x


def _paeth(a: NDArray, b: NDArray, c: NDArray) -> NDArray:
    # Of p = a + b - c the distances are |b - c|, |a - c| and |(b - c) + (a - c)|; ties go to a, then b.
    low = c.astype(np.int16)
    from_a, from_b = b - low, a - low
    from_c = np.abs(from_a + from_b)
    np.abs(from_a, out=from_a)
    np.abs(from_b, out=from_b)
    b_or_c = np.where(from_b <= from_c, b, c)
    return np.where(from_a <= np.minimum(from_b, from_c), a, b_or_c)

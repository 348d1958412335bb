"""TIFF 6.0 strip by strip: 8 and 16 bits, grey, RGB and alpha, deflate with horizontal differences.

The directory follows the strips; a picture that may reach 4 GiB is written as BigTIFF (Adobe's and libtiff's 64-bit
form), which needs other offsets from the first byte on.
"""

import struct
import zlib
from fractions import Fraction
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL.TiffImagePlugin import ImageFileDirectory_v2

from sr_engine.data.encoders.header import Header
from sr_engine.data.exif import directories

_STRIP = 1 << 18  # bytes of samples
_LEVEL = 5
_BYTE, _ASCII, _SHORT, _LONG, _RATIONAL, _UNDEFINED, _LONG8 = 1, 2, 3, 4, 5, 7, 16
_FORMATS = {_SHORT: "H", _LONG: "I", _LONG8: "Q"}
_EXIF, _GPS = 34665, 34853


class TiffRows:
    """Call with finished rows (n, width, channels) of uint8 or uint16; `finish` ends the file."""

    def __init__(self, file: BinaryIO, header: Header) -> None:
        self._file, self._header = file, header
        self._rows_per_strip = max(1, _STRIP // header.bytes_per_row)
        self._waiting: list[NDArray] = []
        self._rows_waiting = 0
        self._offsets: list[int] = []
        self._sizes: list[int] = []
        self._big = _needs_64_bits(header)
        # Byte order, version, and the place of the directory, known at the end.
        file.write(b"II" + (struct.pack("<HHHQ", 43, 8, 0, 0) if self._big else struct.pack("<HI", 42, 0)))
        self._at = 16 if self._big else 8

    def __call__(self, rows: NDArray) -> None:
        for first in range(0, len(rows), self._rows_per_strip):
            self._waiting.append(rows[first : first + self._rows_per_strip])
            self._rows_waiting += len(self._waiting[-1])
            while self._rows_waiting >= self._rows_per_strip:
                joined = np.concatenate(self._waiting)
                self._write_strip(joined[: self._rows_per_strip])
                self._keep(joined[self._rows_per_strip :])
        self._keep(np.concatenate(self._waiting) if self._waiting else rows[:0])

    def finish(self) -> None:
        if self._rows_waiting:
            self._write_strip(np.concatenate(self._waiting))
        entries = self._entries()
        at = self._write_directory(entries)
        self._file.seek(8 if self._big else 4)
        self._file.write(struct.pack("<Q" if self._big else "<I", at))

    def _keep(self, rows: NDArray) -> None:
        self._waiting, self._rows_waiting = ([rows.copy()], len(rows)) if len(rows) else ([], 0)

    def _write(self, data: bytes) -> int:
        """Write at an even place, as the specification asks; where that was."""
        if self._at % 2:
            self._file.write(b"\0")
            self._at += 1
        start = self._at
        self._file.write(data)
        self._at += len(data)
        return start

    def _write_strip(self, rows: NDArray) -> None:
        differences = rows.copy()
        differences[:, 1:] -= rows[:, :-1]
        little = differences.astype("<u2") if differences.dtype == np.uint16 else differences
        data = zlib.compress(np.ascontiguousarray(little).data, _LEVEL)
        self._offsets.append(self._write(data))
        self._sizes.append(len(data))

    def _entries(self) -> dict[int, tuple[int, Any]]:
        header = self._header
        colours = header.channels - 1 + header.channels % 2
        bits = 8 * np.dtype(header.dtype).itemsize
        place = _LONG8 if self._big else _LONG
        entries: dict[int, tuple[int, Any]] = {
            256: (_LONG, [header.width]),
            257: (_LONG, [header.height]),
            258: (_SHORT, [bits] * header.channels),
            259: (_SHORT, [8]),  # Adobe deflate
            262: (_SHORT, [2 if colours == 3 else 1]),
            273: (place, self._offsets),
            274: (_SHORT, [1]),
            277: (_SHORT, [header.channels]),
            278: (_LONG, [self._rows_per_strip]),
            279: (place, self._sizes),
            284: (_SHORT, [1]),
            317: (_SHORT, [2]),  # horizontal differences
        }
        if header.channels in (2, 4):
            entries[338] = _SHORT, [2]  # alpha that isn't premultiplied
        if header.dpi:
            entries |= {282: (_RATIONAL, header.dpi[:1]), 283: (_RATIONAL, header.dpi[1:]), 296: (_SHORT, [2])}
        blocks = {700: (_BYTE, header.xmp), 33723: (_UNDEFINED, header.iptc), 34675: (_UNDEFINED, header.icc)}
        entries |= {tag: (kind, block) for tag, (kind, block) in blocks.items() if block}
        if header.exif:
            entries |= self._exif(header.exif)
        return entries

    def _exif(self, block: bytes) -> dict[int, tuple[int, Any]]:
        main, exif, gps = directories(block, self._header.width, self._header.height)
        entries: dict[int, tuple[int, Any]] = {}
        for tag, value in main.items():
            if isinstance(value, str):
                entries[tag] = _ASCII, value.encode() + b"\0"
            elif isinstance(value, int) and 0 <= value < 65536:
                entries[tag] = _SHORT, [value]
        for tag, values in ((_EXIF, exif), (_GPS, gps)):
            if values:
                directory = ImageFileDirectory_v2(
                    b"II+\0\x08\0\0\0\0\0\0\0\0\0\0\0" if self._big else b"II*\0\0\0\0\0", group=tag
                )
                for key, value in values.items():
                    directory[key] = value
                entries[tag] = _LONG8 if self._big else _LONG, [self._write(directory.tobytes(self._at + self._at % 2))]
        return entries

    def _write_directory(self, entries: dict[int, tuple[int, Any]]) -> int:
        room, count, link = (8, "<Q", "<Q") if self._big else (4, "<H", "<I")
        table = struct.pack(count, len(entries))
        for tag, (kind, value) in sorted(entries.items()):
            data, number = _packed(kind, value)
            if len(data) > room:
                data = struct.pack(link, self._write(data))
            table += struct.pack("<HHQ" if self._big else "<HHI", tag, kind, number) + data.ljust(room, b"\0")
        return self._write(table + struct.pack(link, 0))


def _needs_64_bits(header: Header) -> bool:
    return header.height * header.bytes_per_row * 1.01 + (64 << 20) > 2**32


def _packed(kind: int, value: Any) -> tuple[bytes, int]:
    if isinstance(value, bytes):
        return value, len(value)
    if kind == _RATIONAL:
        parts = [Fraction(number).limit_denominator(10_000) for number in value]
        return b"".join(struct.pack("<II", part.numerator, part.denominator) for part in parts), len(parts)
    return struct.pack(f"<{len(value)}{_FORMATS[kind]}", *value), len(value)

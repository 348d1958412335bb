"""Animations frame by frame: APNG (PNG, third edition, section 11.3.6) and WebP (RFC 9649, section 2.7).

Of each frame the smallest rectangle that differs from the one before is stored, and takes the place of what was there.
"""

import io
import struct
import zlib
from fractions import Fraction
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow

from sr_engine.data.encoders.header import Encoding, Header
from sr_engine.data.encoders.png import chunk, filtered, head
from sr_engine.data.encoders.whole import options

_MOST_WEBP_MS = 2**24 - 1


class ApngFrames:
    """`add` RGBA frames (H, W, 4) of uint8; `finish` ends the file."""

    def __init__(self, file: BinaryIO, header: Header, loop: int) -> None:
        self._file, self._loop, self._frames, self._number = file, loop, 0, 0
        self._before: NDArray | None = None
        start = head(header)
        self._control = file.tell() + start.index(b"IHDR") + 21  # behind the first chunk
        file.write(head(header, self._animation()))

    def add(self, frame: NDArray, duration_ms: float) -> None:
        top, left, bottom, right = changed(self._before, frame)
        part = frame[top:bottom, left:right]
        delay = Fraction(duration_ms / 1000).limit_denominator(65535)
        if delay.numerator > 65535:
            delay = Fraction(65535)
        shape = (right - left, bottom - top, left, top, delay.numerator, delay.denominator, 0, 0)
        self._file.write(chunk(b"fcTL", self._next() + struct.pack(">IIIIHHBB", *shape)))
        lines = np.ascontiguousarray(part).reshape(len(part), -1)
        above = np.concatenate((np.zeros_like(lines[:1]), lines[:-1]))
        data = zlib.compress(filtered(lines, above, 4).data, 5)
        self._file.write(chunk(b"IDAT", data) if self._frames == 0 else chunk(b"fdAT", self._next() + data))
        self._before, self._frames = frame, self._frames + 1

    def finish(self) -> None:
        self._file.write(chunk(b"IEND", b""))
        self._file.seek(self._control)
        self._file.write(self._animation())

    def _animation(self) -> bytes:
        return chunk(b"acTL", struct.pack(">II", self._frames, self._loop))

    def _next(self) -> bytes:
        self._number += 1
        return struct.pack(">I", self._number - 1)


class WebpFrames:
    """`add` RGBA frames (H, W, 4) of uint8; `finish` ends the file."""

    def __init__(self, file: BinaryIO, header: Header, loop: int, quality: int, lossless: bool) -> None:
        self._file, self._header, self._transparent = file, header, False
        self._encoding = Encoding("WEBP", quality, lossless)
        self._described = options(header, self._encoding)
        self._before: NDArray | None = None
        file.write(self._head())
        if icc := self._described.get("icc_profile"):
            file.write(_riff(b"ICCP", icc))
        file.write(_riff(b"ANIM", struct.pack("<IH", 0, min(loop, 65535))))

    def add(self, frame: NDArray, duration_ms: float) -> None:
        top, left, bottom, right = changed(self._before, frame)
        top, left = top - top % 2, left - left % 2  # places are stored halved
        part = np.ascontiguousarray(frame[top:bottom, left:right])
        opaque = bool((part[:, :, 3] == 255).all())
        self._transparent |= not opaque
        buffer = io.BytesIO()
        picture = Pillow.fromarray(np.ascontiguousarray(part[:, :, :3]) if opaque else part)
        lossless = self._encoding.lossless
        picture.save(buffer, "WEBP", quality=self._encoding.quality, lossless=lossless, exact=lossless)
        numbers = (left // 2, top // 2, right - left - 1, bottom - top - 1, min(round(duration_ms), _MOST_WEBP_MS))
        place = b"".join(number.to_bytes(3, "little") for number in numbers)
        replace = b"\2"  # neither blended with what was there nor removed afterwards
        self._file.write(_riff(b"ANMF", place + replace + _pictures(buffer.getvalue())))
        self._before = frame

    def finish(self) -> None:
        for name, block in ((b"EXIF", self._described.get("exif")), (b"XMP ", self._described.get("xmp"))):
            if block:
                self._file.write(_riff(name, block.removeprefix(b"Exif\0\0") if name == b"EXIF" else block))
        size = self._file.tell()
        if size >= 2**32 - 2:
            raise ValueError("a WebP file holds at most 4 GiB")
        self._file.seek(0)
        self._file.write(self._head(size - 8))

    def _head(self, size: int = 0) -> bytes:
        has = self._described
        flags = 0x02 | 0x10 * self._transparent
        flags |= 0x20 * ("icc_profile" in has) | 0x08 * ("exif" in has) | 0x04 * ("xmp" in has)
        canvas = b"".join((side - 1).to_bytes(3, "little") for side in (self._header.width, self._header.height))
        return b"RIFF" + struct.pack("<I", size) + b"WEBP" + _riff(b"VP8X", bytes((flags, 0, 0, 0)) + canvas)


def changed(before: NDArray | None, frame: NDArray) -> tuple[int, int, int, int]:
    """Top, left, bottom and right of where two frames differ; of two equal ones the first pixel."""
    if before is None:
        return 0, 0, frame.shape[0], frame.shape[1]
    differs = (before != frame).any(2)
    rows, columns = np.flatnonzero(differs.any(1)), np.flatnonzero(differs.any(0))
    if not len(rows):
        return 0, 0, 1, 1
    return int(rows[0]), int(columns[0]), int(rows[-1]) + 1, int(columns[-1]) + 1


def _pictures(content: bytes) -> bytes:
    """The chunks of a still WebP file that a frame of an animation holds."""
    parts, at = [], 12
    while at + 8 <= len(content):
        size = int.from_bytes(content[at + 4 : at + 8], "little")
        end = at + 8 + size + size % 2
        if content[at : at + 4] in (b"ALPH", b"VP8 ", b"VP8L"):
            parts.append(content[at:end])
        at = end
    return b"".join(parts)


def _riff(name: bytes, data: bytes) -> bytes:
    return name + struct.pack("<I", len(data)) + data + b"\0" * (len(data) % 2)

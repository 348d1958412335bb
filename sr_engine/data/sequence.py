"""How many pictures a file holds, from its structure alone: nothing is decompressed, and no claim is believed."""

import struct
from collections.abc import Iterator
from typing import Any, BinaryIO

_MOST_PAGES = 10_000


def frames_in(file: Any, stream: BinaryIO) -> int:
    """Frames of the animation in an opened GIF, PNG, WebP or AVIF file; 1 for what isn't one.

    Args:
        file: the opened Pillow picture, for its format. stream: its file; where it stands is kept.
    """
    place = stream.tell()
    try:
        match file.format:
            case "GIF":
                count = sum(1 for _ in _gif_frames(stream))
            case "PNG":
                count = sum(name == b"fcTL" for name in _png_chunks(stream))
            case "WEBP":
                count = sum(name == b"ANMF" for name in _riff_chunks(stream))
            case "AVIF":
                count = getattr(file, "n_frames", 1)
            case _:
                count = 1
    finally:
        stream.seek(place)
    return max(1, count)


def pages_in(stream: BinaryIO) -> int:
    """Pages of a TIFF, as far as their chain is sound, at most 10,000."""
    place = stream.tell()
    end = stream.seek(0, 2)
    try:
        return max(1, sum(1 for _ in _tiff_pages(stream, end)))
    finally:
        stream.seek(place)


def _gif_frames(stream: BinaryIO) -> Iterator[None]:
    """One for each image descriptor (GIF89a, section 20)."""
    stream.seek(10)
    flags = stream.read(3)[:1]
    if flags and flags[0] & 0x80:
        stream.seek(3 << ((flags[0] & 7) + 1), 1)
    while block := stream.read(1):
        if block == b"!":
            stream.seek(1, 1)
        elif block == b",":
            descriptor = stream.read(9)
            if len(descriptor) < 9:
                return
            yield
            if descriptor[8] & 0x80:
                stream.seek(3 << ((descriptor[8] & 7) + 1), 1)
            stream.seek(1, 1)
        else:
            return
        while (size := stream.read(1)) and size[0]:
            stream.seek(size[0], 1)


def _png_chunks(stream: BinaryIO) -> Iterator[bytes]:
    stream.seek(8)
    while len(head := stream.read(8)) == 8:
        size, name = struct.unpack(">I4s", head)
        yield name
        stream.seek(size + 4, 1)


def _riff_chunks(stream: BinaryIO) -> Iterator[bytes]:
    stream.seek(12)
    while len(head := stream.read(8)) == 8:
        name, size = struct.unpack("<4sI", head)
        yield name
        stream.seek(size + size % 2, 1)


def _tiff_pages(stream: BinaryIO, end: int) -> Iterator[None]:
    stream.seek(0)
    head = stream.read(16)
    order, big = "<" if head[:2] == b"II" else ">", b"\x2b" in head[2:4]
    number, entry, link = ("Q", 20, "Q") if big else ("H", 12, "I")
    seen: set[int] = set()
    at = _number(head[8:16] if big else head[4:8], order + link)
    while 0 < at < end and at not in seen and len(seen) < _MOST_PAGES:
        seen.add(at)
        stream.seek(at)
        entries = _number(stream.read(struct.calcsize(number)), order + number)
        if not 0 < entries < 65536:
            return
        yield
        stream.seek(entries * entry, 1)
        at = _number(stream.read(struct.calcsize(link)), order + link)


def _number(data: bytes, form: str) -> int:
    return struct.unpack(form, data)[0] if len(data) == struct.calcsize(form) and data else 0

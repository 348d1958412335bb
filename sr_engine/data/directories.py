"""Directories of tags, as TIFF and EXIF have them, looked at before anybody loads them.

Each of up to 65,535 entries may point at the same megabytes, and a reader that keeps each entry's value would need all
of that: a file of 20 MB could ask for a terabyte.
"""

import io
import struct
from typing import BinaryIO

HEADS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
_NESTED = (34665, 34853, 40965)  # EXIF, GPS, interoperability
_SPARE = 1 << 20
_APP1, _START_OF_SCAN = 0xE1, 0xDA


def asks_too_much(stream: BinaryIO) -> bool:
    """Whether the values of a TIFF's first directory and those nested in it are several times as long as the file.

    False for files of other kinds. The place in the stream is kept.
    """
    place = stream.tell()
    end = stream.seek(0, 2)
    stream.seek(0)
    head = stream.read(16)
    asked, waiting, seen = 0, [], set()
    if head[:4] in HEADS:
        order, big = "<" if head[:2] == b"II" else ">", 43 in head[2:4]
        waiting = [int.from_bytes(head[8:16] if big else head[4:8], "little" if order == "<" else "big")]
        while waiting and len(seen) < 8:
            at = waiting.pop()
            if at < end and at not in seen:
                seen.add(at)
                size, nested = _directory(stream, at, end, order, big)
                asked += size
                waiting += nested
    stream.seek(place)
    return asked > 4 * end + _SPARE


def jpeg_exif(stream: BinaryIO) -> BinaryIO:
    """The EXIF block of a JPEG file, which may be spread over segments; empty for other files."""
    place = stream.tell()
    stream.seek(0)
    parts: list[bytes] = []
    if stream.read(2) == b"\xff\xd8":
        while len(head := stream.read(4)) == 4 and head[0] == 0xFF and head[1] != _START_OF_SCAN:
            size = max(0, int.from_bytes(head[2:]) - 2)
            if head[1] == _APP1:
                segment = stream.read(size)
                parts += [segment[6:]] if segment.startswith(b"Exif\0\0") else []
            else:
                stream.seek(size, 1)
    stream.seek(place)
    return io.BytesIO(b"".join(parts))


def _directory(stream: BinaryIO, at: int, end: int, order: str, big: bool) -> tuple[int, list[int]]:
    """Bytes of values that lie within the file, which are those that a reader takes, and places of directories."""
    number, entry = (order + "Q", order + "HHQQ") if big else (order + "H", order + "HHII")
    stream.seek(at)
    count = stream.read(struct.calcsize(number))
    if len(count) < struct.calcsize(number):
        return 0, []
    entries = stream.read(min(struct.unpack(number, count)[0], 65535) * struct.calcsize(entry))
    asked, nested = 0, []
    whole = len(entries) - len(entries) % struct.calcsize(entry)
    for tag, kind, values, place in struct.iter_unpack(entry, entries[:whole]):
        size = values * _SIZES.get(kind, 1)
        if size <= end:
            asked += size
        if tag in _NESTED:
            nested.append(place)
    return asked, nested

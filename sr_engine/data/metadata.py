"""What a picture file says besides its pixels: profile, EXIF, XMP, IPTC, resolution; and where its formats keep it.

A description that cannot be read never costs the picture: it is left out, and a note says so.
"""

import io
import math
import re
import struct
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

from sr_engine.data.directories import asks_too_much
from sr_engine.data.exif import ORIENTATION, kept_exif, resolution

# What XMP says of the old pixels: size, orientation, resolution, previews (XMP specification part 2, tiff: and exif:).
_OF_OLD_PIXELS = rb"tiff:(?:Orientation|ImageWidth|ImageLength|XResolution|YResolution|ResolutionUnit)"
_OF_OLD_PIXELS += rb"|exif:Pixel[XY]Dimension|xmp:Thumbnails|xap:Thumbnails"
_XMP_ATTRIBUTE = re.compile(rb"\s(?:" + _OF_OLD_PIXELS + rb")\s*=\s*(?:\"[^\"]*\"|'[^']*')")
_XMP_ELEMENT = re.compile(rb"<(" + _OF_OLD_PIXELS + rb")(?:\s[^>]*)?(?:/>|>.*?</\1\s*>)", re.DOTALL)
_LARGEST = 16 << 20  # bytes of one description
_IPTC_RESOURCE = 0x0404  # Adobe's "Photoshop image resources"
_XMP_TAG, _IPTC_TAG, _PHOTOSHOP_TAG = 700, 33723, 34377
_COLOUR_SPACES = {1: b"GRAY", 3: b"RGB "}
T = TypeVar("T")


class BrokenError(Exception):
    """A description that cannot be read."""


class Metadata(NamedTuple):
    """See `sr_engine.data.images.Image`; `orientation` is EXIF's 1..8, which is not left in `exif` or `xmp`."""

    orientation: int = 1
    exif: bytes | None = None
    xmp: bytes | None = None
    iptc: bytes | None = None
    dpi: tuple[float, float] | None = None
    notes: tuple[str, ...] = ()


def read_metadata(file: Any) -> Metadata:
    """Of an opened Pillow picture; a PNG must be loaded already (its EXIF may come last), a TIFF must not yet be."""
    notes: list[str] = []
    exif = _attempt(lambda: read_exif(file), "EXIF", notes)
    orientation = _attempt(lambda: exif.get(ORIENTATION, 1) if exif else 1, "EXIF", notes)
    block = _attempt(lambda: kept_exif(exif, of_tiff=file.format == "TIFF") if exif else None, "EXIF", notes)
    xmp = _attempt(lambda: _xmp(file), "XMP", notes)
    iptc = _attempt(lambda: _iptc(file), "IPTC", notes)
    dpi = _sensible(file.info.get("dpi"))
    if dpi is None and exif:
        dpi = _attempt(lambda: _sensible(resolution(exif)), "EXIF", notes)
    upright = orientation if isinstance(orientation, int) else 1
    return Metadata(upright, _small(block), _small(xmp), _small(iptc), dpi, tuple(dict.fromkeys(notes)))


def read_exif(file: Any) -> Any:
    """The EXIF of an opened Pillow picture.

    Raises:
        BrokenError: it would take much more memory than it has bytes. Whatever Pillow raises.
    """
    block = file.info.get("exif")
    if isinstance(block, bytes) and asks_too_much(io.BytesIO(block.removeprefix(b"Exif\0\0"))):
        raise BrokenError
    return file.getexif()


def fitting_profile(icc: object, channels: int) -> bytes | None:
    """A colour profile if it is one (ICC.1, 7.2) for pictures with so many channels of colour, else None."""
    if not isinstance(icc, bytes) or len(icc) < 132 or icc[36:40] != b"acsp":
        return None
    return icc if icc[16:20] == _COLOUR_SPACES[channels] else None


def photoshop_block(iptc: bytes) -> bytes:
    """An IPTC block as Photoshop's image resource, in which JPEG and PNG hold it."""
    return b"8BIM" + struct.pack(">HHI", _IPTC_RESOURCE, 0, len(iptc)) + iptc + b"\0" * (len(iptc) % 2)


def _attempt(read: Callable[[], T], what: str, notes: list[str]) -> T | None:
    try:
        return read()
    except Exception:  # Pillow's readers throw nearly anything at damaged descriptions
        notes.append(f"its {what} data could not be read and was left out")
        return None


def _small(block: bytes | None) -> bytes | None:
    return block if block and len(block) <= _LARGEST else None


def _sensible(dpi: object) -> tuple[float, float] | None:
    try:
        x, y = (float(value) for value in dpi)  # pyright: ignore[reportGeneralTypeIssues]
    except (TypeError, ValueError, ZeroDivisionError, OverflowError):
        return None
    return (x, y) if all(math.isfinite(value) and 1 < value < 1e5 for value in (x, y)) else None


def _bytes(value: object) -> bytes | None:
    if isinstance(value, str):
        return value.encode()
    return value if isinstance(value, bytes) else None


def _tag(file: Any, tag: int) -> bytes | None:
    """Bytes of a TIFF's tag, which some programs say to be 32-bit words."""
    value = file.tag_v2.get(tag) if file.format == "TIFF" else None
    if isinstance(value, tuple) and all(isinstance(word, int) and 0 <= word < 2**32 for word in value):
        order = "<" if file.tag_v2.prefix == b"II" else ">"
        return bytes(value) if max(value, default=0) < 256 else struct.pack(f"{order}{len(value)}I", *value)
    return _bytes(value[0] if isinstance(value, tuple) and len(value) == 1 else value)


def _xmp(file: Any) -> bytes | None:
    packet = _bytes(file.info.get("xmp")) or _tag(file, _XMP_TAG)
    packet = packet or _raw_profile(file, "xmp") or _bytes(file.info.get("XML:com.adobe.xmp"))
    if not packet or len(packet) > _LARGEST:
        return None
    packet = _XMP_ATTRIBUTE.sub(b"", _XMP_ELEMENT.sub(b"", packet.strip(b"\0 \r\n")))
    return packet or None


def _iptc(file: Any) -> bytes | None:
    resources = file.info.get("photoshop")
    if isinstance(resources, dict) and isinstance(resources.get(_IPTC_RESOURCE), bytes):
        return resources[_IPTC_RESOURCE] or None
    if block := _tag(file, _IPTC_TAG):
        return block.rstrip(b"\0") or None
    found = _tag(file, _PHOTOSHOP_TAG) or _raw_profile(file, "iptc")
    return None if not found else found if found[:1] == b"\x1c" else _from_photoshop(found)


def _from_photoshop(resources: bytes) -> bytes | None:
    at = resources.find(b"8BIM")
    while at >= 0 and at + 12 <= len(resources):
        (number, name) = struct.unpack_from(">HB", resources, at + 4)
        data = at + 6 + (name + 2) // 2 * 2
        size = int.from_bytes(resources[data : data + 4])
        if number == _IPTC_RESOURCE:
            return resources[data + 4 : data + 4 + size] or None
        at = resources.find(b"8BIM", data + 4 + size)
    return None


def _raw_profile(file: Any, kind: str) -> bytes | None:
    """What ImageMagick and ExifTool write into PNG text: a name, a length, and the bytes as hexadecimal digits."""
    text = file.info.get(f"Raw profile type {kind}")
    if isinstance(text, bytes):
        text = text.decode("latin-1")
    if not isinstance(text, str):
        return None
    parts = text.strip().split("\n", 2)
    try:
        return bytes.fromhex("".join(parts[2].split())) if len(parts) == 3 else None
    except ValueError:
        raise BrokenError from None

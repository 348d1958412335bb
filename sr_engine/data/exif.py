"""EXIF, as far as a new picture may keep it: not what describes the old file's pixels, size, place or preview."""

from numbers import Real
from typing import Any

from PIL import ExifTags
from PIL import Image as Pillow

ORIENTATION = 0x0112
_X_RESOLUTION, _Y_RESOLUTION, _RESOLUTION_UNIT = 0x011A, 0x011B, 0x0128
_PIXEL_WIDTH, _PIXEL_HEIGHT = 0xA002, 0xA003
_EXIF, _GPS, _INTEROP = ExifTags.IFD.Exif, ExifTags.IFD.GPSInfo, ExifTags.IFD.Interop
# Of the directory that is also a TIFF's own, what is true of the photograph rather than of the file:
# ImageDescription, Make, Model, Software, DateTime, Artist, HostComputer, Rating, Copyright.
_OF_THE_PHOTOGRAPH = (270, 271, 272, 305, 306, 315, 316, 18246, 33432)
# Windows' titles and comments, and what cameras add to them.
_ALSO_KEPT = (18249, 40091, 40092, 40093, 40094, 40095, 50341)
_INCHES_PER_UNIT = {1: 1.0, 2: 1.0, 3: 2.54}


def kept_exif(source: Pillow.Exif, *, of_tiff: bool) -> bytes | None:
    """The block for a new file, from what a file has; None when nothing is left.

    Orientation, sizes, resolution and the preview picture are left out; of a TIFF, whose directory of strips Pillow
    gives as EXIF, the true EXIF and GPS directories are taken, and of its own what is true of the photograph.
    """
    kept = Pillow.Exif()
    for tag in _OF_THE_PHOTOGRAPH if of_tiff else (*_OF_THE_PHOTOGRAPH, *_ALSO_KEPT):
        value = source.get(tag)
        if value is not None and value != b"" and value != "":
            kept[tag] = value
    for directory in (_EXIF, _GPS):
        inner = {
            tag: value for tag, value in source.get_ifd(directory).items() if tag not in (_PIXEL_WIDTH, _PIXEL_HEIGHT)
        }
        if directory == _EXIF and _INTEROP in inner:
            inner[_INTEROP] = source.get_ifd(_INTEROP)
        kept.get_ifd(directory).update(inner)
    block = kept.tobytes() if len(kept) or any(kept.get_ifd(directory) for directory in (_EXIF, _GPS)) else None
    if block is not None:
        _read(block).tobytes()  # what cannot be read again must not be handed on
    return block


def resolution(source: Pillow.Exif) -> tuple[float, float] | None:
    """Pixels per inch that an EXIF block says, unchecked."""
    x, y = source.get(_X_RESOLUTION), source.get(_Y_RESOLUTION)
    factor = _INCHES_PER_UNIT.get(source.get(_RESOLUTION_UNIT, 2))
    if factor is None or not isinstance(x, Real) or not isinstance(y, Real):
        return None
    return float(x) * factor, float(y) * factor


def written_exif(block: bytes | None, width: int, height: int, dpi: tuple[float, float] | None) -> bytes | None:
    """`block` with the size in pixels and the resolution of the file it goes into; begins with b"Exif\\0\\0"."""
    if block is None:
        return None
    exif = _read(block)
    _describe(exif, width, height, dpi)
    return exif.tobytes()


def resolution_alone(dpi: tuple[float, float]) -> bytes:
    """A block that says the resolution and nothing else, for formats with no other place for it."""
    exif = Pillow.Exif()
    exif[_X_RESOLUTION], exif[_Y_RESOLUTION], exif[_RESOLUTION_UNIT] = dpi[0], dpi[1], 2
    return exif.tobytes()


def directories(block: bytes, width: int, height: int) -> tuple[dict[int, Any], dict[int, Any], dict[int, Any]]:
    """The main, EXIF and GPS directories of a block, for a TIFF, which keeps them apart."""
    exif = _read(block)
    _describe(exif, width, height, None)
    inner = dict(exif.get_ifd(_EXIF))
    if _INTEROP in inner:
        inner[_INTEROP] = dict(exif.get_ifd(_INTEROP))
    main = {tag: exif[tag] for tag in exif if tag in _OF_THE_PHOTOGRAPH}
    return main, inner, dict(exif.get_ifd(_GPS))


def _read(block: bytes) -> Pillow.Exif:
    exif = Pillow.Exif()
    exif.load(block)
    return exif


def _describe(exif: Pillow.Exif, width: int, height: int, dpi: tuple[float, float] | None) -> None:
    if inner := exif.get_ifd(_EXIF):
        inner[_PIXEL_WIDTH], inner[_PIXEL_HEIGHT] = width, height
    if dpi is not None:
        exif[_X_RESOLUTION], exif[_Y_RESOLUTION], exif[_RESOLUTION_UNIT] = dpi[0], dpi[1], 2

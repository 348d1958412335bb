"""What a file is, told from its first bytes: names lie. And what to do with those that are no pictures for us."""

import struct
from pathlib import Path
from typing import BinaryIO

from sr_engine.data.directories import HEADS, asks_too_much, jpeg_exif
from sr_engine.errors import ImageFileError

HEAD = 1024  # bytes looked at
_DEVELOP = "develop it to a 16-bit TIFF with a raw converter (darktable, RawTherapee) first"
_FIRST_FRAME = "take its frames apart first (ffmpeg -i FILE frame%05d.png)"
_EXPORT = "export it as PNG or TIFF first"
_RAW = {
    ".3fr", ".ari", ".arw", ".bay", ".cap", ".cr2", ".cr3", ".crw", ".dcr", ".dng", ".erf", ".fff", ".gpr", ".iiq",
    ".k25", ".kdc", ".mef", ".mos", ".mrw", ".nef", ".nrw", ".orf", ".pef", ".ptx", ".raf", ".raw", ".rw2", ".rwl",
    ".sr2", ".srf", ".srw", ".x3f",
}  # fmt: skip
_RAW_HEADS = (b"FUJIFILMCCD-RAW", b"IIRO", b"IIRS", b"MMOR", b"IIU\0", b"FOVb", b"\0MRM", b"II\x1a\0\0\0HEAPCCDR")
_HEADS: tuple[tuple[bytes, str, str], ...] = (
    (b"8BPS", "a Photoshop document", _EXPORT),
    (b"gimp xcf", "a GIMP document", _EXPORT),
    (b"v/1\x01", "an OpenEXR picture of linear light", "convert it to a 16-bit TIFF first"),
    (b"#?RADIANCE", "a Radiance HDR picture of linear light", "convert it to a 16-bit TIFF first"),
    (b"\xff\x0a", "a JPEG XL picture", "convert it to PNG first (djxl FILE out.png)"),
    (b"\0\0\0\x0cJXL \r\n\x87\n", "a JPEG XL picture", "convert it to PNG first (djxl FILE out.png)"),
    (b"\0\0\0\x0cjP  ", "a JPEG 2000 picture", "convert it to PNG first"),
    (b"\xff\x4f\xff\x51", "a JPEG 2000 picture", "convert it to PNG first"),
    (b"%PDF", "a PDF document", "render its pages as pictures first (pdftoppm -png FILE page)"),
    (b"%!PS", "a PostScript document", "render its pages as pictures first"),
    (b"\x1aE\xdf\xa3", "a video (Matroska or WebM)", _FIRST_FRAME),
    (b"OggS", "a video (Ogg)", _FIRST_FRAME),
    (b"FLV\x01", "a video (Flash)", _FIRST_FRAME),
    (b"\0\0\x01\xba", "a video (MPEG)", _FIRST_FRAME),
    (b"\0\0\x01\xb3", "a video (MPEG)", _FIRST_FRAME),
    (b"\x30\x26\xb2\x75\x8e\x66\xcf\x11", "a video (Windows Media)", _FIRST_FRAME),
    (b"DDS ", "a DirectDraw texture", _EXPORT),
    (b"qoif", "a QOI picture", "convert it to PNG first"),
    (b"\0\0\x01\0", "an icon file", _EXPORT),
    (b"PK\x03\x04", "a ZIP archive", "unpack it first"),
    (b"\x1f\x8b", "a gzip archive", "unpack it first"),
    (b"version https://git-lfs", "a Git LFS pointer, not the file itself", "fetch it first (git lfs pull)"),
)
_HEIC_BRANDS = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs", b"mif1", b"msf1", b"heif"}
_AVIF_BRANDS = {b"avif", b"avis"}
_OWNERS = {
    ".png": "PNG", ".apng": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".jpe": "JPEG", ".jfif": "JPEG", ".webp": "WEBP",
    ".tif": "TIFF", ".tiff": "TIFF", ".bmp": "BMP", ".gif": "GIF", ".ppm": "PPM", ".pgm": "PPM", ".pnm": "PPM",
    ".pbm": "PPM", ".avif": "AVIF", ".heic": "HEIF", ".heif": "HEIF", ".hif": "HEIF",
}  # fmt: skip
_NEW_SUBFILE_TYPE, _SUB_IFDS, _DNG_VERSION, _MAKE = 254, 330, 50706, 271


def check_kind(path: Path, stream: BinaryIO) -> str | None:
    """Which of our kinds a file is when Pillow alone cannot say so: "HEIF", or None for all others.

    Raises:
        ImageFileError: a kind that isn't read: camera raw, videos, documents, other programs' formats; with a hint.
    """
    stream.seek(0)
    head = stream.read(HEAD)
    stream.seek(0)
    if head[4:8] == b"ftyp":
        return _check_iso_media(path, head)
    if asks_too_much(stream) or asks_too_much(jpeg_exif(stream)):
        raise ImageFileError(f"{path}: has tags that ask for much more memory than the file has bytes.")
    if _is_raw(path, stream, head):
        raise ImageFileError(f"{path}: is a camera raw file: {_DEVELOP}.")
    for start, kind, hint in _HEADS:
        if head.startswith(start):
            raise ImageFileError(f"{path}: is {kind}: {hint}.")
    if head[:4] == b"RIFF" and head[8:12] == b"AVI ":
        raise ImageFileError(f"{path}: is a video (AVI): {_FIRST_FRAME}.")
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if text.startswith((b"<!doctype html", b"<html")):
        raise ImageFileError(f"{path}: is a web page, as saved in place of a picture: download the picture itself.")
    if text.startswith((b"<svg", b"<?xml", b"<!doctype svg")) and (b"<svg" in text or path.suffix.lower() == ".svg"):
        raise ImageFileError(f"{path}: is an SVG drawing, which has no pixels: render it in the size you want.")
    return None


def _check_iso_media(path: Path, head: bytes) -> str | None:
    """By the brands of an ISO media file (ISO/IEC 14496-12, section 4.3), the major one first."""
    size = min(int.from_bytes(head[:4]), len(head))
    brands = [head[8:12], *(head[at : at + 4] for at in range(16, size, 4))]
    if brands[0] == b"crx ":
        raise ImageFileError(f"{path}: is a camera raw file: {_DEVELOP}.")
    if any(brand in _AVIF_BRANDS for brand in brands):
        return None
    if any(brand in _HEIC_BRANDS for brand in brands):
        return "HEIF"
    if brands[0] in (b"jp2 ", b"jpx "):
        raise ImageFileError(f"{path}: is a JPEG 2000 picture: convert it to PNG first.")
    raise ImageFileError(f"{path}: is a video (MP4 or QuickTime): {_FIRST_FRAME}.")


def _is_raw(path: Path, stream: BinaryIO, head: bytes) -> bool:
    if head.startswith(_RAW_HEADS) or (head[:4] == b"II*\0" and head[8:10] == b"CR"):
        return True
    if head[:4] not in HEADS:
        return False
    # Most raw files are TIFFs: by their name, by Adobe's tag, or as cameras make them: a preview before the rest.
    tags = _first_tags(stream, head)
    preview = tags.get(_NEW_SUBFILE_TYPE, 0) & 1 and _SUB_IFDS in tags and _MAKE in tags
    return path.suffix.lower() in _RAW or _DNG_VERSION in tags or bool(preview)


def _first_tags(stream: BinaryIO, head: bytes) -> dict[int, int]:
    """Tags of a classic TIFF's first directory, with their value fields as numbers."""
    order = "<" if head[:2] == b"II" else ">"
    if len(head) < 8 or head[2:4] not in (b"*\0", b"\0*"):
        return {}
    stream.seek(struct.unpack_from(f"{order}I", head, 4)[0])
    count = stream.read(2)
    entries = stream.read(12 * struct.unpack(f"{order}H", count)[0]) if len(count) == 2 else b""
    stream.seek(0)
    tags: dict[int, int] = {}
    for at in range(0, len(entries) - 11, 12):
        tag, kind = struct.unpack_from(f"{order}HH", entries, at)
        tags[tag] = struct.unpack_from(f"{order}H" if kind == 3 else f"{order}I", entries, at + 8)[0]
    return tags


def named_otherwise(path: Path, form: str) -> str | None:
    """A note when a file's suffix belongs to another format than it is in."""
    suffix = path.suffix.lower()
    owner = _OWNERS.get(suffix)
    family = "JPEG" if form == "MPO" else form
    return None if owner in (None, family) else f"it is a {family} file although its name ends in {suffix}"


def register_heif(path: Path) -> None:
    """Make Pillow read HEIC and HEIF.

    Raises:
        ImageFileError: the package for it is missing.
    """
    try:
        import pillow_heif  # pyright: ignore[reportMissingImports]
    except ImportError:
        raise ImageFileError(f"{path}: is a HEIC picture: pip install 'sr-engine[heif]' to read these.") from None
    pillow_heif.register_heif_opener(thumbnails=False)

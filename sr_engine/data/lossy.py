"""Whether a picture file was compressed with loss, told from its content: names of files lie."""

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from PIL import Image as Pillow

from sr_engine.data.directories import HEADS, asks_too_much
from sr_engine.data.opened import picture_file

_TIFF_COMPRESSION = 259
# TIFF 6.0 section 22, Adobe's technical note 2, and what libtiff registered since. JPEG 2000 and WebP can do without
# loss, but nobody who wants that chooses them within a TIFF.
_LOSSY_IN_TIFF = {6: "JPEG", 7: "JPEG", 34712: "JPEG 2000", 34892: "JPEG", 50001: "WebP"}
_BRANDS = {
    **dict.fromkeys((b"avif", b"avis"), "AVIF"),
    **dict.fromkeys((b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs"), "HEIC"),
}
_ANIMATION_FRAME = 16  # bytes of an ANMF chunk before the chunks inside it


def lossy_format(path: str | Path, content: bytes | None = None) -> str | None:
    """Which format with loss a picture file has: "JPEG" (MPO too), "lossy WebP", "AVIF", "HEIC" or such as "TIFF with
    JPEG inside"; None for one without loss, and for what cannot be read or is no picture.

    Args:
        content: the file's bytes where they come from elsewhere; `path` is then not looked at.

    Only the header is read, not the picture. AVIF and HEIC count as lossy always.
    """
    try:
        with picture_file(Path(path), content, header_only=True) as file:
            head = file.read(32)
            if head.startswith(b"\xff\xd8\xff"):
                return "JPEG"
            if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
                return "lossy WebP" if _webp_is_lossy(file) else None
            if head[4:8] == b"ftyp":
                return _brand(file)
            if head[:4] in HEADS:
                return _inside_tiff(file)
    except Exception:  # Pillow's readers throw nearly anything at damaged files; whoever decodes the picture says what
        return None
    return None


def _webp_is_lossy(file: BinaryIO) -> bool:
    """By the first picture: a plain file has one chunk, an extended one has it behind others or in a frame."""
    file.seek(12)
    return next((name == b"VP8 " for name in _chunks(file) if name in (b"VP8 ", b"VP8L")), False)


def _chunks(file: BinaryIO) -> Iterator[bytes]:
    """Names of the chunks from here on; those in a frame of an animation follow its name."""
    while len(header := file.read(8)) == 8:
        name, size = struct.unpack("<4sI", header)
        yield name
        file.seek(_ANIMATION_FRAME if name == b"ANMF" else size + size % 2, 1)


def _brand(file: BinaryIO) -> str | None:
    """By the brands of an ISO media file (ISO/IEC 14496-12, section 4.3), the major one first."""
    file.seek(0)
    (size,) = struct.unpack(">I", file.read(4))
    box = file.read(min(size, 4096) - 4)
    brands = [box[4:8], *(box[at : at + 4] for at in range(12, len(box), 4))]
    return next((_BRANDS[brand] for brand in brands if brand in _BRANDS), None)


def _inside_tiff(stream: BinaryIO) -> str | None:
    if asks_too_much(stream):
        return None
    stream.seek(0)
    with Pillow.open(stream, formats=("TIFF",)) as file:
        compression = getattr(file, "tag_v2", {}).get(_TIFF_COMPRESSION)
    inner = _LOSSY_IN_TIFF.get(compression) if isinstance(compression, int) else None
    return None if inner is None else f"TIFF with {inner} inside"

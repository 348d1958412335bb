"""Pictures in and out of files: what the eye sees goes into `pixels`, everything else is kept beside it.

Values stay as displayed (sRGB or whatever the ICC profile says, never linear light) and keep their bit depth.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow

from sr_engine.data.decode import decode, upright
from sr_engine.data.deep import is_tiff, load_tiff
from sr_engine.data.exif import ORIENTATION
from sr_engine.data.kinds import check_kind, named_otherwise, register_heif
from sr_engine.data.metadata import Metadata, fitting_profile, read_exif, read_metadata
from sr_engine.data.opened import picture_file
from sr_engine.data.rows import Encoding, Header, row_writer
from sr_engine.data.samples import from_float, over_white, to_float, to_rgb, to_uint8
from sr_engine.data.sequence import frames_in, pages_in
from sr_engine.errors import ImageFileError

__all__ = [
    "FORMATS",
    "READABLE",
    "SUFFIXES",
    "Image",
    "flattened",
    "from_float",
    "header_of",
    "image_size",
    "output_format",
    "read_image",
    "samples_of",
    "to_float",
    "to_rgb",
    "to_uint8",
    "write_image",
]

# Decoders that run other programs (EPS) or are rarely fuzzed stay shut.
FORMATS = ("PNG", "JPEG", "WEBP", "TIFF", "BMP", "GIF", "PPM", "AVIF")
# What a folder is searched for, to train on; READABLE is what can be upscaled: also what is seldom meant for training.
SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".bmp", ".ppm", ".pgm", ".avif"})
READABLE = SUFFIXES | {".gif", ".heic", ".heif", ".hif", ".apng", ".jpe", ".jfif", ".pnm", ".pbm"}

_WRITERS = {
    ".png": "PNG",
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".webp": "WEBP",
    ".tif": "TIFF",
    ".tiff": "TIFF",
    ".bmp": "BMP",
    ".avif": "AVIF",
    ".gif": "GIF",
    ".ppm": "PPM",
    ".pgm": "PPM",
}
_ROWS = 256  # written at once


@dataclass(frozen=True)
class Image:
    """A decoded picture, upright.

    pixels: (H, W, 3) RGB or (H, W, 1) grey, uint8 or uint16, full range.
    alpha:  (H, W) of the same dtype, or None when the file has no transparency; colour is not premultiplied.
    icc:    colour profile of `pixels`, None when the file has none or its profile was for another colour model.
    exif:   EXIF block without what describes the old file: orientation (`pixels` is upright already), sizes,
            resolution, preview; None when there is none.
    xmp:    XMP packet, without the same.
    iptc:   block of IPTC-IIM records.
    dpi:    pixels per inch, across and down.
    notes:  a short sentence for each thing that reading changed.
    """

    pixels: NDArray[np.uint8] | NDArray[np.uint16]
    alpha: NDArray[np.uint8] | NDArray[np.uint16] | None = None
    icc: bytes | None = None
    exif: bytes | None = None
    xmp: bytes | None = None
    iptc: bytes | None = None
    dpi: tuple[float, float] | None = None
    notes: tuple[str, ...] = ()


def read_image(path: str | Path, content: bytes | None = None) -> Image:
    """Decode a PNG, JPEG, WebP, TIFF, BMP, GIF, PPM or AVIF file, with the extra `heif` a HEIC file; of several frames
    the first. The content counts, not the suffix.

    The EXIF orientation is applied. Palettes and 1-bit pictures are expanded; CMYK goes through its profile to sRGB
    where there is one; 16-bit grey and RGB stay 16-bit.

    Args:
        content: the file's bytes where they come from elsewhere; `path` is then only its name in messages.

    Raises:
        ImageFileError: missing, not a picture, truncated, 32-bit samples, or a header that says more than 178,956,970
            pixels (twice `PIL.Image.MAX_IMAGE_PIXELS`), before memory is taken for them.
    """
    path = Path(path)
    with picture_file(path, content) as stream:
        try:
            file = open_picture(stream, path)
        except Pillow.UnidentifiedImageError:
            if not is_tiff(stream):
                raise
            return _image(load_tiff(stream, path), Metadata(), None, [])
        with file:
            # A TIFF's directories are gone once it is loaded; a PNG's EXIF may come after its pixels.
            early = read_metadata(file) if file.format == "TIFF" else None
            kind_note = named_otherwise(path, file.format) if content is None else None
            counted = _several(file, stream)
            icc, mode = file.info.get("icc_profile"), file.mode
            samples, notes = decode(file, path, lambda: open_picture(stream, path))
            notes[:0] = [*([kind_note] if kind_note else []), *counted]
            if file.format == "HEIF" and file.info.get("bit_depth", 8) > 8:
                notes.append(f"its {file.info['bit_depth']} bits were rounded to 8")
            metadata = early or read_metadata(file)
            if early is None:  # Pillow turns TIFFs itself, and only them
                samples = upright(samples, metadata.orientation)
        return _image(samples, metadata, None if mode in ("CMYK", "LAB") else icc, notes)


def _several(file: Any, stream: BinaryIO) -> list[str]:
    pages = file.format == "TIFF"
    count = pages_in(stream) if pages else frames_in(file, stream)
    return [f"the first of {count} {'pages' if pages else 'frames'} was taken"] if count > 1 else []


def _image(samples: NDArray, metadata: Metadata, icc: bytes | None, notes: list[str]) -> Image:
    channels = samples.shape[2]
    alpha = np.ascontiguousarray(samples[:, :, -1]) if channels in (2, 4) else None
    pixels = np.ascontiguousarray(samples[:, :, : channels - 1 + channels % 2])
    profile = fitting_profile(icc, pixels.shape[2])
    if icc and profile is None:
        notes.append("its colour profile is broken or for another kind of colour and was left out")
    said = tuple(f"{note}." for note in (*notes, *metadata.notes))
    return Image(pixels, alpha, profile, metadata.exif, metadata.xmp, metadata.iptc, metadata.dpi, said)


def image_size(path: str | Path, content: bytes | None = None) -> tuple[int, int]:
    """Height and width as displayed, read from the header alone.

    Raises:
        ImageFileError: as `read_image`, as far as the header shows.
    """
    path = Path(path)
    with picture_file(path, content, header_only=True) as stream, open_picture(stream, path) as file:
        width, height = file.size
        # Asking a PNG without EXIF in its header for EXIF would decode all of it.
        known = file.format != "PNG" or "exif" in file.info
        turned = known and _orientation(file) in (5, 6, 7, 8)
        if file.format == "TIFF" and file.tag_v2.get(ORIENTATION) in (5, 6, 7, 8):
            turned = False  # Pillow has turned the size already, which it doesn't where XMP alone says so
        return (width, height) if turned else (height, width)


def _orientation(file: Any) -> object:
    try:
        return read_exif(file).get(ORIENTATION, 1)
    except Exception:  # as in `read_metadata`: a broken description costs nothing but itself
        return 1


def open_picture(stream: BinaryIO, path: Path) -> Any:
    """A Pillow picture of one of the kinds that are read, not yet decoded.

    Raises:
        ImageFileError: another kind of file, by its content. Whatever Pillow raises.
    """
    formats = FORMATS
    if check_kind(path, stream) == "HEIF":
        register_heif(path)
        formats = ("HEIF",)
    return Pillow.open(stream, formats=formats)


def write_image(
    path: str | Path,
    image: Image | NDArray,
    *,
    quality: int = 95,
    lossless: bool = False,
    form: str | None = None,
) -> None:
    """Write a picture; the suffix chooses the format, and the old file stays until the new one is whole.

    Args:
        path: .png, .jpg, .webp, .tif, .bmp, .avif, .gif, .ppm or .pgm. 16-bit samples stay 16-bit in PNG, TIFF and PPM
            and are rounded to 8 bits elsewhere.
        image: an `Image`, or an array (H, W), (H, W, 1), (H, W, 3) of uint8 or uint16.
            Alpha is composed over white where the format has none (JPEG, BMP, PPM).
        quality: of JPEG, WebP and AVIF, 1..100.
        lossless: of WebP.
        form: the format whatever the suffix says, by Pillow's name.

    Raises:
        ImageFileError: unknown suffix, the format cannot hold the picture, or the file cannot be written (folder
            missing rights, disk full).
    """
    if not isinstance(image, Image):
        image = Image(image[:, :, None] if image.ndim == 2 else image)
    height, width = image.pixels.shape[:2]
    header = header_of(image, height, width)
    with row_writer(path, header, Encoding(form or output_format(path), quality, lossless)) as write:
        for top in range(0, height, _ROWS):
            rows = image.pixels[top : top + _ROWS]
            if image.alpha is not None:
                rows = np.concatenate((rows, image.alpha[top : top + _ROWS, :, None]), axis=2)
            write(rows)


def header_of(image: Image, height: int, width: int) -> Header:
    """Of the file that a picture becomes at this size in pixels: its resolution grows along."""
    before, channels = image.pixels.shape[:2], image.pixels.shape[2] + (image.alpha is not None)
    dpi = None
    if image.dpi is not None:
        dpi = image.dpi[0] * width / before[1], image.dpi[1] * height / before[0]
    dtype = np.uint16 if image.pixels.dtype == np.uint16 else np.uint8
    return Header(width, height, channels, dtype, image.icc, image.exif, image.xmp, image.iptc, dpi)


def samples_of(image: Image) -> NDArray:
    """(H, W, 1 to 4), alpha last if there is any."""
    return image.pixels if image.alpha is None else np.concatenate((image.pixels, image.alpha[:, :, None]), axis=2)


def flattened(image: Image) -> NDArray[np.uint8]:
    """(H, W, 1 | 3) of 8 bits, over white where it is transparent."""
    samples = to_uint8(samples_of(image))
    return samples if image.alpha is None else over_white(samples)


def output_format(path: str | Path) -> str:
    """Pillow's name of the format that the suffix of a picture file to be written stands for.

    Raises:
        ImageFileError: unknown suffix.
    """
    path = Path(path)
    if form := _WRITERS.get(path.suffix.lower()):
        return form
    raise ImageFileError(f"{path}: cannot write '{path.suffix}' files, use one of {', '.join(_WRITERS)}.")

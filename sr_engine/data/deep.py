"""16-bit colour, which Pillow decodes to 8 bits and does not encode at all.

Reading: Pillow's decoders keep one byte of each 16-bit sample, and the raw mode says which. Decoding the same file once
as big-endian and once as little-endian therefore gives the high and the low bytes, at the price of inflating it twice.
Writing: a PNG encoder (PNG specification, third edition) with the "up" filter, which needs no loop.
"""

import struct
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow

from sr_engine.errors import ImageFileError

_NATIVE, _SWAPPED = ("L", "B") if sys.byteorder == "little" else ("B", "L")
_OTHER_END = {"B": "L", "L": "B", "N": _SWAPPED}


def is_deep_rgb(file: Pillow.Image) -> bool:
    """Whether an opened, not yet loaded, file has 16-bit samples that Pillow would cut to 8 bits."""
    return _raw_mode(file).partition(";")[2] in ("16B", "16L", "16N") and file.mode in ("RGB", "RGBA", "LA", "RGBX")


def has_separate_deep_planes(file: Any) -> bool:
    """Whether a TIFF holds 16-bit colour as planes, which Pillow reads as if they had 8 bits."""
    bits_per_sample, planar_configuration = 258, 284
    if file.format != "TIFF" or file.tag_v2.get(planar_configuration) != 2:
        return False
    bits = file.tag_v2.get(bits_per_sample, ())
    return len(bits) > 1 and 16 in bits


def load_deep_rgb(file: Any, reopen: Callable[[], Any]) -> NDArray[np.uint16]:
    """Decode an `is_deep_rgb` file to (H, W, 2 | 3 | 4) uint16; `reopen` opens the same file again, not yet loaded."""
    raw = _raw_mode(file)
    colours, end = raw[: raw.index(";")], raw[-1]
    if colours == "LA":
        with reopen() as again:
            # Two bytes of grey, two of alpha: read as four 8-bit channels nothing is lost.
            again.tile = [_with_raw_mode(tile, "RGBA") for tile in again.tile]
            four = np.asarray(again)
            return _join(four[:, :, 0::2], four[:, :, 1::2])
    high = np.asarray(file)  # before the file is read a second time
    with reopen() as again:
        again.tile = [_with_raw_mode(tile, f"{colours};16{_OTHER_END[end]}") for tile in again.tile]
        return _join(high, np.asarray(again))


def load_separate_deep_planes(file: Any, path: Path) -> NDArray[np.uint16]:
    """Decode a `has_separate_deep_planes` TIFF to (H, W, 2 | 3 | 4) uint16.

    Raises:
        ImageFileError: other colours than grey or RGB, or a compression that tifffile needs more packages for.
    """
    import tifffile  # here: only files of this kind need it

    file.fp.seek(0)
    with tifffile.TiffFile(file.fp) as tiff:
        page = tiff.pages.first
        grey_or_rgb = page.photometric in (tifffile.PHOTOMETRIC.MINISBLACK, tifffile.PHOTOMETRIC.RGB)
        if not grey_or_rgb or page.dtype != np.uint16 or page.samplesperpixel not in (2, 3, 4):
            raise ImageFileError(f"{path}: has 16-bit planes of an unusual kind of colour: convert it to PNG first.")
        try:
            planes = page.asarray()
        except ValueError as error:
            if "imagecodecs" not in str(error):
                raise
            name = getattr(page.compression, "name", page.compression)
            raise ImageFileError(
                f"{path}: has 16-bit planes compressed with {name}: pip install imagecodecs or convert it to PNG."
            ) from None
    return np.ascontiguousarray(planes.transpose(1, 2, 0))


def encode_png16(pixels: NDArray, alpha: NDArray | None, *, icc: bytes | None, exif: bytes | None) -> bytes:
    """A PNG file of (H, W, 1 | 3) uint16 samples with an optional (H, W) uint16 alpha."""
    samples = pixels if alpha is None else np.concatenate((pixels, alpha[:, :, None]), axis=2)
    height, width, channels = samples.shape
    rows = samples.astype(">u2").reshape(height, -1).view(np.uint8)
    above = np.concatenate((np.zeros_like(rows[:1]), rows[:-1]))
    up = np.full((height, 1), 2, np.uint8)
    body = zlib.compress(np.concatenate((up, rows - above), axis=1).tobytes(), 6)
    colour_type = {1: 0, 3: 2, 2: 4, 4: 6}[channels]
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", width, height, 16, colour_type, 0, 0, 0))]
    if icc:
        chunks.append((b"iCCP", b"icc\0\0" + zlib.compress(icc)))
    if exif:
        chunks.append((b"eXIf", exif.removeprefix(b"Exif\0\0")))
    chunks += [(b"IDAT", body), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(name, data) for name, data in chunks)


def _chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def _join(high: NDArray, low: NDArray) -> NDArray[np.uint16]:
    return np.stack((high, low), axis=-1).view(">u2")[..., 0].astype(np.uint16)


def _raw_mode(file: Any) -> str:
    tiles = getattr(file, "tile", None)
    if not tiles:
        return ""
    arguments = tiles[0][3]
    raw = arguments if isinstance(arguments, str) else arguments[0] if arguments else ""
    return raw if isinstance(raw, str) else ""


def _with_raw_mode(tile: Any, raw: str) -> Any:
    arguments = raw if isinstance(tile.args, str) else (raw, *tile.args[1:])
    return tile._replace(args=arguments)

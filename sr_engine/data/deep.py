"""16-bit colour, which Pillow decodes to 8 bits.

Pillow's decoders keep one byte of each 16-bit sample, and the raw mode says which. Decoding the same file once
as big-endian and once as little-endian therefore gives the high and the low bytes, at the price of inflating it twice.
"""

import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow

from sr_engine.data.directories import HEADS
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


def is_tiff(stream: BinaryIO) -> bool:
    """By its first bytes."""
    stream.seek(0)
    return stream.read(4) in HEADS


def load_tiff(stream: BinaryIO, path: Path) -> NDArray:
    """Decode the first page of a TIFF that Pillow doesn't read whole, to (H, W, 1..4) of uint8 or uint16.

    Raises:
        ImageFileError: other colours than grey or RGB, or a compression that tifffile needs more packages for.
    """
    import tifffile  # here: only files of this kind need it

    stream.seek(0)
    with _quiet("tifffile"), tifffile.TiffFile(stream) as tiff:
        page = tiff.pages.first
        grey_or_rgb = page.photometric in (tifffile.PHOTOMETRIC.MINISBLACK, tifffile.PHOTOMETRIC.RGB)
        deep = page.dtype in (np.uint8, np.uint16) and 1 <= page.samplesperpixel <= 4 and page.imagedepth == 1
        if not grey_or_rgb or not deep or (page.is_tiled and page.tilelength > 1 << 16):
            raise ImageFileError(f"{path}: is a TIFF of an unusual kind of samples: convert it to PNG first.")
        height, width, channels = page.imagelength, page.imagewidth, page.samplesperpixel
        if height * width == 0 or height * width > 2 * (Pillow.MAX_IMAGE_PIXELS or np.inf):
            raise ImageFileError(f"{path}: is a TIFF of {width} x {height} pixels; cut it into parts first.")
        try:
            samples = page.asarray()
        except ValueError as error:
            if "imagecodecs" not in str(error):
                raise
            name = getattr(page.compression, "name", page.compression)
            raise ImageFileError(
                f"{path}: has samples compressed with {name}: pip install imagecodecs or convert it to PNG."
            ) from None
        separate = channels > 1 and page.planarconfig == tifffile.PLANARCONFIG.SEPARATE
    wanted = (channels, height, width) if separate else (height, width, channels)
    if samples.size != height * width * channels:
        raise ImageFileError(f"{path}: is damaged or truncated ({samples.size} samples).")
    samples = samples.reshape(wanted)
    return np.ascontiguousarray(samples.transpose(1, 2, 0) if separate else samples)


@contextmanager
def _quiet(name: str) -> Iterator[None]:
    """Without the log of a package, which tells of each tag that it doubts: errors reach the caller anyway."""
    logger = logging.getLogger(name)
    before = logger.level
    logger.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        logger.setLevel(before)


def is_deep_ppm(file: Any) -> bool:
    """Whether an opened file is a binary PPM of more than 8 bits, whose colour Pillow cuts to 8 bits."""
    tiles = getattr(file, "tile", None)
    return file.format == "PPM" and bool(tiles) and tiles[0][0] == "ppm" and file.mode == "RGB" and tiles[0][3][1] > 255


def load_deep_ppm(file: Any, path: Path) -> NDArray[np.uint16]:
    """Decode an `is_deep_ppm` file to (H, W, 3) uint16 of full range."""
    (width, height), (_, _, start, (_, top)) = file.size, file.tile[0]
    file.fp.seek(start)
    content = file.fp.read(6 * width * height)
    if len(content) < 6 * width * height:
        raise ImageFileError(f"{path}: is damaged or truncated ({len(content)} bytes of samples).")
    samples = np.frombuffer(content, ">u2").reshape(height, width, 3)
    if top == 65535:
        return samples.astype(np.uint16)
    return ((np.minimum(samples, top).astype(np.uint32) * 65535 + top // 2) // top).astype(np.uint16)


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

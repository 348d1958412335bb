"""Which pictures a data set has, their decoded pixels, and the memory that keeps them."""

import threading
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sr_engine.data.images import Image, image_size, read_image, to_rgb, to_uint8
from sr_engine.errors import ImageFileError


class Box(NamedTuple):
    """A rectangle of a picture in pixels."""

    top: int
    left: int
    height: int
    width: int


@dataclass(frozen=True)
class Picture:
    """One picture of a data set, or a rectangle of one.

    name:   how reports call it.
    hr:     file of the original.
    lr:     file of its low-resolution partner; None = it is made by a degradation.
    box:    the part of `hr` that belongs to the data set; None = all of it.
    weight: chance of each of its pixels to be drawn, relative to other pictures.
    """

    name: str
    hr: Path
    lr: Path | None = None
    box: Box | None = None
    weight: float = 1.0


class Pixels(NamedTuple):
    """(H, W, 3) uint8 of the original and, for pairs, of the low-resolution picture."""

    hr: NDArray[np.uint8]
    lr: NDArray[np.uint8] | None


def decode(picture: Picture) -> Pixels:
    """Read a picture as 8-bit RGB.

    Raises:
        ImageFileError: unreadable, or with transparent parts, whose colours mean nothing.
    """
    hr = _opaque_rgb(picture.hr)
    if picture.box is not None:
        top, left, height, width = picture.box
        hr = np.ascontiguousarray(hr[top : top + height, left : left + width])
    return Pixels(hr, None if picture.lr is None else _opaque_rgb(picture.lr))


def header_size(picture: Picture, scale: int) -> tuple[int, int]:
    """Height and width of the original, from file headers alone.

    Raises:
        ImageFileError: unreadable, smaller than its box, or its partner is not `scale` times smaller.
    """
    height, width = image_size(picture.hr)
    if picture.box is not None:
        top, left, box_height, box_width = picture.box
        if top + box_height > height or left + box_width > width:
            raise ImageFileError(f"{picture.hr}: is {width}x{height}, expected to hold the rectangle {picture.box}.")
        return box_height, box_width
    if picture.lr is not None:
        low_height, low_width = image_size(picture.lr)
        if (low_height, low_width) != (height // scale, width // scale):
            raise ImageFileError(
                f"{picture.lr}: is {low_width}x{low_height}, expected {width // scale}x{height // scale}, "
                f"which is {picture.hr.name} ({width}x{height}) divided by {scale}."
            )
    return height, width


class PictureCache:
    """Decoded pictures, the least recently used forgotten beyond a limit; safe to share between threads.

    Pickles empty: every worker process fills its own.
    """

    def __init__(self, limit_bytes: int) -> None:
        self.limit_bytes = limit_bytes
        self._held: OrderedDict[Picture, Pixels] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()

    def get(self, picture: Picture) -> Pixels:
        """`decode(picture)`, from memory where it is there."""
        with self._lock:
            if picture in self._held:
                self._held.move_to_end(picture)
                return self._held[picture]
        pixels = decode(picture)
        size = _bytes(pixels)
        with self._lock:
            if picture not in self._held and size <= self.limit_bytes:
                self._held[picture] = pixels
                self._bytes += size
                while self._bytes > self.limit_bytes:
                    _, oldest = self._held.popitem(last=False)
                    self._bytes -= _bytes(oldest)
        return pixels

    def __getstate__(self) -> int:
        return self.limit_bytes

    def __setstate__(self, limit_bytes: int) -> None:
        self.__init__(limit_bytes)


def _bytes(pixels: Pixels) -> int:
    return pixels.hr.nbytes + (0 if pixels.lr is None else pixels.lr.nbytes)


def _opaque_rgb(path: Path) -> NDArray[np.uint8]:
    image: Image = read_image(path)
    top: Any = np.iinfo(image.pixels.dtype).max
    if image.alpha is not None and int(image.alpha.min()) < top:
        raise ImageFileError(f"{path}: has transparent parts, expected an opaque picture: flatten it first.")
    return np.ascontiguousarray(to_rgb(to_uint8(image.pixels)))

"""Which pictures a data set has, their decoded pixels, and the memory that keeps them."""

import logging
import os
import tempfile
import threading
import weakref
from collections import OrderedDict
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sr_engine.atomic import remove_leftovers, temporary_name
from sr_engine.data.images import Image, image_size, read_image, to_rgb, to_uint8
from sr_engine.errors import ImageFileError

log = logging.getLogger(__name__)


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


def check_size(picture: Picture, pixels: Pixels, size: tuple[int, int], scale: int) -> None:
    """Raises ImageFileError where a file is not the one any more whose (height, width) was read at the start."""
    expected = [(picture.hr, pixels.hr, size)]
    if pixels.lr is not None and picture.lr is not None:
        expected.append((picture.lr, pixels.lr, (size[0] // scale, size[1] // scale)))
    for path, pixel, (height, width) in expected:
        if pixel.shape[:2] != (height, width):
            raise ImageFileError(
                f"{path}: is {pixel.shape[1]}x{pixel.shape[0]}, and was {width}x{height} when the training began: "
                "bring the old file back or start again."
            )


class PictureCache:
    """Decoded pictures, the least recently used forgotten beyond a limit; safe to share between threads.

    A pickled copy, in a worker process, starts empty, but for what `share` has put into a file.
    """

    def __init__(self, limit_bytes: int) -> None:
        self.limit_bytes = limit_bytes
        self._held: OrderedDict[Picture, Pixels] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()
        self._file: Path | None = None
        self._places: dict[Picture, list[_Place]] = {}
        self._mapped: NDArray[np.uint8] | None = None

    def get(self, picture: Picture) -> Pixels:
        """`decode(picture)`, from memory where it is there."""
        with self._lock:
            if picture in self._held:
                self._held.move_to_end(picture)
                return self._held[picture]
            if picture in self._places:
                return self._from_file(picture)
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

    def share(self) -> None:
        """Write what is held to a temporary file that worker processes map instead of decoding and holding it again.

        Not shared memory: containers often have 64 MB of it. Without room on the disk every process keeps its own.
        """
        if self._file is not None:
            return
        folder = Path(tempfile.gettempdir())
        remove_leftovers([folder], others=False)
        self._file = folder / temporary_name("sr-engine-pictures")
        handle = os.open(self._file, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
        weakref.finalize(self, _remove, self._file)
        places: dict[Picture, list[_Place]] = {}
        try:
            with os.fdopen(handle, "wb") as file:
                for picture, pixels in self._held.items():
                    places[picture] = []
                    for array in pixels:
                        if array is not None:
                            places[picture].append(_Place(file.tell(), array.shape))
                            file.write(array.data)
        except OSError as error:
            log.warning("decoded pictures cannot be shared between workers (%s): each decodes its own.", error)
            self._file.write_bytes(b"")
        else:
            self._places = places

    def clear(self) -> None:
        """Forget what is held; it is decoded again when asked for."""
        with self._lock:
            self._held.clear()
            self._bytes = 0

    def _from_file(self, picture: Picture) -> Pixels:
        if self._mapped is None:
            self._mapped = np.memmap(str(self._file), np.uint8, "r")
        arrays = []
        for place in self._places[picture]:
            length = place.shape[0] * place.shape[1] * place.shape[2]
            arrays.append(np.asarray(self._mapped[place.start : place.start + length]).reshape(place.shape))
        return Pixels(arrays[0], arrays[1] if len(arrays) > 1 else None)

    def __getstate__(self) -> tuple[int, Path | None, dict[Picture, list["_Place"]]]:
        return self.limit_bytes, self._file, self._places

    def __setstate__(self, state: tuple[int, Path | None, dict[Picture, list["_Place"]]]) -> None:
        self.__init__(state[0])
        _, self._file, self._places = state


class _Place(NamedTuple):
    start: int
    shape: tuple[int, ...]


def _remove(file: Path) -> None:
    with suppress(OSError):  # Windows keeps a file that is still mapped
        file.unlink()


def _bytes(pixels: Pixels) -> int:
    return pixels.hr.nbytes + (0 if pixels.lr is None else pixels.lr.nbytes)


def _opaque_rgb(path: Path) -> NDArray[np.uint8]:
    image: Image = read_image(path)
    top: Any = np.iinfo(image.pixels.dtype).max
    if image.alpha is not None and int(image.alpha.min()) < top:
        raise ImageFileError(f"{path}: has transparent parts, expected an opaque picture: flatten it first.")
    return np.ascontiguousarray(to_rgb(to_uint8(image.pixels)))

"""What is asked of results beside the network: their size, their encoding, what is kept of the file."""

import shutil
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from sr_engine.data.images import Image, image_size
from sr_engine.data.rows import Encoding, Header, bytes_needed, check_fits, memory_needed
from sr_engine.errors import EngineError, ImageFileError
from sr_engine.infer.memory import free_memory
from sr_engine.infer.resize import target_size

_CPU = torch.device("cpu")
_COMPRESSED = {"PNG": 0.5, "TIFF": 0.5, "WEBP": 0.3, "AVIF": 0.2, "JPEG": 0.2}
"""Share of the plain samples that an upscaled photograph needs at the least; other formats store them as they are."""


@dataclass(frozen=True)
class Request:
    """What results are like.

    Args:
        scale: any number above 0: the network's own scale first, then Magic Kernel Sharp 2021 to the size; None = the
            network's own.
        geometry: a size in place of a scale, as `resize.target_size` takes it: 3840x2160, 3840x, x2160, 3840x2160!.
        quality: of JPEG, WebP and AVIF, 1 to 100.
        lossless: whether WebP and AVIF are written without loss.
        metadata: whether EXIF, XMP and IPTC are kept; a colour profile and the resolution always are.

    Raises:
        EngineError: a value out of range, or a scale and a size together.
    """

    scale: float | None = None
    geometry: str | None = None
    quality: int = 95
    lossless: bool = False
    metadata: bool = True

    def __post_init__(self) -> None:
        if not 1 <= self.quality <= 100:
            raise EngineError(f"quality {self.quality} cannot be used: expected 1 to 100.")
        if self.scale is not None or self.geometry is not None:
            target_size(1000, 1000, scale=self.scale, geometry=self.geometry)  # says what cannot be read

    def size(self, height: int, width: int) -> tuple[int, int] | None:
        """Height and width of the result for a picture of these; None = what the network makes of it."""
        if self.scale is None and self.geometry is None:
            return None
        return target_size(height, width, scale=self.scale, geometry=self.geometry)

    def factor(self, source: Path) -> float | None:
        """How many times as large a picture file becomes, along the side that grows most; None = not asked for.

        Where a file cannot be read 1: whoever decodes it says so.
        """
        if self.geometry is None:
            return self.scale
        try:
            height, width = image_size(source)
        except ImageFileError:
            return 1.0
        high, wide = target_size(height, width, scale=None, geometry=self.geometry)
        return max(high / height, wide / width)

    def kept(self, picture: Image) -> Image:
        """The picture without what should not be kept."""
        return picture if self.metadata else replace(picture, exif=None, xmp=None, iptc=None)

    def encoding(self, form: str) -> Encoding:
        """How a file of this format is written."""
        return Encoding(form, quality=self.quality, lossless=self.lossless)


def header_of(picture: Image, height: int, width: int) -> Header:
    """Of the file that `picture` becomes at this size: its resolution grows along."""
    before, channels = picture.pixels.shape[:2], picture.pixels.shape[2] + (picture.alpha is not None)
    dpi = None
    if picture.dpi is not None:
        dpi = picture.dpi[0] * width / before[1], picture.dpi[1] * height / before[0]
    dtype = np.uint16 if picture.pixels.dtype == np.uint16 else np.uint8
    return Header(width, height, channels, dtype, picture.icc, picture.exif, picture.xmp, picture.iptc, dpi)


def check_room(target: Path, header: Header, encoding: Encoding) -> None:
    """Find out before the first tile whether the format, the disk and the memory can take a result.

    Raises:
        ImageFileError: one of them cannot.
    """
    check_fits(target, encoding.form, header.width, header.height)
    folder = next(parent for parent in target.absolute().parents if parent.exists())
    likely = int(bytes_needed(header, encoding) * _COMPRESSED.get(encoding.form, 1.0))
    free = shutil.disk_usage(folder).free
    size = f"{header.width}x{header.height}"
    if likely > free:
        raise ImageFileError(
            f"{target}: {size} pixels need about {_gib(likely)} of disk, and {folder} has {_gib(free)} left: free "
            "some, or choose another output."
        )
    held, memory = memory_needed(header, encoding), free_memory(_CPU)
    if held > memory:
        raise ImageFileError(
            f"{target}: {size} pixels as {encoding.form} need {_gib(held)} of memory at once, and {_gib(memory)} is "
            "free: choose PNG, TIFF or JPEG, which are written row by row."
        )


def _gib(count: int) -> str:
    return f"{count / 2**30:.1f} GiB" if count >= 2**27 else f"{count / 2**20:.1f} MiB"

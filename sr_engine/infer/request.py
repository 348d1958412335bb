"""What is asked of results beside the network: their size, their encoding, what is kept of the file."""

import shutil
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from sr_engine.data.images import Image, image_size, output_format
from sr_engine.data.rows import Encoding, Header, bytes_needed, check_encoding, check_fits, memory_needed
from sr_engine.errors import ImageFileError
from sr_engine.infer.jobs import Naming
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
        lossless: whether WebP is written without loss.
        metadata: whether EXIF, XMP and IPTC are kept; a colour profile and the resolution always are.

    Raises:
        EngineError: a size that cannot be read, or a scale and a size together.
    """

    scale: float | None = None
    geometry: str | None = None
    quality: int = 95
    lossless: bool = False
    metadata: bool = True

    def __post_init__(self) -> None:
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

    def naming(self, own: int, *, pattern: str | None = None, form: str | None = None) -> Naming:
        """What results in a folder are called: photo_x2.5.png, photo_3840x2160.png; see `Naming`.

        Args:
            own: the scale where none is asked for.
        """
        if self.geometry is not None:
            return Naming(pattern or "{name}_{scale}", self.geometry.removesuffix("!"), form)
        return Naming(pattern or "{name}_x{scale}", f"{own if self.scale is None else self.scale:g}", form)

    def kept(self, picture: Image) -> Image:
        """The picture without what should not be kept."""
        return picture if self.metadata else replace(picture, exif=None, xmp=None, iptc=None)

    def encoding(self, target: Path) -> Encoding:
        """How a file of this name is written.

        Raises:
            ImageFileError: the format is unknown, or cannot do what was asked for.
        """
        encoding = Encoding(output_format(target), quality=self.quality, lossless=self.lossless)
        check_encoding(target, encoding)
        return encoding


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

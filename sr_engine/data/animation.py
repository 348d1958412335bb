"""Pictures that move, as far as their files say so."""

from pathlib import Path

from PIL import Image as Pillow

from sr_engine.data.images import FORMATS
from sr_engine.data.opened import picture_file


def frame_count(path: str | Path) -> int:
    """How many frames an animated GIF, WebP, PNG or AVIF file has; 1 for every other picture.

    Raises:
        ImageFileError: the file cannot be read.
    """
    with picture_file(Path(path)) as stream, Pillow.open(stream, formats=FORMATS) as file:
        return getattr(file, "n_frames", 1) if file.format in ("GIF", "WEBP", "PNG", "AVIF") else 1

"""What every sheet of pictures is drawn with: its colours, its type, its file."""

import unicodedata
from functools import cache
from pathlib import Path

from PIL import Image, ImageFont

from sr_engine.atomic import atomic_write
from sr_engine.errors import ImageFileError

PAPER, INK, PALE, MARK = (252, 252, 250), (28, 30, 34), (112, 116, 124), (224, 64, 38)


def shortened(text: str, font: ImageFont.FreeTypeFont, width: int) -> str:
    """A text in letters that the font has, cut off with an ellipsis if it is wider than `width` pixels."""
    # Pillow's own font is plain Latin: letters lose their accents, others become question marks.
    letters = (c for c in unicodedata.normalize("NFKD", text) if not unicodedata.combining(c))
    text = "".join(c if c.isascii() else "?" for c in letters)
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(text + "…") > width:
        text = text[:-1]
    return text + "…"


@cache
def font(size: int) -> ImageFont.FreeTypeFont:
    """Pillow's own typeface in a size in pixels."""
    found = ImageFont.load_default(size)
    assert isinstance(found, ImageFont.FreeTypeFont), "Pillow's wheels have FreeType"
    return found


def save_png(sheet: Image.Image, path: str | Path) -> None:
    """Write a PNG, whole or not at all.

    Raises:
        ImageFileError: the file cannot be written.
    """
    try:
        with atomic_write(path) as temporary:
            sheet.save(temporary, "PNG")
    except OSError as error:
        raise ImageFileError(f"{path}: cannot be written: {error.strerror or error}.") from error

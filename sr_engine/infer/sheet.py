"""A comparison sheet: the same detail of each picture, upscaled in several ways, side by side."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from sr_engine.errors import DataError
from sr_engine.infer.drawing import INK, MARK, PALE, PAPER, font, save_png, shortened
from sr_engine.metrics import psnr_y, rgb_to_y

Pixels = NDArray[np.uint8]

_CELL = 320  # side of a zoomed detail on the sheet, in pixels
_GAP = 16
_HEADER = 44
_CAPTION = 42


def comparison_sheet(
    columns: Sequence[str],
    rows: Sequence[tuple[str, Sequence[Pixels]]],
    path: str | Path,
    *,
    crop: int = 80,
    shave: int = 4,
) -> None:
    """Write a PNG with a row per picture: the whole picture with its detail marked, then the detail in each version.

    The detail is the square with the strongest edges of the last version; every pixel of it is enlarged to a square
    block, so nothing on the sheet is smoothed. Under each but the last version stands the PSNR-Y of the whole picture
    against the last, the best in red.

    Args:
        columns: names of the versions; the last is the ground truth.
        rows: name of a picture and its versions, (H, W, 3) uint8 of one size.
        path: the PNG to write.
        crop: side of the detail in pixels; less where a picture is smaller.
        shave: pixels left out at each border for PSNR-Y; the scale, by convention.

    Raises:
        DataError: no rows, or a row whose versions are not as many as the columns or differ in size.
        ImageFileError: the file cannot be written.
    """
    if not rows:
        raise DataError("a comparison sheet needs at least one picture.")
    for name, versions in rows:
        if len(versions) != len(columns) or len({v.shape for v in versions}) != 1:
            shapes = ", ".join(str(v.shape) for v in versions)
            raise DataError(f"{name}: expected {len(columns)} pictures of one size on the sheet, got {shapes}.")
    width = _GAP + (_CELL + _GAP) * (len(columns) + 1)
    height = _GAP + _HEADER + (_CELL + _CAPTION + _GAP) * len(rows)
    sheet = Image.new("RGB", (width, height), PAPER)
    draw = ImageDraw.Draw(sheet)
    for index, column in enumerate(["picture", *columns]):
        _centred(draw, index, _GAP + 8, column, font(22), PALE if index == 0 else INK)
    for index, (name, versions) in enumerate(rows):
        _row(sheet, _GAP + _HEADER + index * (_CELL + _CAPTION + _GAP), name, versions, crop, shave)
    save_png(sheet, path)


def sharpest_square(picture: Pixels, side: int) -> tuple[int, int]:
    """Top and left of the square of this side (at most the picture's) whose luma has the largest mean gradient."""
    luma = rgb_to_y(picture)
    side = min(side, *luma.shape)
    strength = np.hypot(*(np.diff(luma, axis=axis, append=luma.take([-1], axis)) for axis in (0, 1)))
    integral = np.pad(strength, ((1, 0), (1, 0))).cumsum(0).cumsum(1)
    sums = integral[side:, side:] - integral[:-side, side:] - integral[side:, :-side] + integral[:-side, :-side]
    top, left = np.unravel_index(sums.argmax(), sums.shape)
    return int(top), int(left)


def _row(sheet: Image.Image, y: int, name: str, versions: Sequence[Pixels], crop: int, shave: int) -> None:
    draw = ImageDraw.Draw(sheet)
    truth = versions[-1]
    side = min(crop, *truth.shape[:2])
    top, left = sharpest_square(truth, side)
    _overview(sheet, y, truth, top, left, side)
    _centred(draw, 0, y + _CELL + 10, shortened(name, font(18), _CELL), font(18), INK)

    scores = [psnr_y(version, truth, shave=shave) for version in versions[:-1]]
    for index, version in enumerate(versions):
        detail = Image.fromarray(np.ascontiguousarray(version[top : top + side, left : left + side]))
        x = _left(index + 1)
        sheet.paste(detail.resize((_CELL, _CELL), Image.Resampling.NEAREST), (x, y))
        caption, ink = "PSNR-Y, whole picture", PALE
        if index < len(scores):
            caption, ink = f"{scores[index]:.2f} dB", MARK if scores[index] == max(scores) else PALE
        _centred(draw, index + 1, y + _CELL + 10, caption, font(18), ink)


def _overview(sheet: Image.Image, y: int, picture: Pixels, top: int, left: int, side: int) -> None:
    """The whole picture within a cell, the detail framed."""
    height, width = picture.shape[:2]
    ratio = _CELL / max(height, width)
    size = max(1, round(width * ratio)), max(1, round(height * ratio))
    x, y = _left(0) + (_CELL - size[0]) // 2, y + (_CELL - size[1]) // 2
    sheet.paste(Image.fromarray(picture).resize(size, Image.Resampling.LANCZOS), (x, y))
    box = [x + left * ratio, y + top * ratio, x + (left + side) * ratio - 1, y + (top + side) * ratio - 1]
    ImageDraw.Draw(sheet).rectangle(box, outline=MARK, width=2)


def _left(column: int) -> int:
    return _GAP + column * (_CELL + _GAP)


def _centred(
    draw: ImageDraw.ImageDraw, column: int, y: int, text: str, face: ImageFont.FreeTypeFont, ink: tuple[int, int, int]
) -> None:
    draw.text((_left(column) + _CELL / 2, y), text, ink, face, anchor="ma")

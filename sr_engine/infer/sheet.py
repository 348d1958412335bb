"""A comparison sheet: the same detail of each picture, upscaled in several ways, side by side."""

from collections.abc import Sequence
from dataclasses import dataclass
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


@dataclass(frozen=True)
class Detail:
    """A row of a sheet: one square of a picture in each of its versions.

    Args:
        name: of the picture.
        versions: (H, W, 3) uint8 of one size; the last is the ground truth.
        top, left, side: the square, within the picture.
        scores: in dB of each version but the last; the best is drawn in red; empty = none are shown.
        note: stands under the last version.
        heading: a line above the row.
    """

    name: str
    versions: Sequence[Pixels]
    top: int
    left: int
    side: int
    scores: Sequence[float]
    note: str
    heading: str = ""


def comparison_sheet(
    columns: Sequence[str],
    rows: Sequence[tuple[str, Sequence[Pixels]]],
    path: str | Path,
    *,
    crop: int = 80,
    shave: int = 4,
) -> None:
    """Write a PNG with a row per picture: the whole picture with its detail marked, then the detail in each version.

    The detail is the square with the strongest edges of the last version. Under each but the last version stands the
    PSNR-Y of the whole picture against the last.

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
    for name, versions in rows:
        _check(columns, name, versions)
    details = []
    for name, versions in rows:
        truth = versions[-1]
        side = min(crop, *truth.shape[:2])
        scores = [psnr_y(version, truth, shave=shave) for version in versions[:-1]]
        details.append(Detail(name, versions, *sharpest_square(truth, side), side, scores, "PSNR-Y, whole picture"))
    detail_sheet(columns, details, path)


def detail_sheet(
    columns: Sequence[str], rows: Sequence[Detail], path: str | Path, *, cell: int = _CELL, overview: bool = True
) -> None:
    """Write a PNG with a row for each detail: the picture with its square marked, then the square in each version.

    Every pixel of a square is enlarged to a block, so nothing of it is smoothed.

    Args:
        columns: names of the versions.
        rows: as many versions as columns in each.
        path: the PNG to write.
        cell: side of an enlarged square on the sheet; a multiple of `side` makes all blocks equal.
        overview: whether the whole pictures are shown; the file is several times as large with them.

    Raises:
        DataError: no rows, or a row whose versions are not as many as the columns or differ in size.
        ImageFileError: the file cannot be written.
    """
    if not rows:
        raise DataError("a comparison sheet needs at least one picture.")
    for row in rows:
        _check(columns, row.name, row.versions)
    titles = [*(["picture"] if overview else []), *columns]
    headings = sum(_HEADER for row in rows if row.heading)
    size = _GAP + (cell + _GAP) * len(titles), _GAP + _HEADER + headings + (cell + _CAPTION + _GAP) * len(rows)
    sheet = Image.new("RGB", size, PAPER)
    for index, title in enumerate(titles):
        ink = PALE if overview and index == 0 else INK
        _centred(sheet, _left(index, cell), cell, _GAP + 8, title, font(22), ink)
    y = _GAP + _HEADER
    for row in rows:
        if row.heading:
            ImageDraw.Draw(sheet).text((_GAP, y + 4), shortened(row.heading, font(20), size[0]), INK, font(20))
            y += _HEADER
        if overview:
            _overview(sheet, y, row, cell)
        _versions(sheet, _left(int(overview), cell), y, row, cell)
        y += cell + _CAPTION + _GAP
    save_png(sheet, path)


def sharpest_square(picture: Pixels, side: int) -> tuple[int, int]:
    """Top and left of the square of this side (at most the picture's) whose luma has the largest mean gradient."""
    luma = rgb_to_y(picture)
    side = min(side, *luma.shape)
    strength = np.hypot(*(np.diff(luma, axis=axis, append=luma.take([-1], axis)) for axis in (0, 1)))
    sums = square_sums(strength, side)
    top, left = np.unravel_index(sums.argmax(), sums.shape)
    return int(top), int(left)


def square_sums(values: NDArray[np.floating], side: int) -> NDArray[np.floating]:
    """(H, W) -> (H - side + 1, W - side + 1): the sum of each square of `side`, at its top left corner."""
    integral = np.pad(values, ((1, 0), (1, 0))).cumsum(0).cumsum(1)
    return integral[side:, side:] - integral[:-side, side:] - integral[side:, :-side] + integral[:-side, :-side]


def _check(columns: Sequence[str], name: str, versions: Sequence[Pixels]) -> None:
    if len(versions) != len(columns) or len({v.shape for v in versions}) != 1:
        shapes = ", ".join(str(v.shape) for v in versions)
        raise DataError(f"{name}: expected {len(columns)} pictures of one size on the sheet, got {shapes}.")


def _versions(sheet: Image.Image, x: int, y: int, row: Detail, cell: int) -> None:
    best = max(row.scores, default=0.0)
    captions = [(f"{score:.2f} dB", MARK if score == best else PALE) for score in row.scores]
    captions = captions or [("", PALE)] * (len(row.versions) - 1)
    for version, (caption, ink) in zip(row.versions, [*captions, (row.note, PALE)], strict=True):
        square = version[row.top : row.top + row.side, row.left : row.left + row.side]
        detail = Image.fromarray(np.ascontiguousarray(square))
        sheet.paste(detail.resize((cell, cell), Image.Resampling.NEAREST), (x, y))
        _centred(sheet, x, cell, y + cell + 10, shortened(caption, font(18), cell), font(18), ink)
        x += cell + _GAP


def _overview(sheet: Image.Image, y: int, row: Detail, cell: int) -> None:
    """The whole picture within a cell, the detail framed, its name below."""
    _centred(sheet, _left(0, cell), cell, y + cell + 10, shortened(row.name, font(18), cell), font(18), INK)
    picture = row.versions[-1]
    height, width = picture.shape[:2]
    ratio = cell / max(height, width)
    size = max(1, round(width * ratio)), max(1, round(height * ratio))
    x, y = _left(0, cell) + (cell - size[0]) // 2, y + (cell - size[1]) // 2
    sheet.paste(Image.fromarray(picture).resize(size, Image.Resampling.LANCZOS), (x, y))
    right, bottom = row.left + row.side, row.top + row.side
    box = [x + row.left * ratio, y + row.top * ratio, x + right * ratio - 1, y + bottom * ratio - 1]
    ImageDraw.Draw(sheet).rectangle(box, outline=MARK, width=2)


def _left(column: int, cell: int) -> int:
    return _GAP + column * (cell + _GAP)


def _centred(
    sheet: Image.Image, x: int, cell: int, y: int, text: str, face: ImageFont.FreeTypeFont, ink: tuple[int, int, int]
) -> None:
    ImageDraw.Draw(sheet).text((x + cell / 2, y), text, ink, face, anchor="ma")

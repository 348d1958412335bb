"""A sheet that shows what upscaling did: the sharpest detail of each picture beside simpler enlargements of it."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image as Pillow

from sr_engine.data.images import flattened, image_size, read_image, to_rgb
from sr_engine.infer.sheet import Detail, detail_sheet, sharpest_square

MOST = 12
"""Rows of a sheet."""

_SIDE = 160  # of a detail, in pixels of the result
_CELL = 480
_LARGEST = 64_000_000  # pixels of a result that is read again
_SIMPLE = {
    "input": Pillow.Resampling.NEAREST,
    "bicubic": Pillow.Resampling.BICUBIC,
    "mks2021": Pillow.Resampling.MKS2021,
}


def preview_sheet(results: Sequence[tuple[Path, Path, str]], path: str | Path) -> int:
    """Write a PNG with a row for each of the first MOST pictures: input, bicubic, Magic Kernel Sharp, and the result.

    What is shown of the result is read from its file. Results of more than 64 megapixels are left out.

    Args:
        results: source, target and name of the model of each picture.

    Returns:
        how many pictures are on the sheet; no file is written for none.

    Raises:
        ImageFileError: a file cannot be read, or the sheet not be written.
    """
    rows: list[Detail] = []
    for source, target, model in results:
        if len(rows) == MOST:
            break
        height, width = image_size(target)
        if height * width <= _LARGEST:
            rows.append(_row(source, target, model))
    if rows:
        detail_sheet([*_SIMPLE, "result"], rows, path, cell=_CELL, overview=False)
    return len(rows)


def _row(source: Path, target: Path, model: str) -> Detail:
    before, after = (to_rgb(flattened(read_image(path))) for path in (source, target))
    side = min(_SIDE, *after.shape[:2])
    top, left = sharpest_square(after, side)
    small = Pillow.fromarray(before)
    ratio = small.width / after.shape[1], small.height / after.shape[0]
    box = left * ratio[0], top * ratio[1], (left + side) * ratio[0], (top + side) * ratio[1]
    simple = [np.asarray(small.resize((side, side), method, box)) for method in _SIMPLE.values()]
    detail = after[top : top + side, left : left + side]
    heading = f"{source.name}  {small.width}x{small.height} to {after.shape[1]}x{after.shape[0]}"
    return Detail(source.name, [*simple, detail], 0, 0, side, (), model, heading)

"""The sheet of `sr-engine analyze`: what is known of a picture, drawn over it panel by panel."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from sr_engine.data.images import read_image, to_rgb, to_uint8
from sr_engine.device import pick_device
from sr_engine.errors import ImageFileError
from sr_engine.infer.analysis import Analysis, Map, analyse
from sr_engine.infer.colours import directional, diverging, sequential
from sr_engine.infer.drawing import INK, PALE, PAPER, font, save_png, shortened
from sr_engine.infer.regions import REGIONS
from sr_engine.models.files import load_model
from sr_kernels.content_stats.constants import LOG_SCALE

Pixels = NDArray[np.uint8]
Ticks = Sequence[tuple[float, str]]

_SIDE = 480  # longer side of a panel
_THIN = 24  # shorter side of a panel at least, even if that stretches it
_CELL = 300  # width of a column at least
_COLUMNS = 4
_GAP = 24
_HEADER, _TITLE, _LEGEND, _NOTE = 84, 58, 44, 24
_BAR = 12
_TOP = LOG_SCALE * float(np.log1p(100))  # of the scale of logarithms; more than 100 grey levels are rare
_REGION_COLOURS = ((206, 216, 228), (224, 64, 38), (22, 120, 128))
_GREYS: Ticks = tuple((LOG_SCALE * float(np.log1p(n)), str(n)) for n in (0, 1, 5, 20, 100))
_SIGNS: Ticks = ((-1, "-1"), (0, "0"), (1, "1"))
_DIMMED = 0.35  # brightness of a window without attention
_LINED = 10  # pixels of a window on the sheet from which on it has lines


@dataclass(frozen=True)
class _Panel:
    """A title, a line that explains it, the picture (h, w, 3), and what draws its legend at (x, y, width)."""

    title: str
    about: str
    pixels: Pixels
    legend: Callable[[Image.Image, int, int, int], None] | None = None


def analyse_file(
    source: str | Path,
    target: str | Path,
    *,
    model: str | Path | None = None,
    share: float | None = None,
    device: str = "auto",
) -> tuple[Analysis, tuple[int, int]]:
    """Analyse a picture file, write the sheet, and return the analysis and the sheet's width and height.

    Args:
        source: the picture; transparency is left aside.
        target: a .png file.
        model, share: see `analyse`.
        device: "auto", "cpu", "cuda" or "cuda:N".

    Raises:
        ImageFileError: the picture cannot be read or the sheet cannot be written.
        EngineError: a model, share or device that does not exist or does not fit.
    """
    source, target = Path(source), Path(target)
    if target.suffix.lower() != ".png":
        raise ImageFileError(f"{target}: the sheet is a PNG file, name it {target.stem or 'sheet'}.png.")
    if target.is_dir():
        raise ImageFileError(f"{target}: is a folder, expected the name of a file to write.")
    if source.is_file() and target.exists() and source.samefile(target):
        raise ImageFileError(f"{target}: is the picture itself, name another file for the sheet.")
    place = pick_device(device)
    net = None if model is None else load_model(model, device=place)
    pixels = to_uint8(to_rgb(read_image(source).pixels))
    picture = torch.tensor(pixels).permute(2, 0, 1)
    analysis = analyse(picture, net, share=share, device=place)
    title = source.name if model is None else f"{source.name}, {Path(model).name}"
    return analysis, analysis_sheet(analysis, target, title=title)


def analysis_sheet(analysis: Analysis, path: str | Path, *, title: str) -> tuple[int, int]:
    """Write the sheet as a PNG and return its width and height.

    Raises:
        ImageFileError: the file cannot be written.
    """
    size = _drawn(analysis.size)
    panels = [*_overview(analysis, size), *_statistics(analysis, size), *_network(analysis, size)]
    cell = max(_CELL, size[1])
    down = -(-len(panels) // _COLUMNS)
    pitch = cell + _GAP, _TITLE + size[0] + _LEGEND + _GAP
    notes = [*analysis.notes]
    width = _GAP + _COLUMNS * pitch[0]
    height = _HEADER + down * pitch[1] + _NOTE * len(notes) + (_GAP if notes else 0)
    sheet = Image.new("RGB", (width, height), PAPER)
    draw = ImageDraw.Draw(sheet)
    draw.text((_GAP, _GAP), shortened(title, font(26), width - 2 * _GAP), INK, font(26))
    for index, panel in enumerate(panels):
        down, across = divmod(index, _COLUMNS)
        _place(sheet, panel, _GAP + across * pitch[0], _HEADER + down * pitch[1], cell)
    for index, note in enumerate(reversed(notes)):
        draw.text((_GAP, height - _GAP - _NOTE * (index + 1)), note, PALE, font(16))
    save_png(sheet, path)
    return sheet.size


def _drawn(size: tuple[int, int]) -> tuple[int, int]:
    """Height and width of a panel: whole multiples of the picture's, or reduced to fit."""
    ratio = _SIDE / max(size)
    ratio = int(ratio) if ratio >= 1 else ratio
    height, width = (max(_THIN, round(n * ratio)) for n in size)
    return height, width


def _place(sheet: Image.Image, panel: _Panel, x: int, y: int, cell: int) -> None:
    draw = ImageDraw.Draw(sheet)
    draw.text((x, y), shortened(panel.title, font(18), cell), INK, font(18))
    draw.text((x, y + 25), shortened(panel.about, font(14), cell), PALE, font(14))
    height, width = panel.pixels.shape[:2]
    sheet.paste(Image.fromarray(panel.pixels), (x, y + _TITLE - 8))
    if panel.legend is not None:
        panel.legend(sheet, x, y + _TITLE + height, min(cell, max(width, _CELL)))


def _overview(analysis: Analysis, size: tuple[int, int]) -> list[_Panel]:
    height, width = analysis.size
    colours = np.rint(np.tensordot(analysis.regions, np.array(_REGION_COLOURS), (0, 0))).astype(np.uint8)
    window = analysis.window
    log = partial(sequential, low=0, high=_TOP)
    return [
        _Panel("photo", f"{width} x {height} pixels", _photo(analysis, size)),
        _Panel("regions", "what kind of content it is", _resized(colours, size), partial(_squares, analysis.shares)),
        _Panel(
            "direction",
            "hue: where an edge runs; light: how sure that is",
            directional(*(_resized(part, size) for part in analysis.direction)),
            _strokes,
        ),
        _Panel(
            "difficulty",
            f"mean log Laplacian of windows of {window} x {window} pixels",
            _windows(analysis, analysis.difficulty, size, log),
            partial(_bar, log, (0, _TOP), _GREYS),
        ),
    ]


def _statistics(analysis: Analysis, size: tuple[int, int]) -> list[_Panel]:
    log, signed = partial(sequential, low=0, high=_TOP), partial(diverging, low=-1, high=1)
    unit = partial(sequential, low=0, high=1)
    grey = partial(_bar, log, (0, _TOP), _GREYS)
    plus = partial(_bar, signed, (-1, 1), _SIGNS)
    halves: Ticks = ((0, "0"), (0.5, "0.5"), (1, "1"))
    logs = (
        ("log Laplacian", "finest detail: mean |Laplacian| in grey levels"),
        ("log deviation", "contrast: standard deviation in grey levels"),
        ("log gradient energy", "slope: root mean square of the gradient"),
    )

    def drawn(k: int, colours: Callable[[Map], Pixels]) -> Pixels:
        return colours(_resized(analysis.statistics[k], size))

    return [
        *(_Panel(f"{name}, fine", about, drawn(k, log), grey) for k, (name, about) in enumerate(logs)),
        _Panel("mean, fine", "brightness around a pixel", drawn(7, _grey), partial(_bar, _grey, (0, 1), halves)),
        _Panel("coherence x cos 2t", "blue: upright edges; red: level ones", drawn(3, signed), plus),
        _Panel("coherence x sin 2t", "blue: edges like /; red: like \\", drawn(4, signed), plus),
        _Panel("coherence x cos 4t", "blue: upright or level; red: diagonal", drawn(5, signed), plus),
        _Panel("coherence x sin 4t", "blue, red: halfway between those", drawn(6, signed), plus),
        *(
            _Panel(f"{name}, coarse", "the same of means of 2 x 2 pixels", drawn(8 + k, log), grey)
            for k, (name, _) in enumerate(logs)
        ),
        _Panel(
            "coherence",
            "how sure a direction is, at both scales",
            unit(_resized(analysis.coherence, size)),
            partial(_bar, unit, (0, 1), halves),
        ),
    ]


def _network(analysis: Analysis, size: tuple[int, int]) -> list[_Panel]:
    panels = []
    colours = partial(diverging, low=0, high=2)
    bar = partial(_bar, colours, (0, 2), ((0, "0, convolutions only"), (1, "1"), (2, "2")))
    for index, (gate, chosen) in enumerate(analysis.routes):
        what = "all windows attend" if chosen.all() else f"{chosen.sum()} of {chosen.size} windows attend"
        drawn = _windows(analysis, gate, size, colours, chosen)
        panels.append(_Panel(f"gate of stage {index + 1}", f"factor on attention; {what}", drawn, bar))
    if analysis.gains is not None:
        largest = float(analysis.gains.max())
        top = next((step for step in (0.02, 0.05, 0.1, 0.2, 0.3, 0.5) if largest <= step), 1.0)
        scale = partial(sequential, low=0, high=top)
        ticks = ((0, "0, Magic Kernel Sharp"), (top, f"{top:g}"))
        pixels = scale(_resized(analysis.gains, size))
        bar = partial(_bar, scale, (0, top), ticks)
        panels.append(_Panel("steering of the upsampler", "mean |g - 1| of its gains", pixels, bar))
    return panels


def _photo(analysis: Analysis, size: tuple[int, int]) -> Pixels:
    return _resized(np.rint(255 * analysis.picture).astype(np.uint8), size)


def _windows(
    analysis: Analysis,
    values: Map,
    size: tuple[int, int],
    colours: Callable[[Map], Pixels],
    chosen: NDArray[np.bool_] | None = None,
) -> Pixels:
    """A value a window over the grey photo; those not chosen are dark, large ones have lines between them."""
    row, column = (
        ((np.arange(n) + 0.5) * full / n).astype(int) // analysis.window
        for n, full in zip(size, analysis.size, strict=True)
    )
    at = np.ix_(row, column)
    grey = _photo(analysis, size).mean(2, keepdims=True)
    mixed = 0.7 * colours(values[at]) + 0.3 * grey
    if chosen is not None:
        mixed = np.where(chosen[at][..., None], mixed, _DIMMED * grey)
    if min(size[0] / values.shape[0], size[1] / values.shape[1]) >= _LINED:
        lines = np.diff(row, prepend=0)[:, None] + np.diff(column, prepend=0) > 0
        mixed[lines] = 0.75 * mixed[lines] + 0.25 * np.array(PAPER)
    return np.rint(mixed).astype(np.uint8)


def _grey(values: Map) -> Pixels:
    return np.rint(255 * np.clip(values, 0, 1)).astype(np.uint8)[..., None].repeat(3, -1)


def _resized(values: NDArray, size: tuple[int, int]) -> NDArray:
    """(h, w) of floats or (h, w, 3) of bytes: means when reduced, square blocks when enlarged."""
    image = Image.fromarray(np.ascontiguousarray(values if values.ndim == 3 else values.astype(np.float32)))
    reduced = image.resize((min(size[1], image.width), min(size[0], image.height)), Image.Resampling.BOX)
    return np.asarray(reduced.resize((size[1], size[0]), Image.Resampling.NEAREST))


def _bar(
    colours: Callable[[Map], Pixels],
    ends: tuple[float, float],
    ticks: Ticks,
    sheet: Image.Image,
    x: int,
    y: int,
    width: int,
) -> None:
    """The scale of a heat map with its values."""
    draw = ImageDraw.Draw(sheet)
    ramp = colours(np.linspace(*ends, width, dtype=np.float32)[None].repeat(_BAR, 0))
    sheet.paste(Image.fromarray(ramp), (x, y))
    for value, label in ticks:
        at = x + (value - ends[0]) / (ends[1] - ends[0]) * (width - 1)
        draw.line([at, y + _BAR, at, y + _BAR + 3], PALE)
        anchor = "la" if at < x + 4 else "ra" if at > x + width - 5 else "ma"
        draw.text((at, y + _BAR + 4), label, PALE, font(13), anchor=anchor)


def _squares(shares: Sequence[float], sheet: Image.Image, x: int, y: int, width: int) -> None:
    """The colours of the classes with their shares."""
    draw = ImageDraw.Draw(sheet)
    for index, (name, colour, share) in enumerate(zip(REGIONS, _REGION_COLOURS, shares, strict=True)):
        left = x + index * width / len(REGIONS)
        draw.rectangle([left, y, left + _BAR, y + _BAR], colour)
        draw.text((left + _BAR + 4, y), f"{name} {share:.0%}", INK, font(13))


def _strokes(sheet: Image.Image, x: int, y: int, width: int) -> None:
    """Edges in eight directions in the colours that stand for them."""
    draw = ImageDraw.Draw(sheet)
    for index, angle in enumerate(np.arange(8) * np.pi / 8):
        centre, reach = (x + (index + 0.5) * width / 8, y + _BAR), (12 * np.sin(angle), -12 * np.cos(angle))
        colour = tuple(directional(np.cos(2 * angle), np.sin(2 * angle)).tolist())
        ends = [(centre[0] + side * reach[0], centre[1] + side * reach[1]) for side in (-1, 1)]
        draw.line(ends, colour, width=5)

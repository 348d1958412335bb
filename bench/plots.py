"""How the plots of `bench.gallery` are drawn: ratio bars, cost over size, rooflines; all that needs matplotlib.

White ground, so that they read on light and dark pages; the colours of Okabe and Ito (2008), which colour-blind people
tell apart, with hatches or markers beside them. The same results give the same bytes.
"""

import io
from collections.abc import Sequence
from itertools import cycle
from textwrap import wrap
from typing import Any, Literal

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FixedLocator, FuncFormatter, NullFormatter, NullLocator
from PIL import Image

from bench.gallery import Plot
from bench.history import Row
from bench.tables import digits, times

OURS, INK, PALE = "#0072B2", "#202020", "#D0D0D0"
COLOURS = ("#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#404040", "#A0A0A0")
HATCHES = ("", "////", "....")  # of the first seven rivals of a figure, of the next seven, of the rest
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
STYLE: dict[Any, Any] = {"font.size": 8.5, "font.family": "DejaVu Sans", "text.color": INK, "axes.labelcolor": INK}
SMALL = 7.5  # points
DOTS, WIDTH = 100, 9.0  # per inch; inches
BAR, GAP, LABELS = 0.14, 0.12, 2.65  # inches
SHADES = 256  # of a stored plot, half of the bytes


def png(plot: Plot) -> bytes:
    """A plot as a PNG file without metadata."""
    picture = Image.fromarray(np.asarray(draw(plot).buffer_rgba())).convert("RGB")
    file = io.BytesIO()
    picture.quantize(SHADES, dither=Image.Dither.NONE).save(file, "PNG", optimize=True)
    return file.getvalue()


def draw(plot: Plot) -> FigureCanvasAgg:
    """A plot in this file's style, whatever the user's own is."""
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(STYLE)
        canvas = FigureCanvasAgg({"bars": bars, "growth": growth, "roofline": roofline}[plot.shape](plot))
        canvas.draw()
    return canvas


def bars(plot: Plot) -> Figure:
    """Each case a group, each rival a bar from 1 (ours) to its ratio; memory beside time where it was measured."""
    rows, rivals = plot.rows, _rivals(plot)
    looks = {
        name: {"facecolor": colour, "hatch": HATCHES[min(i // len(COLOURS), 2)], "edgecolor": "white", "linewidth": 0}
        for i, (name, colour) in enumerate(zip(rivals, cycle(COLOURS), strict=False))
    }
    remembered = any(row.memory_ratio(name) for row in rows for name in row.rivals)
    panels = [("time / time of ours", Row.ratio), ("peak memory / that of ours", Row.memory_ratio)][: 1 + remembered]
    labels = [_label(row) for row in rows]
    slots = [max(len(row.rivals), label.count("\n") + 1) for row, label in zip(rows, labels, strict=True)]
    tops = np.cumsum([GAP, *(many * BAR + GAP for many in slots)])
    head, foot, tall = _head_inches(["ours", *rivals]), 0.5, float(tops[-1])
    figure = _figure(head + tall + foot)
    wide = (WIDTH - LABELS - 0.15) / len(panels)
    for place, (title, measure) in enumerate(panels):
        axes = _axes(figure, LABELS + place * wide, foot, wide - 0.2, tall)
        ratios = []
        for row, top, many in zip(rows, tops, slots, strict=False):
            first = float(top) + (many - len(row.rivals) + 1) * BAR / 2
            for line, name in enumerate(row.rivals):
                if ratio := measure(row, name):
                    ratios.append(ratio)
                    y = first + line * BAR
                    axes.barh(y, ratio - 1, BAR * 0.86, left=1, **looks[name])
                    spot: dict[str, Any] = {"xytext": (3, 0), "textcoords": "offset points", "va": "center"}
                    axes.annotate(times(ratio), (max(ratio, 1), y), fontsize=SMALL, **spot)
        _ratio_axis(axes, ratios, title)
        axes.set_ylim(tall, 0)
        middle = [float(top) + many * BAR / 2 for top, many in zip(tops, slots, strict=False)]
        axes.set_yticks(middle, [""] * len(rows) if place else labels)
    line = Line2D([], [], color=OURS, linewidth=1.6, label="ours")
    _head(figure, plot, [line, *(Patch(label=name, **look) for name, look in looks.items())])
    return figure


def growth(plot: Plot) -> Figure:
    """Milliseconds over the side of the picture, each series a panel, each contestant a curve; log-log."""
    looks: dict[str, dict[str, Any]] = {
        name: {"color": colour, "marker": mark, "linewidth": 1.2, "markersize": 4.5}
        for name, colour, mark in zip(_rivals(plot), cycle(COLOURS), cycle(MARKERS[1:]), strict=False)
    }
    mine = {"color": OURS, "marker": MARKERS[0], "linewidth": 2.4, "markersize": 4.5}
    lowest: dict[str, Any] = {"color": INK, "linewidth": 1, "linestyle": ":"}
    columns, lines = min(2, len(plot.panels)), -(-len(plot.panels) // 2)
    head, panel, wide = _head_inches([*looks, "ours", "floor"]), 3.0, WIDTH / columns
    figure = _figure(head + lines * panel)
    for number, (title, rows) in enumerate(plot.panels.items()):
        line, column = divmod(number, columns)
        bottom = (lines - line - 1) * panel + 0.5
        axes = _axes(figure, 0.75 + column * wide, bottom, wide - 0.95, panel - 0.85)
        for name, look in looks.items():
            _curve(axes, [(row, row.rivals[name]["milliseconds"]) for row in rows if name in row.rivals], look)
        floors = [(row, row.case["floor_milliseconds"]) for row in rows if row.case["floor_milliseconds"]]
        _curve(axes, floors, lowest)
        _curve(axes, [(row, row.ours["milliseconds"]) for row in rows], mine)
        axes.set(xscale="log", yscale="log", xlabel="side of the input, pixels", ylabel="ms")
        _plain_numbers(axes.xaxis, axes.yaxis)
        axes.xaxis.set_major_locator(FixedLocator(sorted({row.case["side"] for row in rows})))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.set_title("\n".join(wrap(title, 60)), fontsize=8.5, loc="left")
        _clear(axes, "both")
    named = {**looks, "ours": mine, "floor": lowest}
    _head(figure, plot, [Line2D([], [], label=name, **look) for name, look in named.items()])
    return figure


def roofline(plot: Plot) -> Figure:
    """TFLOP/s reached over operations per byte that must move, below the measured ceilings; each case a point."""
    rows, rates, slope = plot.rows, plot.machine.teraflops, (plot.machine.copy or 0) / 1e3
    xs = [row.case["flops"] / row.case["moved"] for row in rows]
    ys = [row.case["flops"] / row.ours["milliseconds"] / 1e9 for row in rows]
    knees = {dtype: rate / slope for dtype, rate in rates.items()}
    left, right = min(*xs, *knees.values(), xs[0]) / 2, max(*xs, *knees.values(), xs[0]) * 8
    highest = max([*rates.values(), *ys])
    figure = _figure(4.6)
    axes = _axes(figure, 0.72, 0.5, 5.6, 3.6)
    top = max(knees.values(), default=right)
    axes.plot((left, top), (left * slope, top * slope), color=INK, linewidth=1.4)
    for dtype, rate in rates.items():
        axes.plot((knees[dtype], right), (rate, rate), color=INK, linewidth=1.4)
    for rate, label in rate_labels(rates):
        spot: dict[str, Any] = {"xytext": (-2, 3), "textcoords": "offset points", "ha": "right"}
        axes.annotate(label, (right, rate), fontsize=SMALL, **spot)
    axes.set(xscale="log", yscale="log", xlim=(left, right), ylim=(min(*ys, highest / 20) / 2, highest * 2))
    axes.set(xlabel="floating-point operations per byte that must be moved", ylabel="TFLOP/s of ours")
    _plain_numbers(axes.xaxis, axes.yaxis)
    _clear(axes, "both")
    colours = dict(zip(sorted({row.case["op"] for row in rows}), cycle((OURS, *COLOURS)), strict=False))
    marks = dict(zip(sorted({row.case["dtype"] for row in rows}), cycle(MARKERS), strict=False))
    copy = f"copy {digits(slope * 1e3)} GB/s; matrix products, TFLOP/s"
    handles = {"": Line2D([], [], color=INK, linewidth=1.4, label="\n".join(wrap(copy, 32)))}
    for row, x, y in zip(rows, xs, ys, strict=True):
        op, dtype = row.case["op"], row.case["dtype"]
        look: dict[str, Any] = {"color": colours[op], "marker": marks[dtype], "linestyle": "none"}
        axes.plot([x], [y], markersize=5.5, markeredgecolor="white", markeredgewidth=0.5, **look)
        handles.setdefault(f"{op}, {dtype}", Line2D([], [], label="\n".join(wrap(f"{op}, {dtype}", 32)), **look))
    ordered = [handles[name] for name in sorted(handles)]
    figure.legend(handles=ordered, frameon=False, loc="upper left", bbox_to_anchor=(6.4 / WIDTH, 0.9))
    _head(figure, plot)
    return figure


def _rivals(plot: Plot) -> list[str]:
    return list(dict.fromkeys(name for row in plot.rows for name in row.rivals))


def _label(row: Row) -> str:
    title, kind, dtype = row.what
    commit = "" if row.newest else f", {row.commit}"
    return "\n".join([*wrap(title, 36), *wrap(f"{kind}, {dtype}{commit}", 36)])


def _figure(height: float) -> Figure:
    return Figure((WIDTH, height), dpi=DOTS, facecolor="white")


def _axes(figure: Figure, left: float, bottom: float, width: float, height: float) -> Axes:
    """Axes at a place in inches."""
    wide, high = figure.get_figwidth(), figure.get_figheight()
    return figure.add_axes((left / wide, bottom / high, width / wide, height / high))


def _curve(axes: Axes, points: Sequence[tuple[Row, float]], look: dict[str, Any]) -> None:
    if points:
        axes.plot([row.case["side"] for row, _ in points], [y for _, y in points], **look)


def rate_labels(rates: dict[str, float]) -> list[tuple[float, str]]:
    """Where to name which rates: those too close for a line of text between them share one."""
    labels: list[tuple[float, list[str]]] = []
    last = 0.0
    for dtype, rate in sorted(rates.items(), key=lambda one: (-one[1], one[0])):
        if not labels or last / rate > 1.4:
            labels.append((rate, []))
        labels[-1][1].append(f"{dtype} {digits(rate)}")
        last = rate
    return [(rate, ", ".join(names)) for rate, names in labels]


def _ratio_axis(axes: Axes, ratios: Sequence[float], label: str) -> None:
    low, high = min([*ratios, 1.0]) / 1.15, max([*ratios, 1.5])
    steps = [0.01, 0.1, 1, 10, 100, 1000, 10000]
    axes.set(xscale="log", xlim=(low, high * (high / low) ** 0.28), xlabel=label)  # room for the last number
    axes.xaxis.set_major_locator(FixedLocator(steps if high / low > 100 else [*steps, 0.2, 0.5, 2, 5, 20, 50]))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}x"))
    axes.axvline(1, color=OURS, linewidth=1.6)
    axes.tick_params(axis="y", length=0)
    _clear(axes, "x")


def _clear(axes: Axes, grid: Literal["both", "x", "y"]) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis=grid, color=PALE, linewidth=0.6)
    axes.set_axisbelow(True)


def _plain_numbers(*both: Axis) -> None:
    for axis in both:
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axis.set_minor_formatter(NullFormatter())


def _columns(labels: Sequence[str]) -> int:
    """Of the legend; a letter is a 14th of an inch wide at most, and line and space take half an inch."""
    return max(1, min(len(labels), int(WIDTH / (max(map(len, labels)) / 14 + 0.5))))


def _head_inches(labels: Sequence[str]) -> float:
    return 0.55 + 0.2 * -(-len(labels) // _columns(labels))


def _head(figure: Figure, plot: Plot, handles: Sequence[Any] = ()) -> None:
    """Title, commit and legend in the `_head_inches` at the top."""
    high = figure.get_figheight()
    figure.text(0.1 / WIDTH, 1 - 0.08 / high, plot.title, va="top", fontsize=9.5, fontweight="bold")
    hint = "; a bar to the right of the blue line: ours needs less" if plot.shape == "bars" else ""
    figure.text(0.1 / WIDTH, 1 - 0.26 / high, plot.origin + hint, va="top", fontsize=8)
    if handles:
        columns = _columns([handle.get_label() for handle in handles])
        place: dict[str, Any] = {"loc": "upper left", "bbox_to_anchor": (0.02 / WIDTH, 1 - 0.4 / high)}
        space: dict[str, Any] = {"borderaxespad": 0.2, "columnspacing": 1.4, "handlelength": 1.8}
        figure.legend(handles=handles, ncols=columns, frameon=False, **place, **space)

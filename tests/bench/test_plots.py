"""The plots: all there, small, the same bytes for the same results, nothing on top of something else."""

import io
import itertools
from pathlib import Path

import pytest
from PIL import Image

pytest.importorskip("matplotlib", reason="plots need it: pip install -e '.[bench]'")

from bench.gallery import plan
from bench.history import machines
from bench.plots import draw, png, rate_labels
from tests.bench.samples import CPU, case, contestant, results, two_devices, write


def test_plots_are_small_and_repeatable(tmp_path: Path) -> None:
    two_devices(tmp_path)
    first, again = ({plot.file: png(plot) for plot in plan(machines(tmp_path))} for _ in range(2))
    assert first == again
    assert sorted(first) == [
        "growth-some-cpu-2-cores.png",
        "magic_resample-some-cpu-2-cores.png",
        "roofline-nvidia-t0-80gb.png",
        "roofline-some-cpu-2-cores.png",
        "window_attention-nvidia-t0-80gb.png",
        "window_attention-some-cpu-2-cores.png",
    ]
    for data in first.values():
        assert len(data) < 150_000
        picture = Image.open(io.BytesIO(data))
        assert picture.width == 900
        assert not picture.info
        assert picture.convert("RGB").getpixel((899, 0)) == (255, 255, 255)


def test_rates_that_lie_close_share_a_label() -> None:
    rates = {"bfloat16": 790.0, "float32": 150.0, "float16": 812.0}
    assert rate_labels(rates) == [(812.0, "float16 812, bfloat16 790"), (150.0, "float32 150")]


def test_nothing_overlaps_in_the_bars(tmp_path: Path) -> None:
    """Labels of cases and numbers of bars stay apart, with eight rivals and long titles."""
    names = [f"rival {number} of a long name" for number in range(8)]
    cases = []
    for number in range(6):
        times = {name: contestant(0.3 * (place + 1) ** 2, 4.0) for place, name in enumerate(names[: number + 2])}
        cases.append(case(f"Some network of a long name {number}, 1024x1024", times | {"ours": contestant(1.0)}))
    write(tmp_path, results(CPU, cases))
    [plot] = [plot for plot in plan(machines(tmp_path)) if plot.shape == "bars"]
    figure = draw(plot).figure
    drawn = [label for axes in figure.axes for label in (*axes.texts, *axes.get_yticklabels(), axes.xaxis.label)]
    [legend] = figure.legends
    texts = [text for text in (*drawn, *figure.texts, *legend.get_texts()) if text.get_text()]
    assert sum(text.get_text() in names for text in texts) == 7
    boxes = [(text, text.get_window_extent()) for text in texts]
    for (one, a), (other, b) in itertools.combinations(boxes, 2):
        apart = a.x1 <= b.x0 or b.x1 <= a.x0 or a.y1 <= b.y0 + 1 or b.y1 <= a.y0 + 1
        assert apart, f"{one.get_text()!r} overlaps {other.get_text()!r}"
    for text, box in boxes:
        inside = box.x0 >= 0 and box.x1 <= figure.bbox.x1 and box.y0 >= 0 and box.y1 <= figure.bbox.y1
        assert inside, f"{text.get_text()!r} leaves the picture"

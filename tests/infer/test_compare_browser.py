"""The page of `sr-engine compare` in a real browser: opened from its file, dragged, zoomed, with an empty console."""

import base64
import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sr_engine.infer.compare import compare_files
from tests.infer.browser import Browser, browser

WIDTH, HEIGHT = 320, 200
LEFT, RIGHT, HOME, END = "\ue012", "\ue014", "\ue011", "\ue010"

# What the eye sees: where the upper picture begins and the lower one ends, in pixels of the stage; where that lies.
STATE = """
const [stage, left, right] = ["stage", "left", "right"].map(id => document.getElementById(id));
const box = stage.getBoundingClientRect(), pane = document.getElementById("pane"), view = pane.getBoundingClientRect();
const sides = element => getComputedStyle(element).clipPath.match(/inset\\((.*)\\)/)[1];
const line = document.getElementById("line").getBoundingClientRect();
return {
  x: box.x, y: box.y, width: box.width, height: box.height, upper: sides(right), lower: sides(left),
  line: line.x + line.width / 2 - box.x, value: Number(document.getElementById("divider").value),
  rendering: getComputedStyle(right).imageRendering, shown: document.getElementById("zoom").textContent,
  pressed: [...document.querySelectorAll("[aria-pressed=true]")].map(button => button.dataset.zoom),
  view: [view.x, view.y, pane.clientWidth, pane.clientHeight], scroll: [pane.scrollLeft, pane.scrollTop],
  scale: devicePixelRatio, focus: document.activeElement.id, paper: getComputedStyle(document.body).backgroundColor,
};
"""


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A quarter of the picture on the left, the picture on the right, in a file whose name has to be escaped."""
    folder = tmp_path_factory.mktemp("page <&> é #1")
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    pixels = np.stack((x * 255 // WIDTH, y * 255 // HEIGHT, (x // 8 + y // 8) % 2 * 255), -1).astype(np.uint8)
    large = Image.fromarray(pixels)
    large.save(folder / 'large "<b>" & é.png')
    large.reduce(4).save(folder / "small.png")
    compare_files(folder / "small.png", folder / 'large "<b>" & é.png', folder / "page.html")
    return folder / "page.html"


@pytest.fixture(scope="module")
def window(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with browser(tmp_path_factory.mktemp("profile"), ["--window-size=900,700"]) as window:
        yield window


@pytest.fixture
def opened(window: Browser, page: Path) -> Iterator[Browser]:
    """The page, loaded anew; afterwards nothing may have been complained of."""
    window.open(page)
    yield window
    assert window.log() == []


def split(state: dict) -> float:
    """Where the two pictures meet, in pixels of the stage; the clips of both agree on it."""
    upper = float(state["upper"].split()[-1].removesuffix("px"))
    assert state["line"] == pytest.approx(upper, abs=0.6)
    rest = f"calc(100% - {state['upper'].split()[-1]})" if upper else "100%"
    assert state["lower"] == f"0px {rest} 0px 0px"
    return upper


def test_it_opens_from_a_file_with_both_pictures(opened: Browser) -> None:
    script = "return ['left', 'right'].map(id => document.getElementById(id)).map(i => [i.complete, i.naturalWidth])"
    assert opened.run(script) == [[True, WIDTH], [True, WIDTH]]
    names = opened.run("return [...document.querySelectorAll('bdi')].map(e => e.textContent)")
    assert names == ["small.png", 'large "<b>" & é.png']
    state = opened.run(STATE)
    assert (state["value"], state["pressed"]) == (50, ["fit"])
    assert split(state) == pytest.approx(state["width"] / 2)
    x, _, width, height = state["view"]
    assert state["width"] <= width + 0.5
    assert state["height"] <= height + 0.5
    assert state["width"] == pytest.approx(min(width, height * WIDTH / HEIGHT), abs=1)
    assert state["x"] + state["width"] / 2 == pytest.approx(x + width / 2, abs=1)
    assert opened.run("return document.documentElement.scrollHeight <= innerHeight")


def test_the_keyboard_moves_the_divider(opened: Browser) -> None:
    opened.run("document.getElementById('divider').focus()")
    for keys, value in ((RIGHT, 51), (LEFT * 3, 48), (HOME, 0), (LEFT, 0), (END, 100)):
        opened.keys(keys)
        state = opened.run(STATE)
        assert state["value"] == value
        assert split(state) == pytest.approx(value / 100 * state["width"], abs=0.5)


def test_the_tab_key_reaches_the_divider_first_after_the_zoom(opened: Browser) -> None:
    seen: list[str] = []
    active = "const e = document.activeElement; return e === document.body ? 'body' : e.dataset.zoom || e.id"
    for _ in range(12):
        opened.keys("\ue004")
        seen.append(opened.run(active))
        if seen == ["body"]:  # a busy browser hands a key to a page that it has not given the focus yet
            seen.clear()
        if len(seen) == 6:
            break
    assert seen == ["fit", "1", "2", "4", "divider", "pane"]


@pytest.mark.parametrize("kind", ["mouse", "touch"])
def test_the_pointer_moves_the_divider(opened: Browser, kind: str) -> None:
    state = opened.run(STATE)
    x, y, width = state["x"], state["y"] + state["height"] * 0.3, state["width"]
    opened.drag((x + width / 2, y), (x + width * 0.7, y), (x + width * 0.25, y + 9), kind=kind)
    state = opened.run(STATE)
    assert split(state) == pytest.approx(width * 0.25, abs=1)
    assert (state["value"], state["focus"]) == (25, "divider")
    opened.keys(RIGHT)  # goes on from there
    assert split(opened.run(STATE)) == pytest.approx(width * 0.26, abs=1)
    opened.drag((x + width * 0.3, y), (x - 50 if x > 60 else 1, y), kind=kind)
    assert split(opened.run(STATE)) == pytest.approx(0, abs=2)


def test_what_is_seen_is_the_upper_picture_right_of_the_divider(opened: Browser, page: Path) -> None:
    opened.click("[data-zoom='1']")
    state = opened.run(STATE)
    y = state["y"] + 20
    opened.drag((state["x"] + 10, y), (state["x"] + 120, y))
    shot = Image.open(io.BytesIO(base64.b64decode(opened.screenshot()))).convert("RGB")
    left, top = round(state["x"]), round(state["y"])
    seen = np.asarray(shot.crop((left, top, left + WIDTH, top + HEIGHT)))
    truth = np.asarray(Image.open(page.with_name('large "<b>" & é.png')))
    assert (seen[:40, 150:] == truth[:40, 150:]).all()
    assert np.abs(seen[:40, :100].astype(int) - truth[:40, :100]).max() > 20  # the enlarged one has lost its chequers


def test_the_zoom_buttons(opened: Browser) -> None:
    for zoom, rendering in (("1", "auto"), ("2", "pixelated"), ("4", "pixelated")):
        opened.click(f"[data-zoom='{zoom}']")
        state = opened.run(STATE)
        assert state["pressed"] == [zoom]
        assert (state["width"], state["height"]) == (WIDTH * int(zoom), HEIGHT * int(zoom))
        assert (state["rendering"], state["shown"]) == (rendering, f"{zoom}00 %")
    left, _, width, height = state["view"]
    assert state["scroll"] == [pytest.approx((WIDTH * 4 - width) / 2, abs=1), pytest.approx((800 - height) / 2, abs=1)]
    # The divider stays in the middle of what is seen, wherever that is within the picture.
    assert state["x"] + split(state) == pytest.approx(left + width / 2, abs=1)
    opened.run("document.getElementById('pane').scrollLeft = 33; return new Promise(requestAnimationFrame)")
    opened.run("return new Promise(requestAnimationFrame)")
    state = opened.run(STATE)
    assert split(state) == pytest.approx(33 + width / 2, abs=1)
    opened.click("[data-zoom='fit']")
    assert opened.run(STATE)["pressed"] == ["fit"]


def test_a_finger_scrolls_an_enlarged_picture_unless_it_takes_the_divider(opened: Browser) -> None:
    opened.click("[data-zoom='4']")
    state = opened.run(STATE)
    left, top, width, _ = state["view"]
    middle = left + width / 2
    opened.drag((middle, top + 60), (middle - 200, top + 60), kind="touch")
    moved = opened.run(STATE)
    assert moved["scroll"] == state["scroll"]
    assert moved["x"] + split(moved) == pytest.approx(middle - 200, abs=2)
    opened.drag((middle + 100, top + 60), (middle + 200, top + 60), kind="touch")
    after = opened.run(STATE)
    assert after["value"] == moved["value"]
    assert after["scroll"][0] < moved["scroll"][0]


def test_a_fine_dark_screen(page: Path, tmp_path: Path) -> None:
    flags = ["--window-size=500,600", "--force-device-scale-factor=2", "--force-dark-mode"]
    with browser(tmp_path, flags) as window:
        window.open(page)
        window.click("[data-zoom='2']")
        state = window.run(STATE)
        assert (state["scale"], state["width"], state["rendering"]) == (2, WIDTH, "pixelated")
        dark = window.run("return matchMedia('(prefers-color-scheme: dark)').matches")
        assert state["paper"] == ("rgb(23, 25, 28)" if dark else "rgb(252, 252, 250)")
        assert dark
        assert window.log() == []

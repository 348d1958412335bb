"""The sheets of details: which windows they choose, and the whole tool on small pictures with a nano network."""

from collections.abc import Iterator

import numpy as np
import pytest
from PIL import Image

from bench import sheets
from bench.sheets import Picture, gains, textures
from sr_engine.data import EvalPair
from sr_engine.data.bicubic import bicubic_down
from sr_engine.errors import DataError
from sr_engine.models.files import save_model
from sr_engine.models.generator import Generator

SIDE, SHAVE = 16, 4


def noise(height: int, width: int, seed: int = 0, spread: int = 40) -> np.ndarray:
    return np.random.default_rng(seed).integers(128 - spread, 128 + spread, (height, width, 3), np.uint8)


def picture(name: str, better: tuple[int, int], worse: tuple[int, int], by: int) -> Picture:
    """An original, a classical version off by 20, and a network's that differs from that in two windows."""
    truth = np.full((72, 88, 3), 100, np.uint8)
    classical = truth + 20
    network = classical.copy()
    network[better[0] : better[0] + SIDE, better[1] : better[1] + SIDE] -= by
    network[worse[0] : worse[0] + SIDE, worse[1] : worse[1] + SIDE] += by
    return Picture(name, [classical, classical, network, truth])


def test_gains_are_found_where_they_are_most_first():
    pictures = [picture("a", (12, 24), (40, 48), 5), picture("b", (8, 4), (48, 64), 15)]
    rows = gains(pictures, base=1, network=2, side=SIDE, rows=2, shave=SHAVE)
    assert [(row.name, row.top, row.left) for row in rows] == [
        ("b", 8, 4),
        ("a", 12, 24),
        ("b", 48, 64),
        ("a", 40, 48),
    ]
    assert [bool(row.heading) for row in rows] == [True, False, True, False]
    expected = 20 * np.log10(20 / 5)
    assert rows[0].note == f"{expected:+.2f} dB, b"
    assert rows[0].scores[2] - rows[0].scores[1] == pytest.approx(expected)
    assert rows[2].note.startswith("-")


def test_windows_without_visible_error_do_not_count():
    whole = picture("a", (12, 24), (40, 48), 5)
    whole.versions[1][:] = whole.versions[-1]
    assert gains([whole], base=1, network=2, side=SIDE, rows=2, shave=SHAVE) == []


def test_the_window_with_texture_is_chosen():
    truth = np.full((80, 80, 3), 120, np.uint8)
    truth[44:68, 32:56] = noise(24, 24)
    small = noise(20, 20)
    rows = textures([Picture("plain", [truth, truth]), Picture("small", [small] * 2)], side=SIDE, rows=3, shave=SHAVE)
    assert [row.name for row in rows] == ["plain"]
    assert 40 <= rows[0].top <= 56
    assert 28 <= rows[0].left <= 44


def pairs(scale: int) -> Iterator[EvalPair]:
    for name in ("one", "two"):
        hr = noise(64, 80, seed=len(name), spread=100)
        yield EvalPair(name, bicubic_down(hr, scale), hr)


@pytest.mark.parametrize(("sheet", "columns", "rows"), [("gains", 4, 4), ("textures", 4, 2)])
def test_a_sheet_from_model_files(tmp_path, sheet, columns, rows, capsys):
    files = []
    for name in ["first"] if sheet == "gains" else ["first", "second"]:
        save_model(tmp_path / f"{name}.safetensors", Generator(scale=4, preset="nano"))
        files.append(str(tmp_path / f"{name}.safetensors"))
    out = tmp_path / "sheet.png"
    assert sheets.main([sheet, "--models", *files, "-o", str(out), "--side", "24"], pairs=pairs) == 0
    assert f"{rows} details" in capsys.readouterr().out
    with Image.open(out) as drawn:
        cell = 24 * sheets.ZOOM + 16
        assert drawn.width == 16 + columns * cell
        assert drawn.height > rows * cell


def test_models_of_two_scales_are_refused(tmp_path):
    for scale in (2, 4):
        save_model(tmp_path / f"x{scale}.safetensors", Generator(scale=scale, preset="nano"))
    files = [str(tmp_path / f"x{scale}.safetensors") for scale in (2, 4)]
    with pytest.raises(DataError, match="one scale expected"):
        sheets.main(["textures", "--models", *files, "-o", str(tmp_path / "sheet.png")], pairs=pairs)


def test_the_photographs_are_those_of_the_demo_as_a_whole():
    found = {pair.name: pair.hr.shape for pair in sheets.photographs(4)}
    assert set(found) == {"astronaut", "chelsea", "coffee", "hubble_deep_field", "retina", "rocket"}
    assert found["astronaut"] == (512, 512, 3)

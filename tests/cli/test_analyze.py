"""`sr-engine analyze` on real files, and one sentence for what cannot be done."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sr_engine.cli import main as cli
from sr_engine.models.files import save_model
from sr_engine.models.generator import Generator


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    pixels = np.random.default_rng(0).integers(0, 256, (40, 56, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "photo.png")
    return tmp_path / "photo.png"


def test_a_sheet_is_written_and_the_regions_are_told(photo: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = photo.with_name("new") / "sheet.png"
    assert cli.main(["analyze", str(photo), "-o", str(target)]) == 0
    first, last = capsys.readouterr().out.splitlines()
    assert first.startswith("smooth 0%  edge ")
    with Image.open(target) as sheet:
        assert last == f"{photo} -> {target}  {sheet.width}x{sheet.height}"
    assert list(target.parent.iterdir()) == [target]


def test_a_model_adds_its_gates(photo: Path, capsys: pytest.CaptureFixture[str]) -> None:
    net = Generator(scale=2, preset="small", width=8, stages=2, units=1, heads=1, kernel_channels=4)
    save_model(photo.with_name("m.safetensors"), net)
    save_model(photo.with_name("n.safetensors"), Generator(scale=2, preset="nano", steer=True, film=True))
    heights = []
    for model, extra in (("m", ["--attention-share", "0.5"]), ("n", [])):
        path, target = photo.with_name(f"{model}.safetensors"), photo.with_name(f"{model}.png")
        assert cli.main(["analyze", str(photo), "-o", str(target), "--model", str(path), *extra]) == 0
        heights.append(Image.open(target).height)
    assert "The model has no attention: no gates to draw." in capsys.readouterr().out
    # Two gates and the gains fill a row, the gains alone one as well, with a note below.
    assert heights[1] - heights[0] == 24 + 24


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "I;16"])
def test_pictures_of_every_kind(tmp_path: Path, mode: str) -> None:
    grey = np.random.default_rng(0).integers(0, 256, (9, 12), np.uint8)
    deep = Image.fromarray(grey.astype(np.uint16) * 257)
    (deep if mode == "I;16" else Image.fromarray(grey).convert(mode)).save(tmp_path / "in.png")
    assert cli.main(["analyze", str(tmp_path / "in.png"), "-o", str(tmp_path / "out.png")]) == 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["{folder}/gone.png", "-o", "{folder}/s.png"], "gone.png: does not exist."),
        (["{folder}", "-o", "{folder}/s.png"], "is a folder, expected a picture."),
        (["{folder}/text.png", "-o", "{folder}/s.png"], "text.png: is not a picture in a known format"),
        (["{folder}/photo.png", "-o", "{folder}/s.jpg"], "s.jpg: the sheet is a PNG file, name it s.png."),
        (["{folder}/photo.png", "-o", "{folder}/photo.png"], "photo.png: is the picture itself"),
        (["{folder}/photo.png", "-o", "{folder}/dir.png"], "dir.png: is a folder"),
        (["{folder}/photo.png", "-o", "{folder}/text.png/s.png"], "s.png: cannot be written: "),
        (["{folder}/photo.png", "-o", "{folder}/s.png", "--model", "tinny"], "model 'tinny' is neither"),
        (["{folder}/photo.png", "-o", "{folder}/s.png", "--attention-share", "0.5"], "attention share of 0.5 needs"),
        (["{folder}/photo.png", "-o", "{folder}/s.png", "--device", "cuda:99"], "cuda"),
    ],
)
def test_what_cannot_be_done_is_one_sentence(
    photo: Path, capsys: pytest.CaptureFixture[str], words: list[str], message: str
) -> None:
    folder = photo.parent
    (folder / "text.png").write_text("no picture")
    (folder / "dir.png").mkdir()
    before = sorted(folder.iterdir())
    assert cli.main(["analyze", *(word.format(folder=folder) for word in words)]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert message in lines[0]
    assert sorted(folder.iterdir()) == before

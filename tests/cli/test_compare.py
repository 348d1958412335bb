"""`sr-engine compare` on real files, and one sentence for what cannot be done."""

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sr_engine.cli import main as cli


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """small.png, large.png (4x) and odd.png (of another shape), besides what is no picture."""
    random = np.random.default_rng(0)
    for name, size in (("small", (12, 16)), ("large", (48, 64)), ("odd", (48, 60))):
        Image.fromarray(random.integers(0, 256, (*size, 3), np.uint8)).save(tmp_path / f"{name}.png")
    (tmp_path / "text.png").write_text("no picture")
    (tmp_path / "cut.png").write_bytes((tmp_path / "large.png").read_bytes()[:2000])
    (tmp_path / "old.html").write_text("old")
    (tmp_path / "dir.html").mkdir()
    (tmp_path / "picture.html").write_bytes((tmp_path / "large.png").read_bytes())
    return tmp_path


def test_a_page_is_written_and_what_it_says_is_printed(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    small, large, target = folder / "small.png", folder / "large.png", folder / "new" / "page.HTM"
    assert cli.main(["compare", str(small), str(large), "-o", str(target)]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "small.png was enlarged 4 times, from 16x12 to 64x48 pixels, by Magic Kernel Sharp 2021.",
        f"{small}, {large} -> {target}  64x48",
    ]
    assert list(target.parent.iterdir()) == [target]
    assert target.read_text(encoding="utf-8").count("data:image/") == 2


def test_labels_format_and_scores(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    large, target = str(folder / "large.png"), folder / "page.html"
    words = ["compare", large, large, "-o", str(target), "--labels", "before", "<after>", "--format", "jpeg"]
    assert cli.main(words) == 0
    assert capsys.readouterr().out.startswith("The two have the same luma: PSNR-Y is infinite, SSIM-Y 1.\n")
    page = target.read_text(encoding="utf-8")
    assert "<title>before | &lt;after&gt;</title>" in page
    assert page.count("data:image/jpeg;base64,") == 2


def test_a_page_is_replaced_when_asked_alone(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["compare", str(folder / "small.png"), str(folder / "large.png"), "-o", str(folder / "old.html")]
    assert cli.main(words) == 2
    assert "old.html: exists already: use --overwrite or another output." in capsys.readouterr().err
    assert (folder / "old.html").read_text() == "old"
    assert cli.main([*words, "--overwrite"]) == 0
    assert (folder / "old.html").read_text(encoding="utf-8").startswith("<!doctype html>")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["gone.png", "large.png", "-o", "p.html"], "gone.png: does not exist."),
        (["large.png", "dir.html", "-o", "p.html"], "dir.html: is a folder, expected a picture."),
        (["large.png", "text.png", "-o", "p.html"], "text.png: is not a picture in a known format"),
        (["cut.png", "large.png", "-o", "p.html"], "cut.png: is damaged or truncated"),
        (["odd.png", "large.png", "-o", "p.html"], "large.png (64x48) differ in shape: expected the same size, or two"),
        (["small.png", "large.png", "-o", "p.png"], "p.png: expected a name that ends in .html or .htm."),
        (["small.png", "large.png", "-o", "dir.html"], "dir.html: this is a folder"),
        (["small.png", "large.png", "-o", "dir.html/../text.png/p.html"], "nothing can be written there"),
        (["large.png", "picture.html", "-o", "picture.html", "--overwrite"], "picture.html: is one of the pictures"),
        (["small.png", "large.png", "-o", "p.html", "--labels", "a", " "], "expected two texts that are not empty"),
    ],
)
def test_what_cannot_be_done_is_one_sentence(
    folder: Path, capsys: pytest.CaptureFixture[str], words: list[str], message: str
) -> None:
    before = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    paths = [str(folder / word) if "." in word else word for word in words]
    assert cli.main(["compare", *paths]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert message in lines[0]
    assert {path: path.stat().st_mtime_ns for path in folder.iterdir()} == before


def test_two_pictures_are_needed_and_the_formats_are_named(folder: Path) -> None:
    large = os.fspath(folder / "large.png")
    for words in ([large, "-o", "p.html"], [large, large], [large, large, "-o", "p.html", "--format", "gif"]):
        with pytest.raises(SystemExit) as stopped:
            cli.main(["compare", *words])
        assert stopped.value.code == 2

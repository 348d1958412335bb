"""`sr-engine upscale` without `--model`, `sr-engine info` of models that come along."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sr_engine.cli.main import main
from sr_engine.models import files
from sr_engine.models.files import save_model
from sr_engine.models.generator import Generator
from sr_kernels import dispatch

TRAINING = {
    "name": "tiny_x2",
    "iterations": 28000,
    "data": {"pictures": 3, "crops": 9, "licences": {"CC0-1.0": 2, "CC-BY-4.0": 1}, "attribution": "all are named"},
    "losses": {"pixel": {"type": "charbonnier", "loss_weight": 1.0}},
    "batch_size": 8,
    "patch_size": 48,
    "recipe": {"dataset": {"type": "folder", "degradation": "bicubic"}, "training": {"seed": 3}},
    "commit": "0123abc",
    "machine": "two cores",
    "hours": 2.5,
    "scores": {
        "Set5": {"psnr_y": 37.123, "ssim_y": 0.9512, "pictures": 5, "rivals": {"bicubic": 33.66, "mks2021": 33.9}},
        "Set5, jpeg 50": {"psnr_y": 30.0, "ssim_y": 0.9, "pictures": 5, "lpips": 0.1234},
    },
    "note": "a note",
}


@pytest.fixture(autouse=True)
def shipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of small networks in place of those that come along."""
    monkeypatch.setenv(dispatch.ENVIRONMENT_VARIABLE, "auto")
    folder = tmp_path / "weights"
    monkeypatch.setattr(files, "SHIPPED", folder)
    for name in ("tiny-x2", "tiny-x2-photo", "tiny-x4"):
        net = Generator(scale=2 if "-x2" in name else 4, preset="nano", width=8, stages=1)
        save_model(folder / f"{name}.safetensors", net, training=TRAINING, licence="Apache-2.0")
    return folder


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    Image.fromarray(np.full((6, 8, 3), 90, np.uint8)).save(tmp_path / "photo.jpg")
    return tmp_path / "photo.jpg"


def call(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, str, str]:
    code = main([str(word) for word in words])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def size(path: Path) -> tuple[int, int]:
    with Image.open(path) as picture:
        return picture.size


def test_four_times_is_the_default(photo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = call(capsys, "upscale", photo, "-o", tmp_path / "big.png")
    assert (code, err) == (0, "photo.jpg: tiny-x4\n")
    assert out.startswith(f"{photo} -> {tmp_path / 'big.png'}  32x24")
    assert size(tmp_path / "big.png") == (32, 24)


def test_the_scale_chooses_the_model(photo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = call(capsys, "upscale", photo, "-o", tmp_path / "big.png", "--scale", 2)
    assert code == 0
    assert err.splitlines() == [
        "photo.jpg is a JPEG: tiny-x2-photo (made for noise and JPEG artefacts; --model tiny-x2 for clean pictures)"
    ]
    assert size(tmp_path / "big.png") == (16, 12)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--scale", "3"], (24, 18)),
        (["--scale", "2.5"], (20, 15)),
        (["--scale", "0.5"], (4, 3)),
        (["--scale", "6"], (48, 36)),
        (["--size", "20x20"], (20, 15)),
        (["--size", "20x20!"], (20, 20)),
        (["--size", "x9"], (12, 9)),
        (["--scale", "2", "--model", "tiny-x4"], (16, 12)),
        (["--scale", "1.5", "--model", "mks2021"], (12, 9)),
        (["--scale", "1.5", "--model", "bicubic"], (12, 9)),
        (["--size", "16x", "--model", "bicubic"], (16, 12)),
    ],
)
def test_any_size(
    photo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], expected: tuple[int, int]
) -> None:
    code, out, _ = call(capsys, "upscale", photo, "-o", tmp_path / "big.png", *words)
    assert code == 0
    assert size(tmp_path / "big.png") == expected
    assert f"{expected[0]}x{expected[1]}" in out


def test_a_named_model_is_not_discussed(photo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = call(capsys, "upscale", photo, "-o", tmp_path / "big.png", "--model", "tiny-x2")
    assert (code, err) == (0, "")
    assert size(tmp_path / "big.png") == (16, 12)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--size", "big"], "big"),
        (["--model", "tiny-x5"], "did you mean 'tiny-x4'?"),
        (["--attention-share", "7"], "share must be above 0"),
    ],
)
def test_errors_are_one_line(
    photo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], message: str
) -> None:
    code, _, err = call(capsys, "upscale", photo, "-o", tmp_path / "big.png", *words)
    assert code == 2
    assert message in err.splitlines()[-1]
    assert not (tmp_path / "big.png").exists()


def test_eval_wants_a_model_and_names_what_there_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = call(capsys, "eval", "--data", tmp_path)
    assert code == 2
    assert "no model given" in err
    assert "one of tiny-x2, tiny-x2-photo, tiny-x4, bicubic, mks2021" in err


def test_info_shows_the_card(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = call(capsys, "info", "--model", "tiny-x2")
    assert code == 0
    for line in (
        "licence            Apache-2.0",
        "iterations         28,000",
        "data               3 photographs, 9 crops of them (2 CC0-1.0, 1 CC-BY-4.0)",
        "attribution        all are named",
        "data set           folder, degradation bicubic",
        "losses             pixel: charbonnier, loss_weight 1.0",
        "batch              8 patches of 48x48 low-resolution pixels",
        "more settings      seed 3",
        "commit             0123abc",
        "machine            two cores",
        "hours              2.5",
        "Set5               37.12 dB PSNR-Y, 0.9512 SSIM-Y (5 pictures; bicubic 33.66, mks2021 33.90)",
        "Set5, jpeg 50      30.00 dB PSNR-Y, 0.9000 SSIM-Y (5 pictures; lpips 0.1234)",
        "note               a note",
    ):
        assert f"  {line}\n" in out
    assert "None" not in out.replace("None, 'heads'", "")


def test_info_of_a_file_that_says_little_or_odd_things(shipped: Path, capsys: pytest.CaptureFixture[str]) -> None:
    odd = {"data": "folder", "iterations": None, "losses": 3, "scores": [1], "validation": {"psnr_y": None}}
    save_model(shipped / "odd-x2.safetensors", Generator(scale=2, preset="resampler"), training=odd)
    code, out, _ = call(capsys, "info", "--model", "odd-x2")
    assert code == 0
    assert "  data               folder\n" in out
    assert "iterations" not in out

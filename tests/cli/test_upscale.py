"""`sr-engine upscale` as a user calls it."""

import argparse
import os

import numpy as np
import pytest
from PIL import Image
from safetensors.torch import save_file

from sr_engine.cli import upscale
from sr_engine.errors import EngineError
from sr_engine.models import files
from sr_kernels import dispatch


@pytest.fixture(autouse=True)
def untouched_environment(monkeypatch):
    monkeypatch.setenv(dispatch.ENVIRONMENT_VARIABLE, "auto")


@pytest.fixture
def photo(tmp_path):
    Image.fromarray(np.full((6, 8, 3), 90, np.uint8)).save(tmp_path / "photo.png")
    return tmp_path / "photo.png"


def call(*words: object) -> int:
    parser = argparse.ArgumentParser()
    upscale.add_arguments(parser)
    return upscale.run(parser.parse_args([str(word) for word in words]))


def test_a_file(photo, tmp_path, capsys):
    assert call(photo, "-o", tmp_path / "big.png", "--model", "mks2021", "--scale", 4) == 0
    assert "32x24" in capsys.readouterr().out
    with Image.open(tmp_path / "big.png") as big:
        assert big.size == (32, 24)
        assert big.getpixel((5, 5)) == (90, 90, 90)


def test_a_folder_with_a_bad_picture_ends_with_1_and_its_reason(photo, tmp_path, capsys):
    (tmp_path / "bad.png").write_bytes(b"not a picture")
    assert call(tmp_path, "-o", tmp_path / "out", "--model", "bicubic", "--scale", 2) == 1
    captured = capsys.readouterr()
    assert "bad.png: is not a picture" in captured.err
    assert "1 upscaled" in captured.err
    assert "1 failed:" in captured.err
    assert (tmp_path / "out" / "photo_x2.png").exists()


def test_a_trained_model_file(photo, tmp_path):
    from sr_engine.models.files import save_model
    from sr_engine.models.generator import Generator

    save_model(tmp_path / "model.safetensors", Generator(scale=2, preset="nano"))
    for tile in ("auto", "off", "32"):
        target = tmp_path / f"{tile}.png"
        assert call(photo, "-o", target, "--model", tmp_path / "model.safetensors", "--tile", tile) == 0
        with Image.open(target) as out:
            assert out.size == (16, 12)


def test_impl_is_set_for_the_process(photo, tmp_path):
    assert call(photo, "-o", tmp_path / "a.png", "--model", "mks2021", "--scale", 2, "--impl", "reference") == 0
    assert os.environ[dispatch.ENVIRONMENT_VARIABLE] == "reference"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], r"no model given .*sr-engine train configs/x4\.yml.* --model mks2021 --scale 4"),
        (["--model", "bicubic"], "--scale 4"),
        (["--model", "tinny-x4"], "tinny-x4"),
        (["--model", "gone.safetensors"], r"gone\.safetensors"),
        (["--model", "{folder}/half.safetensors"], r"half\.safetensors"),
        (["--model", "{folder}/other.safetensors"], r"other\.safetensors"),
        (["--model", "bicubic", "--scale", "2", "--device", "cuda:99"], "device 'cuda:99' does not exist"),
        (["--model", "bicubic", "--scale", "2", "--tile", "3"], "tile 3 cannot be used"),
    ],
)
def test_what_cannot_be_done_is_one_sentence(photo, tmp_path, monkeypatch, words, message):
    import torch

    monkeypatch.setattr(files, "SHIPPED", tmp_path / "none")

    save_file({"weight": torch.zeros(64)}, tmp_path / "other.safetensors")
    content = (tmp_path / "other.safetensors").read_bytes()
    (tmp_path / "half.safetensors").write_bytes(content[: len(content) // 2])
    with pytest.raises(EngineError, match=message) as caught:
        call(photo, "-o", tmp_path / "out.png", *(word.format(folder=tmp_path) for word in words))
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out.png").exists()


def test_an_impossible_impl_is_an_error_and_never_a_silent_fallback(photo, tmp_path, monkeypatch):
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    words = ["--model", "mks2021", "--scale", 2, "--impl", "triton", "--device", "cpu"]
    with pytest.raises(EngineError, match=r"--impl triton: .*impl='triton' cannot run"):
        call(photo, "-o", tmp_path / "out.png", *words)


def test_nonsense_for_tile_is_refused_by_the_parser(photo, tmp_path, capsys):
    with pytest.raises(SystemExit):
        call(photo, "-o", tmp_path / "out.png", "--tile", "big")
    assert "expected auto, off or a number of pixels" in capsys.readouterr().err


@pytest.mark.parametrize("model", [[], ["--model", "tiny-x4"], ["--model", "bicubic", "--scale", 2]])
@pytest.mark.parametrize(
    ("precision", "message"),
    [
        (
            "int8",
            r"^precision 'int8' is not offered, use one of auto, fp32, bf16, fp16: INT8 loses .*docs/precision\.md\.$",
        ),
        ("Float8", "^precision 'Float8' is not offered.*: FP8 loses"),
        ("bf61", r"^precision 'bf61' is unknown \(did you mean 'bf16'\?\): expected one of auto, fp32, bf16, fp16\.$"),
    ],
)
def test_a_precision_that_is_not_there_is_one_sentence(photo, tmp_path, model, precision, message):
    with pytest.raises(EngineError, match=message):
        call(photo, "-o", tmp_path / "out.png", *model, "--precision", precision)
    assert not (tmp_path / "out.png").exists()

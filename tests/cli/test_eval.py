"""`sr-engine eval` as a user calls it."""

import argparse
import json

import numpy as np
import pytest
from PIL import Image

from sr_engine.cli import evaluate
from sr_engine.errors import EngineError


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "hr").mkdir()
    for index in range(2):
        pixels = np.random.default_rng(index).integers(0, 256, (30, 41, 3), np.uint8)
        Image.fromarray(pixels).save(tmp_path / "hr" / f"picture{index}.png")
    return tmp_path / "hr"


def call(*words: object) -> int:
    parser = argparse.ArgumentParser()
    evaluate.add_arguments(parser)
    return evaluate.run(parser.parse_args([str(word) for word in words]))


def test_table_and_json(folder, tmp_path, capsys):
    assert call("--model", "bicubic", "--scale", 2, "--data", folder, "--json", tmp_path / "scores.json") == 0
    scores = json.loads((tmp_path / "scores.json").read_text())
    assert list(scores) == ["model", "scale", "images", "mean"]
    assert (scores["model"], scores["scale"]) == ("bicubic", 2)
    assert [list(image) for image in scores["images"]] == [["name", "psnr_y", "ssim_y", "seconds"]] * 2
    assert list(scores["mean"]) == ["psnr_y", "ssim_y"]
    assert scores["mean"]["psnr_y"] == pytest.approx(np.mean([image["psnr_y"] for image in scores["images"]]))
    table = capsys.readouterr().out.splitlines()
    assert table[0] == f"bicubic x2 on {folder}, 2 pictures"
    assert [line.split()[-1] for line in table[1:]] == ["picture", "picture0", "picture1", "mean"]
    assert table[-1].split()[0] == f"{scores['mean']['psnr_y']:.2f}"


def test_spoiled_pictures_and_consistency(folder, tmp_path, capsys):
    plain = ["--model", "bicubic", "--scale", 2, "--data", folder, "--json", tmp_path / "scores.json"]
    clean = json.loads((tmp_path / "scores.json").read_text()) if call(*plain) == 0 else {}
    capsys.readouterr()
    assert call(*plain, "--noise", 4, "--jpeg", 30, "--consistency") == 0
    scores = json.loads((tmp_path / "scores.json").read_text())
    assert list(scores) == ["model", "scale", "defects", "images", "mean"]
    assert scores["defects"] == {"noise": 4.0, "jpeg": 30}
    assert list(scores["mean"]) == ["psnr_y", "ssim_y", "reduced_psnr", "colour_shift"]
    assert list(scores["images"][0])[-3:] == ["seconds", "reduced_psnr", "colour_shift"]
    assert scores["mean"]["psnr_y"] < clean["mean"]["psnr_y"]
    table = capsys.readouterr().out.splitlines()
    assert table[0] == f"bicubic x2 on {folder}, 2 pictures, noise 4, jpeg 30"
    assert table[1].split() == ["PSNR-Y", "SSIM-Y", "seconds", "reduced", "shift", "picture"]
    assert [len(line.split()) for line in table[2:5]] == [6, 6, 6]
    mean = table[4].split()
    assert (mean[3], mean[5]) == (f"{scores['mean']['reduced_psnr']:.2f}", "mean")
    assert table[5].startswith("reduced: PSNR")


def test_perceptual_metric_is_a_column(folder, tmp_path, capsys, monkeypatch):
    class Fixed:
        lower_better = True

        def __init__(self, name, _device):
            self.value = len(name)

        def __call__(self, picture, original):
            assert picture.shape == original.shape == (30, 40, 3)
            return self.value / 8

    monkeypatch.setattr("sr_engine.metrics.perceptual.PerceptualMetric", Fixed)
    words = ["--model", "bicubic", "--scale", 2, "--data", folder, "--json", tmp_path / "s.json"]
    assert call(*words, "--metric", "lpips", "dists_long") == 0
    assert json.loads((tmp_path / "s.json").read_text())["mean"]["dists_long"] == 1.25
    table = capsys.readouterr().out.splitlines()
    assert table[1].split()[3:] == ["lpips", "dists_long", "picture"]
    assert table[4].split()[3:] == ["0.6250", "1.2500", "mean"]
    assert table[5:] == ["lpips: lower is better", "dists_long: lower is better"]


@pytest.mark.parametrize("words", [["--jpeg", "0"], ["--jpeg", "50.5"], ["--noise", "-1"], ["--noise", "much"]])
def test_impossible_defects_are_refused(folder, words, capsys):
    with pytest.raises(SystemExit):
        call("--model", "bicubic", "--scale", 2, "--data", folder, *words)
    assert f"expected a number from {1 if words[0] == '--jpeg' else 0} to" in capsys.readouterr().err


def test_set5_from_the_command_line(shared_data, tmp_path):
    data = shared_data / "test" / "Set5"
    assert call("--model", "bicubic", "--scale", 4, "--data", data, "--json", tmp_path / "scores.json") == 0
    scores = json.loads((tmp_path / "scores.json").read_text())
    assert scores["mean"]["psnr_y"] == pytest.approx(28.42, abs=0.02)
    # Computed with scikit-image's structural_similarity in its Gaussian form on the same pictures.
    assert scores["mean"]["ssim_y"] == pytest.approx(0.81121, abs=0.001)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--data", "{folder}"], "no model given"),
        (["--data", "{folder}/gone", "--model", "bicubic", "--scale", "2"], "gone"),
        (
            ["--data", "{folder}", "--model", "bicubic", "--scale", "2", "--json", "{folder}/picture0.png/x"],
            "0.png.x: ",
        ),
    ],
)
def test_what_cannot_be_done_is_one_sentence(folder, words, message):
    with pytest.raises(EngineError, match=message):
        call(*(word.format(folder=folder) for word in words))


def test_a_refused_precision_says_what_it_costs(folder):
    with pytest.raises(EngineError, match=r"'INT8' is not offered.*INT8 loses .*docs/precision\.md\.$"):
        call("--model", "bicubic", "--scale", 2, "--data", folder, "--precision", "INT8")

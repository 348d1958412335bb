"""`sr-engine prune` as a user calls it."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from sr_engine.cli.main import main
from sr_engine.compress.groups import spec_of
from sr_engine.models.files import load_model, save_model
from sr_engine.models.generator import Generator


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "hr").mkdir()
    for index in range(3):
        pixels = np.random.default_rng(index).integers(0, 256, (60, 80, 3), np.uint8)
        Image.fromarray(pixels).save(tmp_path / "hr" / f"{index}.png")
    return tmp_path / "hr"


@pytest.fixture
def model(tmp_path):
    torch.manual_seed(0)
    net = Generator(scale=2, preset="tiny")
    torch.nn.init.normal_(net.tail.weight, std=0.01)  # pyright: ignore
    save_model(tmp_path / "whole.safetensors", net, training={"name": "whole", "scores": {"Set5": {}}})
    return tmp_path / "whole.safetensors"


def call(*words: object) -> int:
    return main(["prune", *(str(word) for word in words)])


@pytest.fixture(autouse=True)
def _quick(monkeypatch) -> None:
    monkeypatch.setattr("sr_engine.compress.measure.latencies", lambda *_, **__: [2.0, 1.5])


@pytest.mark.parametrize("criterion", ["taylor", "l1"])
def test_a_model_becomes_a_smaller_one(folder, model, tmp_path, capsys, criterion: str) -> None:
    out = tmp_path / "pruned.safetensors"
    words = ("--model", model, "--ratio", 0.35, "-o", out, "--data", folder, "--json", tmp_path / "report.json")
    assert call(*words, "--criterion", criterion, "--device", "cpu") == 0
    report = json.loads((tmp_path / "report.json").read_text())
    net, whole = load_model(out, fold=False), load_model(model)
    assert report["before"]["parameters"] == spec_of(whole).parameters
    assert report["after"]["parameters"] == spec_of(net).parameters
    assert report["reached"] == pytest.approx(0.35, abs=0.03)
    assert report["after"]["macs"] < report["before"]["macs"]
    assert report["sizes"]["width"] == [32, 32]
    assert report["before"]["psnr_y"] > 5
    assert spec_of(net).training["name"] == "whole"
    assert "scores" not in spec_of(net).training
    assert spec_of(net).training["pruned"]["criterion"] == criterion
    assert hasattr(net.get_submodule("body.0.convs.0"), "squeeze"), "the form that trains was lost"

    text = capsys.readouterr().out
    assert text.splitlines()[0] == f"{model} x2 -> {out}"
    assert "ratio asked 0.35, reached 0.3" in text
    assert "PSNR-Y: mean over what importance was not measured on, pictures: 1" in text
    assert f"sr-engine train configs/x4_pruned.yml load_from={out} prune=null distill.teacher={model} scale=2" in text
    assert main(["info", "--model", str(out)]) == 0
    assert (
        f"{spec_of(whole).parameters:,} weights to {spec_of(net).parameters:,} by {criterion}"
        in capsys.readouterr().out
    )

    again = tmp_path / "again.safetensors"
    assert call("--model", out, "--ratio", 0.2, "-o", again, "--data", folder, "--criterion", "l2") == 0
    assert spec_of(load_model(again)).parameters == pytest.approx(0.8 * spec_of(net).parameters, rel=0.04)


def test_a_folded_model_stays_folded(folder, model, tmp_path) -> None:
    save_model(tmp_path / "folded.safetensors", load_model(model))
    out = tmp_path / "pruned.safetensors"
    words = ("--model", tmp_path / "folded.safetensors", "--ratio", 0.2, "-o", out, "--data", folder)
    assert call(*words, "--criterion", "l1") == 0
    assert not hasattr(load_model(out, fold=False).get_submodule("body.0.convs.0"), "squeeze")


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("--ratio", "0"), "ratio must be above 0 and at most 0.9"),
        (("--ratio", "0.95"), "ratio must be above 0 and at most 0.9"),
        (("--criterion", "tailor"), "criterion 'tailor' is unknown (did you mean 'taylor'?)"),
        (("-o", "pruned.pth"), "expected a name that ends in .safetensors"),
        (("--model", "bicubic"), "'bicubic' is a classical upsampler without weights to remove; name a network."),
        (("--model", "resampler-x4", "--data", "hr"), "nothing that pruning can remove"),
        (("--model", "hr/n.onnx"), "an ONNX file has no channels to remove"),
        (("--model", "nothing"), "neither a file nor a name"),
        (("--data", "nowhere"), "nowhere"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_errors_are_one_sentence(folder, model, tmp_path, capsys, monkeypatch, words, sentence) -> None:
    monkeypatch.chdir(folder.parent)
    (folder / "n.onnx").touch()
    given = {"--model": model, "--ratio": 0.3, "-o": tmp_path / "pruned.safetensors", "--data": folder}
    given |= dict(zip(words[::2], words[1::2], strict=True))
    assert call(*(word for pair in given.items() for word in pair)) == 2
    error = capsys.readouterr().err
    assert sentence in error
    assert error.count("\n") == 1
    assert not (tmp_path / "pruned.safetensors").exists()


def test_a_result_that_cannot_be_written_is_found_out_first(folder, model, tmp_path, capsys) -> None:
    (tmp_path / "file").write_text("")
    assert call("--model", model, "--ratio", 0.3, "-o", tmp_path / "file" / "a.safetensors", "--data", folder) == 2
    assert "nothing can be written there" in capsys.readouterr().err

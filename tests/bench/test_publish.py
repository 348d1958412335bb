"""Publishing: a finished run becomes a small, folded file that says where it is from; the pages say what files say."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import cast

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from bench.photographs import licence_counts, page, read
from bench.publish import ROOT, main
from sr_engine.config import yaml12
from sr_engine.infer.evaluate import evaluate, folder_pairs, spoiled
from sr_engine.infer.upscaler import Upscaler
from sr_engine.models import files
from sr_engine.models.files import load_model, read_model_file, save_model
from sr_engine.models.generator import Generator

Publish = Callable[..., int]
PROVENANCE = {
    "name": "tiny_x2",
    "iterations": 300,
    "data": "folder",
    "losses": {"pixel": {"type": "charbonnier", "loss_weight": 1.0}},
    "batch_size": 8,
    "patch_size": 48,
    "seed": 5,
    "versions": {"torch": "2.14.1"},
}
CONFIG = {
    "name": "tiny_x2",
    "scale": 2,
    "datasets": {"train": {"type": "folder", "path": "/secret/place", "degradation": {"jpeg": [40, 95]}}},
    "training": {"total_iter": 300, "seed": 5, "batch_size": 8, "precision": "auto", "keep_last": 3, "net_d_iters": 1},
}
CROPS = [
    {"src": "a/one.jpg", "licence": "CC0-1.0", "source": "example.org/a"},
    {"src": "a/one.jpg", "licence": "CC0-1.0", "source": "example.org/a"},
    {"src": "a/two_by_Jane_Doe.jpg", "licence": "CC-BY-SA 4.0", "source": "example.org/a"},
    {"src": "b/three.jpg", "licence": "CC-BY-SA-4.0 (Max Muster)", "source": "example.org/b"},
    {"src": "b/four.png", "licence": "GPL-2+ (package)", "source": "example.org/b", "author": "Ann", "url": "http://x"},
]


def network(seed: int) -> Generator:
    torch.manual_seed(seed)
    net = Generator(scale=2, preset="nano", width=8, stages=2)
    for parameter in net.parameters():
        nn.init.normal_(parameter, std=0.05)
    return net.eval()


@pytest.fixture
def house(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a finished run, a list of photographs and a test set; weights and pages go there too."""
    monkeypatch.setattr(files, "SHIPPED", tmp_path / "weights")
    run = tmp_path / "run"
    save_model(run / "model.safetensors", network(0), training=PROVENANCE)
    save_model(run / "best.safetensors", network(1), training={**PROVENANCE, "iterations": 200})
    (run / "config.yml").write_text(yaml12.dump(CONFIG), encoding="utf-8")
    rows = [{"iter": 100 * k, "event": "train", "it_per_s": 0.5 * k} for k in (1, 2, 3)]
    rows.insert(1, {"iter": 100, "event": "validation"})
    (run / "log.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    (tmp_path / "photos.json").write_text(json.dumps(CROPS))
    (tmp_path / "Set2").mkdir()
    for k in range(2):
        noise = np.random.default_rng(k).integers(0, 256, (24, 30, 3), np.uint8)
        Image.fromarray(noise).save(tmp_path / "Set2" / f"{k}.png")
    return tmp_path


@pytest.fixture
def publish(house: Path) -> Publish:
    def call(*flags: str, name: str = "tiny-x2") -> int:
        paths = [str(house / "run"), "--photos", str(house / "photos.json"), "--docs", str(house / "docs")]
        return main([*paths, "--name", name, *flags])

    return call


def cards(house: Path, *flags: str) -> int:
    return main(["--cards", "--docs", str(house / "docs"), *flags])


def test_the_file_holds_the_averaged_weights_folded(house: Path, publish: Publish) -> None:
    assert publish() == 0
    file = read_model_file("tiny-x2")
    assert file.folded
    assert file.spec.licence == "Apache-2.0"
    x = torch.rand(1, 3, 6, 7)
    with torch.no_grad():
        torch.testing.assert_close(load_model("tiny-x2")(x), network(0)(x), rtol=1e-4, atol=1e-5)
        assert publish("--best") == 0
        torch.testing.assert_close(load_model("tiny-x2")(x), network(1)(x), rtol=1e-4, atol=1e-5)
    assert [path.name for path in (house / "weights").iterdir()] == ["tiny-x2.safetensors"]


def test_weights_of_another_model_are_mixed_in(
    house: Path, publish: Publish, capsys: pytest.CaptureFixture[str]
) -> None:
    assert publish(name="tiny-x2-gan") == 0
    assert publish("--best") == 0
    assert publish("--blend", "tiny-x2=0.25", name="tiny-x2-gan") == 0
    mixed, first, second = (load_model(name).state_dict() for name in ("tiny-x2-gan", str(house / "run"), "tiny-x2"))
    for name, weight in mixed.items():
        torch.testing.assert_close(weight, 0.75 * first[name] + 0.25 * second[name])
    assert cards(house) == 0
    assert "0.25 of the weights of tiny-x2, the rest of this training" in (house / "docs/models.md").read_text()
    assert publish("--blend", "tiny-x2=much", name="tiny-x2-gan") == 1
    assert "--blend tiny-x2=much: expected a model of this layout, and a share of 0..1" in capsys.readouterr().err
    deeper = Generator(scale=2, preset="nano", width=8, stages=3)
    save_model(house / "deeper.safetensors", deeper)
    assert publish("--blend", f"{house / 'deeper.safetensors'}=0.5", name="tiny-x2-gan") == 1
    assert "expected a model of this layout" in capsys.readouterr().err


def test_the_file_says_where_it_is_from(house: Path, publish: Publish) -> None:
    given = ["--commit", "0123abc", "--machine", "two cores", "--note", "a note", "--licence", "CC0-1.0"]
    assert publish("--test", f"Set2={house / 'Set2'}", *given) == 0
    spec = read_model_file("tiny-x2").spec
    facts = spec.training
    assert spec.licence == "CC0-1.0"
    assert (facts["commit"], facts["machine"], facts["note"]) == ("0123abc", "two cores", "a note")
    assert facts["hours"] == round((100 / 0.5 + 100 / 1.0 + 100 / 1.5) / 3600, 2)
    assert facts["seed"] == 5
    assert facts["data"]["pictures"] == 4
    assert facts["data"]["crops"] == 5
    assert facts["data"]["licences"] == {"CC-BY-SA-4.0": 2, "CC0-1.0": 1, "GPL-2+": 1}
    assert facts["recipe"] == {
        "dataset": {"type": "folder", "degradation": {"jpeg": [40, 95]}},
        "training": {"total_iter": 300, "precision": "auto"},
    }
    pairs = folder_pairs(house / "Set2", scale=2)
    ours = evaluate(Upscaler("tiny-x2", device="cpu", precision="fp32"), pairs, scale=2).mean()
    bicubic = evaluate(Upscaler("bicubic", scale=2, device="cpu"), pairs, scale=2).mean()
    score = facts["scores"]["Set2"]
    assert score["psnr_y"] == pytest.approx(ours.psnr_y, abs=1e-3)
    assert score["ssim_y"] == pytest.approx(ours.ssim_y, abs=1e-4)
    assert score["rivals"]["bicubic"] == pytest.approx(bicubic.psnr_y, abs=1e-3)
    assert score["pictures"] == 2
    assert "/secret" not in (house / "weights/tiny-x2.safetensors").read_text(encoding="latin-1")


def test_spoiled_sets_are_scored_beside_the_model_for_clean_pictures(house: Path, publish: Publish) -> None:
    assert publish() == 0
    flags = ["--test", f"Set2={house / 'Set2'}", "--spoil", "noise=20,jpeg=30", "--spoil", "jpeg=90"]
    assert publish("--best", *flags, name="tiny-x2-photo") == 0
    scores = read_model_file("tiny-x2-photo").spec.training["scores"]
    assert list(scores) == ["Set2", "Set2, noise 20, jpeg 30", "Set2, jpeg 90"]
    for one in scores.values():
        assert list(one["rivals"]) == ["bicubic", "mks2021", "tiny-x2"]
    pairs = spoiled(folder_pairs(house / "Set2", scale=2), noise=20, jpeg=30)
    plain = evaluate(Upscaler("tiny-x2", device="cpu", precision="fp32"), pairs, scale=2).mean()
    assert scores["Set2, noise 20, jpeg 30"]["rivals"]["tiny-x2"] == pytest.approx(plain.psnr_y, abs=1e-3)
    with pytest.raises(SystemExit):
        publish("--spoil", "noise=20;jpeg=30")


def test_scores_of_sr_engine_eval_are_taken_over(house: Path, publish: Publish) -> None:
    mean = {"psnr_y": 24.5, "ssim_y": 0.7, "lpips": 0.25}
    content = {"model": "x", "scale": 2, "images": [{}, {}, {}], "mean": mean}
    (house / "jpeg.json").write_text(json.dumps(content))
    assert publish("--scores", f"BSD100, JPEG 50={house / 'jpeg.json'}") == 0
    expected = {"BSD100, JPEG 50": {**mean, "pictures": 3}}
    assert read_model_file("tiny-x2").spec.training["scores"] == expected
    assert "| BSD100, JPEG 50 | 3 | **24.50** | 0.7000 | - | lpips 0.25 |" in (house / "docs/models.md").read_text()


def test_the_page_is_what_the_files_say(house: Path, publish: Publish, capsys: pytest.CaptureFixture[str]) -> None:
    assert publish("--test", f"Set2={house / 'Set2'}", "--note", "a note | with a bar") == 0
    assert publish("--commit", "0123abc", name="tiny-x2-photo") == 0
    path = house / "docs/models.md"
    text = path.read_text(encoding="utf-8")
    assert text.index("\n## tiny-x2\n") < text.index("\n## tiny-x2-photo\n") < text.index("\n## Licences\n")
    for line in (
        "| licence of the weights | Apache-2.0 |",
        "| data | 4 photographs, 5 crops of them (2 CC-BY-SA-4.0, 1 CC0-1.0, 1 GPL-2+) |",
        "| data set | folder, degradation {'jpeg': [40, 95]} |",
        "| commit | 0123abc |",
        "| note | a note / with a bar |",
    ):
        assert f"{line}\n" in text
    assert cards(house, "--check") == 0
    save_model(house / "weights/tiny-x2.safetensors", load_model("tiny-x2"), training={**PROVENANCE, "iterations": 301})
    capsys.readouterr()
    assert cards(house, "--check") == 1
    [line] = capsys.readouterr().err.splitlines()
    assert "models.md is not what the model files say: run `python -m bench.publish --cards`" in line
    assert path.read_text(encoding="utf-8") == text, "--check writes nothing"
    assert cards(house) == 0
    assert "| iterations | 301 |" in path.read_text(encoding="utf-8")


def test_the_page_without_models_says_so(house: Path) -> None:
    assert cards(house) == 0
    assert "None comes with this version." in (house / "docs/models.md").read_text()


def test_photographs_are_named_with_licence_and_author(house: Path, publish: Publish) -> None:
    assert publish() == 0
    text = (house / "docs/training-pictures.md").read_text(encoding="utf-8")
    assert text == page(read(house / "photos.json"))
    for line in (
        "| CC-BY-SA-4.0 | 2 |",
        "| a/one.jpg | CC0-1.0 | - |",
        "| a/two_by_Jane_Doe.jpg | CC-BY-SA 4.0 | Jane Doe |",
        "| b/three.jpg | CC-BY-SA-4.0 (Max Muster) | Max Muster |",
        "| [b/four.png](http://x) | GPL-2+ (package) | Ann |",
    ):
        assert text.count(f"{line}\n") == 1


def test_the_shared_photographs(shared_data: Path) -> None:
    found = read(shared_data / "train/photos.json")
    assert len(found) == 176
    assert sum(one.crops for one in found) == 641
    assert sum(licence_counts(found).values()) == 176
    authors = {one.file: one.author for one in found}
    assert authors["fedora/zen.png"] == "hhlp"
    assert authors["elementary/Sunset_by_the_Pier.jpg"] is None
    assert authors["unsplash_sq/ja-san-miguel-_-QQuvAwQ-0-unsplash.jpg"] == "Ja San Miguel"


def _unfinished(house: Path) -> None:
    save_model(house / "run/model.safetensors", network(0), training={**PROVENANCE, "iterations": 200})


@pytest.mark.parametrize(
    ("spoil", "flags", "said"),
    [
        (_unfinished, [], "the run is not finished: its weights have 200 of 300 iterations"),
        (lambda house: (house / "run/model.safetensors").unlink(), [], "has no model.safetensors: the run is not fin"),
        (lambda house: (house / "run/config.yml").unlink(), [], "expected the folder of a run"),
        (lambda house: (house / "photos.json").unlink(), [], "photos.json: no such file"),
        (lambda house: (house / "photos.json").write_text('[{"src": 1}]'), [], "expected a JSON list of crops"),
        (lambda house: (house / "photos.json").write_text("[]"), [], "the list is empty"),
        (None, ["--test", "Set9=/gone"], "/gone"),
        (None, ["--scores", "Set9=/gone"], "/gone: expected what `sr-engine eval --json` writes"),
        (None, ["--name", "tiny-x4"], "--name tiny-x4: expected -x2 in it"),
    ],
)
def test_errors_are_one_sentence_and_leave_no_file(
    house: Path,
    publish: Publish,
    capsys: pytest.CaptureFixture[str],
    spoil: Callable[[Path], object] | None,
    flags: list[str],
    said: str,
) -> None:
    if spoil is not None:
        spoil(house)
    assert publish(*flags) == 1
    [line] = capsys.readouterr().err.splitlines()
    assert said in line
    assert not list((house / "weights").glob("*"))


def test_a_file_that_is_too_large_replaces_nothing(
    house: Path, publish: Publish, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert publish() == 0
    before = (house / "weights/tiny-x2.safetensors").read_bytes()
    monkeypatch.setattr("bench.publish.LARGEST", 1000)
    assert publish("--best") == 1
    assert "expected at most 1,000" in capsys.readouterr().err
    assert (house / "weights/tiny-x2.safetensors").read_bytes() == before
    assert len(list((house / "weights").iterdir())) == 1


def test_the_repository_shows_what_its_files_say(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--cards", "--check"]) == 0, capsys.readouterr().err
    if list((ROOT / "sr_engine/weights").glob("*.safetensors")):
        assert (ROOT / "docs/training-pictures.md").is_file()


def test_settings_of_a_discriminator_count_where_there_is_one(house: Path, publish: Publish) -> None:
    (house / "run/config.yml").write_text(yaml12.dump({**CONFIG, "network_d": {"type": "unet"}}), encoding="utf-8")
    assert publish() == 0
    assert read_model_file("tiny-x2").spec.training["recipe"]["training"]["net_d_iters"] == 1


def test_the_configuration_of_a_real_run_is_understood(house: Path, publish: Publish) -> None:
    """As the trainer writes it, numbers such as 1.0e-02 included."""
    text = yaml12.dump(CONFIG).replace("precision: auto", "precision: auto\n  grad_clip: 1.0e-02")
    (house / "run/config.yml").write_text(text, encoding="utf-8")
    assert publish() == 0
    training = read_model_file("tiny-x2").spec.training["recipe"]["training"]
    assert cast(dict, training)["grad_clip"] == 1e-2

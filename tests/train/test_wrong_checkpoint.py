"""Checkpoints that can be read and hold something else: one sentence each, and the file they came from is named."""

import io
import zipfile
from typing import Any

import pytest
import torch

from sr_engine.errors import CheckpointError
from sr_engine.train import run
from sr_engine.train.checkpoint import load_checkpoint


@pytest.fixture
def begun(tmp_path, make_config, quiet):
    """A run of one checkpoint, with a discriminator; returns what continues it from that file, changed."""
    config = make_config("training.total_iter=6", gan=True)
    run(config, output=tmp_path / "old", device="cpu", console=quiet)
    path = tmp_path / "old/checkpoints/00000006.ckpt"
    longer = make_config("training.total_iter=8", gan=True)

    def proceed(**changed: Any) -> str:
        torch.save({**torch.load(path, weights_only=True), **changed}, tmp_path / "changed.ckpt")
        with pytest.raises(CheckpointError) as caught:
            run(longer, output=tmp_path / "new", resume=str(tmp_path / "changed.ckpt"), device="cpu", console=quiet)
        assert not (tmp_path / "new").exists()
        assert "\n" not in str(caught.value)
        return str(caught.value)

    return proceed, torch.load(path, weights_only=True)


def test_what_is_wrong_is_named(begun, tmp_path):
    proceed, whole = begun
    weights = whole["generator"]["net"]
    name = "last.weight"

    def generator(**changed: Any) -> dict[str, Any]:
        return {**whole["generator"], **changed}

    nan = torch.full_like(weights[name], torch.nan)
    moments = {**whole["generator"]["optimizer"]}
    moments["state"] = {n: {**m, "exp_avg": torch.zeros(2)} for n, m in moments["state"].items()}
    cases: dict[str, dict[str, Any]] = {
        "has no usable 'iteration'": {"iteration": "3"},
        "has no usable 'config'": {"config": None},
        "has no usable 'rng'": {"rng": [{"python": (3, (1, 2), None)}]},
        "has no usable 'meter'": {"meter": [1]},
        "has no usable 'stage'": {"stage": 7},
        "has no usable 'prune'": {"prune": {"whole": 1}},
        "has no usable 'generator'": {"generator": {"net": {}}},
        f"has NaN or infinite numbers in weight '{name}' of 'generator'": {
            "generator": generator(net={**weights, name: nan})
        },
        "do not fit the networks of the configuration": {
            "generator": generator(net={**weights, name: torch.zeros(3, 3)})
        },
        "the optimiser of the generator has no usable 'exp_avg'": {"generator": generator(optimizer=moments)},
        "'layout' makes no network": {"layout": {"width": 10**12}},
        "is not a training checkpoint of format 1": {"format": 2},
    }
    for text, changed in cases.items():
        assert text in proceed(**changed), changed.keys()


@pytest.mark.parametrize("missing", ["iteration", "config", "generator", "ema", "rng", "meter", "best", "device"])
def test_what_is_missing_is_named(tmp_path, begun, missing):
    _, whole = begun
    del whole[missing]
    torch.save(whole, tmp_path / "a.ckpt")
    with pytest.raises(CheckpointError, match=rf"a\.ckpt has no '{missing}': delete it or use an older one\.$"):
        load_checkpoint(tmp_path / "a.ckpt")


def test_an_archive_that_would_grow_is_refused_before_it_does(tmp_path):
    buffer = io.BytesIO()
    torch.save({"format": 1, "weight": torch.zeros(2**23)}, buffer)
    with (
        zipfile.ZipFile(buffer) as plain,
        zipfile.ZipFile(tmp_path / "a.ckpt", "w", zipfile.ZIP_DEFLATED, compresslevel=9) as packed,
    ):
        for info in plain.infolist():
            packed.writestr(info.filename, plain.read(info))
    assert (tmp_path / "a.ckpt").stat().st_size < 2**17
    with pytest.raises(CheckpointError, match=r"would unpack to 33,\d+,\d+ bytes, from a file of \d+,\d+: "):
        load_checkpoint(tmp_path / "a.ckpt")

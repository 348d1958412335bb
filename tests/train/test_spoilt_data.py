"""Data that goes bad in the middle of a run: it goes on or stops as configured, and names the culprit."""

import json
import logging
from pathlib import Path

import pytest
import torch

from sr_engine.data import Batch
from sr_engine.data.images import write_image
from sr_engine.errors import ImageFileError
from sr_engine.models.files import read_model_file
from sr_engine.train import run
from sr_engine.train.session import Session
from sr_engine.train.steps import Steps


@pytest.fixture
def own_pictures(pictures, tmp_path):
    """Pictures that may be spoilt."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    for path in pictures.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    return folder


def _at_iteration(monkeypatch, iteration, do):
    original = Steps.launch

    def launch(self, pair, it, **arguments):
        if it == iteration:
            do()
        return original(self, pair, it, **arguments)

    monkeypatch.setattr(Steps, "launch", launch)


def _truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:400])


def _replace(path: Path) -> None:
    write_image(path, torch.zeros(30, 32, 3, dtype=torch.uint8).numpy())


HARM = {"truncated": _truncate, "removed": Path.unlink, "another": _replace}


@pytest.mark.parametrize(("workers", "harm"), [(0, "truncated"), (0, "removed"), (0, "another"), (2, "truncated")])
def test_a_picture_that_goes_bad_is_skipped_or_stops_the_run_as_configured(
    tmp_path, monkeypatch, make_config, own_pictures, quiet, caplog, workers, harm
):
    overrides = (
        f"datasets.train={{type: folder, path: '{own_pictures}', cache_mb: 0, workers: {workers}}}",
        "datasets.val=null",
        "training.checkpoint_every=2",
        "training.total_iter=16",
    )
    victim = own_pictures / "picture2.png"
    whole = victim.read_bytes()
    if not workers:
        run(make_config(*overrides), output=tmp_path / "whole", device="cpu", console=quiet)
    with monkeypatch.context() as patch:
        _at_iteration(patch, 3, lambda: HARM[harm](victim))
        with pytest.raises(ImageFileError, match=r"picture2\.png") as caught:
            run(make_config(*overrides), output=tmp_path / "stops", device="cpu", console=quiet)
    assert "\n" not in str(caught.value)
    if not workers:  # and goes on as if nothing had been when the picture is back
        victim.write_bytes(whole)
        run(make_config(*overrides), output=tmp_path / "stops", device="cpu", console=quiet)
        models = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("whole", "stops")]
        assert models[0] == models[1]
    victim.write_bytes(whole)
    skipping = make_config(*overrides, "datasets.train.on_bad_file=skip")
    with caplog.at_level(logging.WARNING, "sr_engine"), monkeypatch.context() as patch:
        _at_iteration(patch, 3, lambda: HARM[harm](victim))
        run(skipping, output=tmp_path / "skips", device="cpu", console=quiet)
    assert read_model_file(tmp_path / "skips").spec.training["iterations"] == 16
    assert sum("skipping a picture" in r.message and str(victim) in r.message for r in caplog.records) == 1


@pytest.mark.parametrize("gan", [False, True])
def test_a_nan_in_a_batch_costs_one_step_and_names_the_pictures(tmp_path, monkeypatch, make_config, quiet, gan):
    original, names = Session.pair, []

    def pair(self, batch: Batch):
        made = original(self, batch)
        if batch.index == 5:
            made.lr[1, 0, 3, 3] = torch.nan
            names.extend(batch.names)
        return made

    monkeypatch.setattr(Session, "pair", pair)
    run(make_config(gan=gan), output=tmp_path, device="cpu", console=quiet)
    rows = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    (row,) = [row for row in rows if row["event"] == "skipped"]
    assert row["iter"] == 6
    assert row["pictures"] == sorted(set(names))
    assert "nan" in row["reason"]
    assert all(torch.isfinite(w).all() for w in read_model_file(tmp_path).state.values())
    state = torch.load(tmp_path / "checkpoints/00000012.ckpt", weights_only=True)
    for part in ("generator", "discriminator") if gan else ("generator",):
        assert all(torch.isfinite(w).all() for w in state[part]["net"].values())

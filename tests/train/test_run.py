"""Runs from the outside: what they leave behind, what they refuse, and how they end."""

import errno
import io
import json
from contextlib import nullcontext
from pathlib import Path

import pytest
import torch
from PIL import Image
from rich.console import Console

from sr_engine.config.load import load_config
from sr_engine.errors import CheckpointError, ConfigError, TrainingError
from sr_engine.models.files import load_model, read_model_file
from sr_engine.train import run
from sr_engine.train.distributed import World
from sr_engine.train.steps import Steps


def _events(output: Path, event: str) -> list[dict]:
    rows = [json.loads(line) for line in (output / "log.jsonl").read_text().splitlines()]
    return [row for row in rows if row["event"] == event]


def _plain() -> Console:
    return Console(file=io.StringIO(), force_terminal=False, width=100)


def _text(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_a_run_leaves_everything_it_promises(tmp_path, make_config):
    output, console = tmp_path / "run", _plain()
    config = make_config("training.validate_every=5", "training.checkpoint_every=5", "logging.tensorboard=true")
    assert run(config, output=output, device="cpu", console=console) == output

    assert load_config(output / "config.yml") == config
    assert [row["iter"] for row in _events(output, "train")] == [4, 8, 12]
    row = _events(output, "train")[-1]
    assert row["losses"].keys() == row["weights"].keys() == {"pixel"}
    assert 0.0 <= row["data_wait"] <= 1.0
    assert [row["iter"] for row in _events(output, "validation")] == [5, 10, 12]
    assert list((output / "tensorboard").glob("events.*"))
    strips = sorted((output / "visualization/picture0").iterdir())
    assert [path.name for path in strips] == ["00000005.png", "00000010.png", "00000012.png"]
    assert Image.open(strips[0]).size == (3 * 72 + 4, 72)
    assert Image.open(output / "comparison.png").size[0] > 1000

    net = load_model(output / "model.safetensors")
    assert net(torch.rand(1, 3, 5, 7)).shape == (1, 3, 10, 14)
    training = read_model_file(output).spec.training
    assert training["iterations"] == 12
    assert training["validation"]["psnr_y"] == pytest.approx(_events(output, "validation")[-1]["psnr_y"])
    assert str(tmp_path) not in json.dumps(training)

    text = _text(console)
    assert "tiny  4/12" in text
    assert text.count("it/s") == 3
    for word in ("eta", "data wait", "pixel", "bicubic", "MKS2021", "picture0", "vs MKS2021"):
        assert word in text


def test_repeating_a_finished_run_says_so_and_changes_nothing(tmp_path, make_config, quiet):
    output, console = tmp_path / "run", _plain()
    run(make_config(), output=output, device="cpu", console=quiet)
    files = {path: path.read_bytes() for path in output.rglob("*") if path.is_file()}
    run(make_config("training.seed=5"), output=output, device="cpu", console=console)
    assert "is finished (12 of 12 iterations)" in _text(console)
    assert "without effect on a finished run: training.seed: 0 -> 5" in _text(console)
    assert files == {path: path.read_bytes() for path in output.rglob("*") if path.is_file()}


def test_changed_length_learning_rate_and_losses_are_listed_and_take_effect(tmp_path, make_config, quiet):
    output, console = tmp_path / "run", _plain()
    run(make_config(), output=output, device="cpu", console=quiet)
    changed = make_config(
        "training.total_iter=16", "training.optim_g.lr=1e-5", "losses.fft={loss_weight: 0.05}", gan=True
    )
    run(changed, output=output, device="cpu", console=console)
    text = _text(console)
    for line in ("total_iter: 12 -> 16", "optim_g.lr: 0.001 -> ", "losses.fft: added", "network_d: null ->"):
        assert line in text
    row = _events(output, "train")[-1]
    assert row["iter"] == 16
    assert row["lr"] < 1e-5
    assert {"pixel", "fft", "gan", "d_loss"} <= row["losses"].keys()
    assert len(_events(output, "changed")[0]["keys"]) >= 5


def test_another_network_is_refused(tmp_path, make_config, quiet):
    run(make_config(), output=tmp_path, device="cpu", console=quiet)
    for override in ("network_g.width=8", "scale=3"):
        with pytest.raises(CheckpointError, match=r"another network.*--output"):
            run(make_config(override, "training.total_iter=16"), output=tmp_path, device="cpu", console=quiet)


def test_nothing_is_overwritten_silently(tmp_path, make_config, quiet):
    config = make_config("training.checkpoint_every=4")
    run(config, output=tmp_path / "a", device="cpu", console=quiet)
    with pytest.raises(TrainingError, match="choose another --output"):
        run(config, output=tmp_path / "a", resume="none", device="cpu", console=quiet)
    with pytest.raises(TrainingError, match=r"00000012\.ckpt"):  # rewinding would replace the newer checkpoints
        run(
            config,
            output=tmp_path / "a",
            resume=str(tmp_path / "a/checkpoints/00000004.ckpt"),
            device="cpu",
            console=quiet,
        )
    run(config, output=tmp_path / "b", device="cpu", console=quiet)
    with pytest.raises(TrainingError, match="choose another --output"):
        run(config, output=tmp_path / "b", resume=str(tmp_path / "a"), device="cpu", console=quiet)
    for path in (tmp_path / "b/checkpoints").iterdir():
        path.unlink()
    with pytest.raises(TrainingError, match=r"model\.safetensors"):
        run(config, output=tmp_path / "b", device="cpu", console=quiet)


def test_a_new_folder_continues_from_a_checkpoint_elsewhere(tmp_path, make_config, quiet):
    config = make_config("training.checkpoint_every=4", "training.keep_last=5")
    run(config, output=tmp_path / "a", device="cpu", console=quiet)
    old = tmp_path / "a/checkpoints/00000004.ckpt"
    run(config, output=tmp_path / "b", resume=str(old), device="cpu", console=quiet)
    assert (tmp_path / "a/model.safetensors").read_bytes() == (tmp_path / "b/model.safetensors").read_bytes()
    with pytest.raises(CheckpointError, match="does not exist"):
        run(config, output=tmp_path / "c", resume=str(tmp_path / "nothing.ckpt"), device="cpu", console=quiet)


def test_the_last_and_the_best_checkpoint_are_kept(tmp_path, make_config, quiet, monkeypatch):
    scores = iter([30.0, 29.0, 28.0, 27.0])
    monkeypatch.setattr("sr_engine.infer.evaluate.psnr_y", lambda *_a, **_k: value[0])
    value: list[float] = []
    original = Steps.launch

    def launch_and_worsen(self, pair, it, **arguments):
        if it % 3 == 2:
            value[:] = [next(scores)]
        return original(self, pair, it, **arguments)

    monkeypatch.setattr(Steps, "launch", launch_and_worsen)
    config = make_config("training.validate_every=3", "training.checkpoint_every=2", "training.keep_last=1")
    run(config, output=tmp_path, device="cpu", console=quiet)
    assert sorted(p.name for p in (tmp_path / "checkpoints").iterdir()) == ["00000003.ckpt", "00000012.ckpt"]
    assert read_model_file(tmp_path / "best.safetensors").spec.training["iterations"] == 3


def test_too_many_bad_steps_stop_with_a_report(tmp_path, make_config, monkeypatch):
    console = _plain()
    monkeypatch.setattr("sr_engine.losses.pixel.charbonnier", lambda a, b, _: (a - b).mean() * torch.nan)
    with pytest.raises(TrainingError, match=r"3 bad steps in a row.*pixel is nan.*picture\d"):
        run(make_config("training.max_bad_steps=3"), output=tmp_path, device="cpu", console=console)
    skipped = _events(tmp_path, "skipped")
    assert [row["iter"] for row in skipped] == [1, 2, 3]
    assert all(name.startswith("picture") for name in skipped[0]["pictures"])
    assert _text(console).count("skipped iteration") == 3


def test_a_full_disk_is_one_sentence_and_the_last_checkpoint_remains(tmp_path, make_config, quiet, monkeypatch):
    config = make_config("training.checkpoint_every=5")
    original, calls = torch.save, []

    def save(*args, **kwargs):
        calls.append(1)
        if len(calls) == 2:
            raise OSError(errno.ENOSPC, "No space left on device")
        return original(*args, **kwargs)

    monkeypatch.setattr(torch, "save", save)
    with pytest.raises(CheckpointError, match="No space left on device"):
        run(config, output=tmp_path, device="cpu", console=quiet)
    assert [p.name for p in (tmp_path / "checkpoints").iterdir()] == ["00000005.ckpt"]
    run(config, output=tmp_path, device="cpu", console=quiet)
    assert (tmp_path / "model.safetensors").exists()


def test_a_full_disk_while_logging_is_one_sentence_too(tmp_path, make_config, quiet, monkeypatch):
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("sr_engine.train.scores.save_strips", full)
    with pytest.raises(TrainingError, match=r"visualization could not be written \(No space left"):
        run(make_config(), output=tmp_path, device="cpu", console=quiet)


def test_a_stale_model_of_a_run_that_was_continued_is_replaced(tmp_path, make_config, quiet):
    run(make_config(), output=tmp_path, device="cpu", console=quiet)
    stale = (tmp_path / "model.safetensors").read_bytes()
    longer = make_config("training.total_iter=14")
    run(longer, output=tmp_path, device="cpu", console=quiet)
    final = (tmp_path / "model.safetensors").read_bytes()
    (tmp_path / "model.safetensors").write_bytes(stale)  # killed after the last checkpoint, before the model
    run(longer, output=tmp_path, device="cpu", console=quiet)
    assert (tmp_path / "model.safetensors").read_bytes() == final != stale


def test_load_from_another_scale_says_what_it_took_over(tmp_path, make_config, quiet):
    run(make_config(), output=tmp_path / "x2", device="cpu", console=quiet)
    console = _plain()
    config = make_config("scale=3", f"load_from={tmp_path / 'x2'}", "training.total_iter=1")
    run(config, output=tmp_path / "x3", device="cpu", console=console)
    assert "starting from" in _text(console)
    assert "weights taken over" in _text(console)


def test_a_batch_that_cannot_be_divided_among_processes_is_refused(tmp_path, make_config, quiet, monkeypatch):
    world = World(torch.device("cpu"), rank=0, size=3)
    monkeypatch.setattr("sr_engine.train.trainer.join_world", lambda *_: nullcontext(world))
    with pytest.raises(ConfigError, match="choose a multiple of 6"):
        run(make_config("training.accumulate=2"), output=tmp_path, device="cpu", console=quiet)


def test_dry_run_writes_a_plan_and_trains_nothing(tmp_path, make_config):
    console = _plain()
    config = make_config("training.net_d_init_iters=1", gan=True)
    run(config, output=tmp_path / "run", dry_run=True, device="cpu", console=console)
    plan = tmp_path / "run/plan"
    assert sorted(p.name for p in plan.iterdir()) == ["config.yml", "pairs.png", "plan.txt", "weights.png"]
    assert [p.name for p in (tmp_path / "run").iterdir()] == ["plan"]
    text = (plan / "plan.txt").read_text()
    assert text.strip() in _text(console)
    for words in ("feature_matching", "cosine 2-6", "trains from iteration 2, heard by the generator from", "MiB"):
        assert words in text
    assert Image.open(plan / "pairs.png").size == (2 * 24, 4 * 24)
    assert len(Image.open(plan / "weights.png").getcolors() or []) > 3
    assert load_config(plan / "config.yml") == config

"""A run that is interrupted and continued equals, bit for bit, one that is not."""

import json
import os
import signal
from pathlib import Path

import pytest
import torch
from rich.console import Console
from safetensors.torch import load_file

from sr_engine.train import run
from sr_engine.train.checkpoint import load_checkpoint
from sr_engine.train.steps import Steps

CASES = {
    "plain": ((), False),
    "accumulation": (("training.accumulate=2",), False),
    "gan": (("training.net_d_iters=2", "training.net_d_init_iters=2", "training.accumulate=2"), True),
    "gan_with_balance": (("training.balance={every: 2}", "training.optim_d={type: SGD, lr: 1e-3}"), True),
    "generator": (("network_g={type: generator, preset: nano, steer: true, film: true}",), False),
    "bf16": (("training.precision=bf16",), False),
    "in_memory": (("datasets.train.in_memory=true",), False),
}


def _rows(output: Path) -> list[dict]:
    rows = [json.loads(line) for line in (output / "log.jsonl").read_text().splitlines()]
    return [{k: v for k, v in row.items() if k not in ("it_per_s", "data_wait")} for row in rows]


def _interrupt_at(monkeypatch: pytest.MonkeyPatch, iteration: int, number: signal.Signals) -> None:
    """Send this process a signal in the middle of an iteration."""
    original = Steps.launch

    def launch_and_signal(self, pair, it, **arguments):
        if it == iteration:
            os.kill(os.getpid(), number)
        return original(self, pair, it, **arguments)

    monkeypatch.setattr(Steps, "launch", launch_and_signal)


def _assert_equal(a: object, b: object) -> None:
    if isinstance(a, torch.Tensor):
        assert isinstance(b, torch.Tensor)
        assert torch.equal(a, b)
    elif isinstance(a, dict):
        assert isinstance(b, dict)
        assert a.keys() == b.keys()
        for key in a:
            _assert_equal(a[key], b[key])
    elif isinstance(a, list | tuple):
        assert isinstance(b, list | tuple)
        assert len(a) == len(b)
        for x, y in zip(a, b, strict=True):
            _assert_equal(x, y)
    else:
        assert a == b


@pytest.mark.parametrize("case", CASES)
def test_interrupted_and_continued_equals_uninterrupted(tmp_path, monkeypatch, make_config, case, quiet):
    overrides, gan = CASES[case]
    # 5 iterations before the interruption: not at an interval of the log, whose means must still agree.
    config = make_config(*overrides, gan=gan)
    run(config, output=tmp_path / "whole", device="cpu", console=quiet)

    with monkeypatch.context() as patch:
        _interrupt_at(patch, 4, signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            run(config, output=tmp_path / "parts", device="cpu", console=quiet)
    assert [p.name for p in (tmp_path / "parts/checkpoints").iterdir()] == ["00000005.ckpt"]
    torch.rand(3)  # whatever happens in between must not matter
    run(config, output=tmp_path / "parts", device="cpu", console=quiet)

    assert _rows(tmp_path / "whole") == _rows(tmp_path / "parts")
    whole, parts = (load_checkpoint(tmp_path / name / "checkpoints/00000012.ckpt") for name in ("whole", "parts"))
    _assert_equal(whole, parts)
    whole, parts = (load_file(tmp_path / name / "model.safetensors") for name in ("whole", "parts"))
    _assert_equal(whole, parts)


def test_sigterm_finishes_the_step_saves_and_says_how_to_continue(tmp_path, monkeypatch, make_config, capsys):
    _interrupt_at(monkeypatch, 2, signal.SIGTERM)
    handlers = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        run(make_config(), output=tmp_path / "run", device="cpu", console=Console(stderr=True))
    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == handlers
    assert load_checkpoint(tmp_path / "run/checkpoints/00000003.ckpt")["iteration"] == 3
    assert "stopped at iteration 3 of 12" in capsys.readouterr().err
    assert not (tmp_path / "run/model.safetensors").exists()


def test_a_log_line_cut_off_by_a_crash_is_written_again_and_none_twice(tmp_path, make_config, quiet):
    config = make_config("training.checkpoint_every=6", "logging.print_every=2")
    run(config, output=tmp_path / "run", device="cpu", console=quiet)
    expected = _rows(tmp_path / "run")
    log = tmp_path / "run/log.jsonl"
    lines = log.read_text().splitlines(keepends=True)
    log.write_text("".join(lines[:5]) + lines[5][:20])  # died after iteration 10, last saved at 6
    (tmp_path / "run/checkpoints/00000012.ckpt").unlink()
    (tmp_path / "run/model.safetensors").unlink()
    run(config, output=tmp_path / "run", device="cpu", console=quiet)
    assert _rows(tmp_path / "run") == expected


def test_a_truncated_checkpoint_is_named_and_the_older_one_continued(tmp_path, make_config, quiet, caplog):
    config = make_config("training.checkpoint_every=6")
    run(config, output=tmp_path / "run", device="cpu", console=quiet)
    expected = load_file(tmp_path / "run/model.safetensors")
    newest = tmp_path / "run/checkpoints/00000012.ckpt"
    newest.write_bytes(newest.read_bytes()[:1000])
    (tmp_path / "run/model.safetensors").unlink()
    run(config, output=tmp_path / "run", device="cpu", console=quiet)
    assert "00000012.ckpt is truncated or damaged" in caplog.text
    _assert_equal(load_file(tmp_path / "run/model.safetensors"), expected)

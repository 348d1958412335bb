"""Signals at bad moments, and a console that goes away: the run stops or goes on whole."""

import errno
import io
import os
import signal
import threading

import pytest
import torch
from rich.console import Console

from sr_engine.models.files import read_model_file
from sr_engine.train import run
from sr_engine.train.checkpoint import load_checkpoint
from sr_engine.train.interrupt import Interrupt
from sr_engine.train.progress import Progress

pytestmark = pytest.mark.skipif(os.name != "posix", reason="signals are POSIX's")


def _while_saving(monkeypatch, *numbers):
    """Send this process signals when half of the second checkpoint is written."""
    original, calls = torch.save, []

    def save(state, path):
        original(state, path)
        calls.append(path)
        if len(calls) == 2:
            whole = path.read_bytes()
            path.write_bytes(whole[: len(whole) // 2])
            for number in numbers:
                os.kill(os.getpid(), number)
            path.write_bytes(whole)

    monkeypatch.setattr(torch, "save", save)


def _names(folder):
    return sorted(os.listdir(folder))  # noqa: PTH208 (hidden files too)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_signal_while_a_checkpoint_is_written_leaves_it_whole(tmp_path, monkeypatch, make_config, quiet, number):
    _while_saving(monkeypatch, number)
    with pytest.raises(KeyboardInterrupt):
        run(make_config("training.checkpoint_every=4"), output=tmp_path, device="cpu", console=quiet)
    assert _names(tmp_path / "checkpoints") == ["00000004.ckpt", "00000008.ckpt", "00000009.ckpt"]
    assert load_checkpoint(tmp_path / "checkpoints/00000009.ckpt")["iteration"] == 9


def test_a_second_ctrl_c_leaves_the_checkpoint_before(tmp_path, monkeypatch, make_config, quiet):
    config = make_config("training.checkpoint_every=4")
    with monkeypatch.context() as patch:
        _while_saving(patch, signal.SIGINT, signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            run(config, output=tmp_path, device="cpu", console=quiet)
    assert _names(tmp_path / "checkpoints") == ["00000004.ckpt"]
    run(config, output=tmp_path, device="cpu", console=quiet)
    assert read_model_file(tmp_path).spec.training["iterations"] == 12


def test_an_ignored_signal_stays_ignored(monkeypatch):
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # what nohup does
    try:
        with Interrupt() as interrupt:
            os.kill(os.getpid(), signal.SIGHUP)
            assert not interrupt.requested
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


class _Gone(io.StringIO):
    """A terminal or a pipe nobody reads any more, from the second line on."""

    def __init__(self, number: int, terminal: bool) -> None:
        super().__init__()
        self.number, self.terminal, self.failed = number, terminal, 0

    def isatty(self) -> bool:
        return self.terminal

    def write(self, text: str) -> int:
        if self.getvalue().count("\n") > 1 or self.failed:
            self.failed += 1
            raise OSError(self.number, os.strerror(self.number))
        return super().write(text)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
@pytest.mark.parametrize(("number", "terminal"), [(errno.EIO, True), (errno.EIO, False), (errno.EPIPE, False)])
def test_a_console_that_goes_away_does_not_end_the_run(tmp_path, monkeypatch, make_config, number, terminal):
    monkeypatch.setattr(os, "dup2", lambda *_: 0)  # rich turns off this process's output at a broken pipe
    monkeypatch.setattr(threading, "excepthook", lambda _: None)
    file = _Gone(number, terminal)
    console = Console(file=file, force_terminal=terminal, width=80)
    run(make_config(), output=tmp_path, device="cpu", console=console)
    assert file.failed
    assert read_model_file(tmp_path).spec.training["iterations"] == 12


def test_what_can_be_shown_is_shown():
    file = io.StringIO()
    with Progress(Console(file=file), stage="a", total=1) as progress:
        progress.say("seen")
    assert file.getvalue() == "seen\n"

"""What is shown on a terminal and in a pipe, and what a log row holds."""

import io
import json
import math

import pytest
import torch
from rich.console import Console

from sr_engine.train.meter import Interval, Meter
from sr_engine.train.progress import Progress, duration
from sr_engine.train.runlog import RunLog

INTERVAL = Interval(50, {"pixel": 0.03125, "d_loss": 1.5}, {"pixel": 0.5}, 2e-4, 4.0, 0.0123)


def test_a_pipe_gets_one_plain_line_an_interval():
    console = Console(file=io.StringIO(), force_terminal=False, width=40)
    with Progress(console, stage="x4", total=250) as progress:
        progress.psnr = 28.914
        progress.report(INTERVAL)
    assert isinstance(console.file, io.StringIO)
    assert console.file.getvalue() == (
        "x4  50/250  4.00 it/s  eta 0:50  data wait 1.2%  lr 2.00e-04  pixel 0.03125 (x0.5)  d_loss 1.5  val 28.91 dB\n"
    )


def test_a_terminal_gets_a_live_display_that_is_gone_afterwards():
    console = Console(file=io.StringIO(), force_terminal=True, width=80)
    with Progress(console, stage="x4", total=250) as progress:
        progress.report(INTERVAL)
        progress.tick(60)
        progress._live.refresh()
        progress.say("a message [not markup]")
    assert isinstance(console.file, io.StringIO)
    text = console.file.getvalue()
    for words in ("60/250", "4.00 it/s", "data wait 1.2%", "eta 0:48", "0.03125 (x0.5)", "a message [not markup]"):
        assert words in text
    assert text.rstrip().endswith("\x1b[2K") or "\x1b[1A\x1b[2K" in text  # the display's lines are erased


@pytest.mark.parametrize(("seconds", "text"), [(0, "0:00"), (59.6, "1:00"), (3599, "59:59"), (3661, "1:01:01")])
def test_duration(seconds, text):
    assert duration(seconds) == text


def test_a_meter_reports_means_once_and_continues_from_its_state():
    meter = Meter()
    meter.add({"a": torch.tensor(1.0), "b": torch.tensor(4.0)}, {"a": 0.5})
    resumed = Meter()
    resumed.load_state_dict(meter.state_dict())
    with resumed.step():
        resumed.add({"a": torch.tensor(2.0)}, {"a": 0.25})
        with resumed.wait():
            pass
    interval = resumed.report(2, 1e-3)
    assert interval.losses == {"a": 1.5, "b": 4.0}
    assert interval.weights == {"a": 0.25}
    assert 0.0 < interval.data_wait < 1.0
    assert interval.it_per_s > 0.0
    assert resumed.report(3, 1e-3).losses == {}


def test_rows_are_strict_json_also_for_numbers_it_does_not_know(tmp_path):
    log = RunLog(tmp_path, iteration=0, tensorboard=False)
    log.event(1, "validation", psnr_y=math.inf, images={"a": math.nan})
    log.close()
    row = json.loads((tmp_path / "log.jsonl").read_text(), parse_constant=lambda name: pytest.fail(name))
    assert row == {"iter": 1, "event": "validation", "psnr_y": "inf", "images": {"a": "nan"}}


def test_a_continued_log_keeps_the_rows_up_to_the_checkpoint(tmp_path):
    log = RunLog(tmp_path, iteration=0, tensorboard=False)
    for iteration in (5, 10, 15):
        log.event(iteration, "train")
    log.close()
    RunLog(tmp_path, iteration=10, tensorboard=False).close()
    assert [json.loads(line)["iter"] for line in (tmp_path / "log.jsonl").read_text().splitlines()] == [5, 10]
    RunLog(tmp_path, iteration=0, tensorboard=False).close()
    assert (tmp_path / "log.jsonl").read_text() == ""

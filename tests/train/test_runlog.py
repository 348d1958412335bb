"""The record of a run where the disk is full: told at once, and nothing that was recorded before is lost."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from sr_engine.errors import TrainingError
from sr_engine.train.runlog import RunLog, read_rows

resource = pytest.importorskip("resource", reason="limits on files are POSIX's")


@contextmanager
def no_file_larger_than(size: int) -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_row_that_does_not_fit_is_an_error_and_is_gone_in_the_next_start(tmp_path: Path) -> None:
    log = RunLog(tmp_path, iteration=0, tensorboard=False)
    log.event(1, "train", text="fits")
    with no_file_larger_than(200):
        with pytest.raises(TrainingError, match=r"log\.jsonl could not be written \(File too large\)"):
            log.event(2, "train", text="x" * 300)
        log.close()
    assert len((tmp_path / "log.jsonl").read_text().splitlines()) == 2, "half of a row is there"
    assert [row["iter"] for row in read_rows(tmp_path / "log.jsonl")] == [1]
    again = RunLog(tmp_path, iteration=1, tensorboard=False)
    again.event(2, "train", text="fits")
    again.close()
    assert [json.loads(line)["iter"] for line in (tmp_path / "log.jsonl").read_text().splitlines()] == [1, 2]


@pytest.mark.filterwarnings("error")
def test_tensorboard_that_does_not_fit_is_an_error_before_the_checkpoint(tmp_path: Path) -> None:
    log = RunLog(tmp_path, iteration=0, tensorboard=True)
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)

    def record() -> None:
        log.validation(1, {"psnr_y": 30.0, "ssim_y": 0.9}, {"a": noise})
        log.sync()

    with no_file_larger_than(2000):
        with pytest.raises(TrainingError, match=r"tensorboard could not be written \(File too large\)"):
            record()
        log.close()
    assert [row["iter"] for row in read_rows(tmp_path / "log.jsonl")] == [1]


def test_what_was_recorded_before_a_checkpoint_survives_a_kill(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    log = RunLog(tmp_path, iteration=0, tensorboard=True)
    log.validation(1, {"psnr_y": 30.0, "ssim_y": 0.9}, {})
    log.sync()  # and nothing after it, as if killed
    found = EventAccumulator(str(tmp_path / "tensorboard"))
    found.Reload()
    assert [event.step for event in found.Scalars("validation/psnr_y")] == [1]
    log.close()

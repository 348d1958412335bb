"""The record of a run: `log.jsonl`, one JSON object a line, and TensorBoard events."""

import json
import os
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from sr_engine.atomic import atomic_write
from sr_engine.train.checkpoint import writing
from sr_engine.train.meter import Interval

LOG_FILE = "log.jsonl"


class RunLog:
    """Appends to the record of a run.

    Every row has `iter` (iterations done) and `event`: `train` (losses, weights, lr, it_per_s, data_wait),
    `validation` (psnr_y, ssim_y, images), `skipped` (reason, pictures), `pruned` (parameters_before, parameters_after),
    `changed` (keys) or `finished`; in a curriculum also `stage` (counted from 1) and `scale`.

    Attributes:
        every_row: what else stands in each row.

    Args:
        output: folder of the run.
        iteration: where the run continues; rows beyond it, written after the checkpoint was taken, are removed.
        tensorboard: whether events are written to `<output>/tensorboard`.
        finished: whether all iterations are done, and only the end of the run is told again.

    Raises:
        TrainingError: on any call, when one of the files cannot be written.
    """

    def __init__(self, output: Path, *, iteration: int, tensorboard: bool, finished: bool = False) -> None:
        self.path, self.board = output / LOG_FILE, output / "tensorboard"
        self.every_row: dict[str, Any] = {}
        with writing(self.path):
            self._keep_until(iteration, finished)
            self._file = self.path.open("a", encoding="utf-8", buffering=1)
        self._writer: Any = None
        if tensorboard:
            from torch.utils.tensorboard import SummaryWriter  # 1 s to import

            with writing(self.board):
                self._writer = SummaryWriter(str(self.board), purge_step=iteration + 1)
            self._hook = threading.excepthook
            threading.excepthook = self._thread_failed

    def close(self) -> None:
        """Close the files. What cannot be written any more is left out: `sync` tells of that."""
        with suppress(OSError):
            self._file.close()
        if self._writer is not None:
            with suppress(OSError):
                self._writer.close()
            threading.excepthook = self._hook

    def sync(self) -> None:
        """Have everything recorded so far survive the end of the process and of the machine."""
        with writing(self.path):
            self._file.flush()
            os.fsync(self._file.fileno())
        if self._writer is not None:
            with writing(self.board):
                self._writer.flush()

    def train(self, interval: Interval) -> None:
        """Record the means of an interval."""
        row = {name: value for name, value in vars(interval).items() if name != "iteration"}
        self.event(interval.iteration, "train", **row)
        if self._writer is not None:
            with writing(self.board):
                for name, value in interval.losses.items():
                    self._writer.add_scalar(f"loss/{name}", value, interval.iteration)
                for name, value in interval.weights.items():
                    self._writer.add_scalar(f"weight/{name}", value, interval.iteration)
                for name in ("lr", "it_per_s", "data_wait"):
                    self._writer.add_scalar(f"train/{name}", row[name], interval.iteration)

    def validation(self, iteration: int, row: dict[str, Any], crops: dict[str, np.ndarray]) -> None:
        """Record a validation: its scores, and HWC uint8 pictures by name."""
        self.event(iteration, "validation", **row)
        if self._writer is not None:
            with writing(self.board):
                self._writer.add_scalar("validation/psnr_y", row["psnr_y"], iteration)
                self._writer.add_scalar("validation/ssim_y", row["ssim_y"], iteration)
                for name, picture in crops.items():
                    self._writer.add_image(name, picture, iteration, dataformats="HWC")

    def event(self, iteration: int, event: str, **values: Any) -> None:
        """Append one row. Numbers that JSON does not know (NaN, infinity) are written as strings."""
        row = {"iter": iteration, "event": event, **self.every_row, **values}
        try:
            text = json.dumps(row, allow_nan=False)
        except ValueError:
            text = json.dumps(_finite(row))
        with writing(self.path):
            self._file.write(text + "\n")

    def _thread_failed(self, args: threading.ExceptHookArgs) -> None:
        """TensorBoard's thread hands what it cannot write to the next call, and prints it too: once is enough."""
        if not isinstance(args.exc_value, OSError) or not type(args.thread).__module__.startswith("tensorboard."):
            self._hook(args)

    def _keep_until(self, iteration: int, finished: bool) -> None:
        if not self.path.exists():
            return
        lines = self.path.read_text(encoding="utf-8", errors="replace").splitlines(keepends=True)
        rows = [(line, _parse(line)) for line in lines if iteration > 0]
        kept = [line for line, row in rows if row is not None and _is_before(row, iteration, finished)]
        if kept != lines:
            with atomic_write(self.path) as temporary:
                temporary.write_text("".join(kept), encoding="utf-8")


def read_rows(path: Path) -> list[dict[str, Any]]:
    """The whole rows of a record; none where there is no file."""
    if not path.is_file():
        return []
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines(keepends=True)
    return [row for line in lines if (row := _parse(line)) is not None]


def _is_before(row: dict[str, Any], iteration: int, finished: bool) -> bool:
    """Whether what a row tells was before the checkpoint of an iteration; these are told after it, and then again."""
    again = ("pruned", "changed", "finished") if finished else ("pruned", "changed")
    return row["iter"] < iteration or (row["iter"] == iteration and row["event"] not in again)


def _parse(line: str) -> dict[str, Any] | None:
    if not line.endswith("\n"):
        return None  # cut off, maybe in a place that leaves JSON
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):  # cut off when the machine went down
        return None
    sound = isinstance(row, dict) and isinstance(row.get("iter"), int) and isinstance(row.get("event"), str)
    return row if sound else None


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, float) and not np.isfinite(value):
        return str(value)
    return value

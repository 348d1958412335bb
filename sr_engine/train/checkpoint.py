"""Checkpoints of a run: written whole or not at all, read without executing anything, the oldest removed.

A checkpoint is a `torch.save` file of tensors and plain values in `checkpoints/<iteration>.ckpt`; it loads with
`weights_only=True`, so a file from elsewhere cannot run code.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from sr_engine.atomic import atomic_write
from sr_engine.errors import CheckpointError, TrainingError
from sr_engine.models.archive import ArchiveError, check_archive
from sr_engine.train.checkpoint_form import problem_of

log = logging.getLogger(__name__)

FORMAT = 1


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Write `state` to `path`; a failure leaves every existing file as it was.

    Raises:
        CheckpointError: the disk is full or the folder cannot be written.
    """
    try:
        with atomic_write(path) as temporary:
            try:
                torch.save({"format": FORMAT, **state}, temporary)
            except RuntimeError:  # of torch's zip writer, which does not tell the reason
                _write_more(temporary)
                raise
    except (OSError, RuntimeError) as error:
        raise CheckpointError(_cannot_write(path, error)) from error


def _write_more(path: Path) -> None:
    """Raises the OSError that ends writing to a file, if one does."""
    with path.open("ab", buffering=0) as file:
        for _ in range(16):
            file.write(bytes(1 << 16))


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Tell what cannot be written, for the other files of a run.

    Raises:
        TrainingError: in place of an OSError inside.
    """
    try:
        yield
    except OSError as error:
        raise TrainingError(_cannot_write(path, error)) from error


def _cannot_write(path: Path, error: Exception) -> str:
    reason = (error.strerror if isinstance(error, OSError) else None) or str(error).splitlines()[0]
    return (
        f"{path} could not be written ({reason}): earlier checkpoints are intact; free disk space or make the folder "
        "writable, then repeat the command to continue from the last one."
    )


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint onto the CPU.

    Raises:
        CheckpointError: the file is missing, truncated, not a checkpoint of this program, or has not all of its parts.
    """
    if not path.is_file():
        raise CheckpointError(f"checkpoint {path} does not exist: give the path of a .ckpt file or of a run folder.")
    try:
        check_archive(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
    except ArchiveError as error:
        raise CheckpointError(f"checkpoint {path} {error}: delete it or use an older one.") from error
    except Exception as error:  # a damaged pickle can fail in any way
        raise CheckpointError(f"checkpoint {path} is truncated or damaged: delete it or use an older one.") from error
    number = state.get("format") if isinstance(state, dict) else None
    if type(number) is not int or number != FORMAT:
        raise CheckpointError(f"{path} is not a training checkpoint of format {FORMAT}: use load_from for model files.")
    if problem := problem_of(state):
        raise CheckpointError(f"checkpoint {path} {problem}: delete it or use an older one.")
    return state


class CheckpointFolder:
    """`<output>/checkpoints`: the last `keep_last` checkpoints, and the best one.

    Args:
        folder: made when the first checkpoint is written.
        keep_last: how many to keep, at least 1.
    """

    def __init__(self, folder: Path, keep_last: int = 3) -> None:
        self.folder = folder
        self.keep_last = max(1, keep_last)

    def path(self, iteration: int) -> Path:
        """Where the checkpoint taken after `iteration` iterations is."""
        return self.folder / f"{iteration:08d}.ckpt"

    def existing(self) -> list[Path]:
        """Checkpoint files, newest first."""
        numbered = (p for p in self.folder.glob("*.ckpt") if p.stem.isdecimal())
        return sorted(numbered, key=lambda p: int(p.stem), reverse=True)

    def save(self, iteration: int, state: dict[str, Any], *, keep: int | None = None) -> Path:
        """Write a checkpoint, then remove those beyond `keep_last`, except that of iteration `keep`.

        Raises:
            CheckpointError: it could not be written; nothing has been removed then.
        """
        path = self.path(iteration)
        save_checkpoint(path, state)
        self.tidy(iteration, keep=keep)
        return path

    def tidy(self, iteration: int, *, keep: int | None = None) -> None:
        """Remove checkpoints beyond `keep_last`, except that of iteration `keep`.

        Those after `iteration` are not touched and do not count: the run continues from an older one since they cannot
        be read, and must not lose the last that can.
        """
        for old in [path for path in self.existing() if int(path.stem) <= iteration][self.keep_last :]:
            if int(old.stem) != keep:
                old.unlink(missing_ok=True)

    def load_newest(self) -> tuple[Path, dict[str, Any]] | None:
        """The newest readable checkpoint; damaged newer ones are named in a warning. None if there are no files.

        Raises:
            CheckpointError: there are checkpoints and none of them can be read.
        """
        paths = self.existing()
        for path in paths:
            try:
                return path, load_checkpoint(path)
            except CheckpointError as error:
                log.warning("%s", error)
        if paths:
            raise CheckpointError(
                f"none of the {len(paths)} checkpoints in {self.folder} can be read: "
                "move the folder away to start anew, or give --resume the path of a whole one."
            )
        return None

"""One picture of a manifest: whether it is to be done, and the attempt to do it, with its outcome as a record."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal, NamedTuple

from sr_engine.data.images import image_size
from sr_engine.errors import DataError, EngineError, ImageFileError
from sr_engine.infer.manifest import Entry, Manifest
from sr_engine.infer.records import History, Record, Records, RecordWriter

# A process may be killed twice for reasons that are not the picture's (a machine that is taken back).
MAX_DEATHS = 3


class Made(NamedTuple):
    """A result that was written. model: what upscaled it."""

    width: int
    height: int
    model: str


Work = Callable[[Path, Path], Made]
"""Upscales the first file into the second, replacing it as a whole; raises EngineError for what cannot be upscaled."""


@dataclass(frozen=True)
class Rules:
    """What counts as done.

    Args:
        models: names of the models that make the results of this run.
        scale: their scale.
        overwrite: replace files that no record tells of, and results of other models.
        retry: try once more what failed before.
    """

    models: frozenset[str]
    scale: int | float
    overwrite: bool = False
    retry: bool = True

    def settled(self, manifest: Manifest, entry: Entry, history: History) -> Record | Literal["kept"] | None:
        """What is known without work: a new outcome, that the recorded one stays, or None = it is to be done.

        A result counts when its file is there and its record says that it was made so. A file that a killed process
        may have made is made again.

        Raises:
            DataError: the result is that of another model, and may not be replaced.
        """
        last, deaths = history
        target = manifest.target(entry)
        if deaths >= MAX_DEATHS:
            died = f"{manifest.source(entry)}: {deaths} processes died at it: upscale it alone to see why."
            return self._failed(entry, died)
        if last is not None and last.status == "failed" and not self.retry:
            return "kept"
        if deaths or not target.exists():
            return None
        if last is not None and self.fits(last):
            return "kept"
        if self.overwrite:
            return None
        if last is not None and last.status == "done":
            raise DataError(f"{target}: was made by {last.model} x{last.scale:g}: use --overwrite or another output.")
        return self.found(manifest, entry)

    def fits(self, record: Record) -> bool:
        """Whether a result is one of this run, as far as its record tells."""
        if record.status == "skipped":
            return not self.overwrite
        return record.status == "done" and record.model in self.models and record.scale == self.scale

    def found(self, manifest: Manifest, entry: Entry) -> Record:
        """The outcome of a picture whose result is there, though no record tells of it: results are whole once they
        have their name, so that it is kept if it has the size that it must have."""
        target = manifest.target(entry)
        try:
            height, width = image_size(target)
            expected = tuple(round(side * self.scale) for side in image_size(manifest.source(entry)))
            if (height, width) != expected:
                raise ImageFileError(f"{target}: is another picture: use --overwrite or another output.")
            size = target.stat().st_size
        except (EngineError, OSError) as error:
            return self._failed(entry, str(error))
        return Record(entry.source, entry.target, "skipped", width=width, height=height, bytes=size, scale=self.scale)

    def _failed(self, entry: Entry, error: str) -> Record:
        return Record(entry.source, entry.target, "failed", error=error, scale=self.scale)


class Known:
    """What all processes have recorded, as of when it was read; before a file that is there is judged, it is read anew,
    but for no more than a tenth of the time.

    Args:
        results, at_work, own: as of `Records`.
    """

    def __init__(self, results: Path, *, at_work: bool, own: str = "") -> None:
        self._open = partial(Records, results, at_work=at_work, own=own)
        self.records = self._open()
        self._good_until = 0.0

    def refresh(self) -> None:
        """Read what was recorded since."""
        self.records.close()
        start = time.perf_counter()
        self.records = self._open()
        end = time.perf_counter()
        self._good_until = end + 10 * (end - start)

    def settled(self, rules: Rules, manifest: Manifest, entry: Entry) -> Record | Literal["kept"] | None:
        """As `Rules.settled`."""
        outcome = rules.settled(manifest, entry, self.records.of(entry.target))
        plain = outcome == "kept" or (outcome is None and not manifest.target(entry).exists())
        if plain or time.perf_counter() < self._good_until:
            return outcome
        self.refresh()
        return rules.settled(manifest, entry, self.records.of(entry.target))

    def __enter__(self) -> "Known":
        return self

    def __exit__(self, *error: object) -> None:
        self.records.close()


def attempt(
    manifest: Manifest, entry: Entry, work: Work, writer: RecordWriter, *, scale: int | float, worker: str
) -> Record:
    """Upscale one picture and record the outcome; a picture that cannot be upscaled is an outcome, too.

    Raises:
        Exception: whatever is no EngineError: a defect, or a device that fails; nothing is recorded then.
    """
    target = manifest.target(entry)
    writer.started(entry.target)
    start = time.perf_counter()
    try:
        made = work(manifest.source(entry), target)
        size = target.stat().st_size
    except EngineError as error:
        seconds = round(time.perf_counter() - start, 3)
        said = " ".join(str(error).split())
        record = Record(entry.source, entry.target, "failed", said, seconds=seconds, scale=scale, worker=worker)
    else:
        seconds = round(time.perf_counter() - start, 3)
        record = Record(
            entry.source, entry.target, "done", None, made.width, made.height, size, seconds, made.model, scale, worker
        )
    writer.finished(record)
    return record

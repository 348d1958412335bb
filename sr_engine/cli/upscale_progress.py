"""What a person sees of pictures being upscaled: a display on a terminal, plain lines anywhere else; a summary."""

import sys
import time
from collections.abc import Sequence
from types import TracebackType
from typing import Self, TextIO

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from sr_engine.infer.files import Listener, Upscaled
from sr_engine.infer.jobs import Job
from sr_engine.infer.streams import shown

_QUIET = 30.0  # seconds without a line after which one says how far a picture is
_STEPS = 1000  # of the bar


class Watch(Listener):
    """Context manager that shows the work on stderr; finished pictures are lines on `lines`.

    Args:
        lines: where finished pictures are told of: stdout, unless a picture goes there.
    """

    def __init__(self, lines: TextIO) -> None:
        self.lines = lines
        self.outcomes: list[Upscaled] = []
        self.begin = self.spoken = time.perf_counter()
        self._weights: dict[Job, float] = {}
        self._all = self._done = 0.0
        self._job: Job | None = None
        console = Console(stderr=True)
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(24),
            MofNCompleteColumn(),
            TextColumn("eta"),
            TimeRemainingColumn(),
            TimeElapsedColumn(),
            console=console,
            transient=True,
            disable=not console.is_terminal,
            redirect_stdout=lines.isatty(),
        )
        self._pictures = self._bar.add_task("pictures", total=None, visible=False)
        self._tiles = self._bar.add_task("tiles", total=None, visible=False)

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()
        if kind is KeyboardInterrupt and len(self._weights) > 1:
            done = len(self.outcomes)
            print(
                f"\nstopped after {done} of {len(self._weights)} pictures: repeat the command for the rest.",
                file=sys.stderr,
            )

    def planned(self, jobs: Sequence[Job]) -> None:
        # The size of a file stands for the work in it: it is known without opening any.
        self._weights = {job: float(max(1, _bytes(job))) for job in jobs}
        self._all = sum(self._weights.values())
        self._bar.update(self._pictures, total=len(jobs), visible=len(jobs) > 1)

    def started(self, job: Job) -> None:
        self._job = job
        self._bar.reset(self._tiles, description=shown(job.source)[-40:], visible=False)

    def tile(self, done: int, total: int) -> None:
        self._bar.update(self._tiles, completed=done, total=total, visible=total > 1)
        if not self._bar.disable or done == total or time.perf_counter() - self.spoken < _QUIET:
            return
        assert self._job is not None, "started() comes first"
        share = (self._done + self._weights[self._job] * done / total) / self._all
        left = (time.perf_counter() - self.begin) * (1 - share) / share
        self._say(f"{shown(self._job.source)}: tile {done} of {total}, about {_duration(left)} left in all")

    def finished(self, outcome: Upscaled) -> None:
        self.outcomes.append(outcome)
        self._all -= self._weights[outcome.job] if outcome.skipped else 0  # took no time
        self._done += 0 if outcome.skipped else self._weights[outcome.job]
        self._bar.update(self._pictures, completed=len(self.outcomes))
        source = shown(outcome.job.source)
        if outcome.error is not None:
            self._say(f"sr-engine: {outcome.error}")
        elif outcome.size is not None:
            width, height = outcome.size
            place = f"[{len(self.outcomes)}/{len(self._weights)}] " if len(self._weights) > 1 else ""
            target = shown(outcome.job.target)
            print(
                f"{place}{source} -> {target}  {width}x{height}  {outcome.seconds:.1f} s", file=self.lines, flush=True
            )
            self.spoken = time.perf_counter()
        for note in outcome.notes:
            self._say(f"{source}: {note}")

    def summary(self) -> int:
        """Say what was done of several pictures, failures last; the exit code."""
        failed = [outcome for outcome in self.outcomes if outcome.error is not None]
        if len(self.outcomes) > 1:
            made = [outcome.size for outcome in self.outcomes if outcome.size is not None]
            there = sum(outcome.skipped for outcome in self.outcomes)
            seconds = time.perf_counter() - self.begin
            parts = [f"{len(made)} upscaled ({sum(w * h for w, h in made) / 1e6 / seconds:.2f} megapixels a second)"]
            parts += [f"{there} were there already (--overwrite makes them anew)"] if there else []
            parts += [f"{len(failed)} failed:"] if failed else []
            self._say(f"{len(self.outcomes)} pictures in {_duration(seconds)}: {', '.join(parts)}")
        for outcome in failed:
            self._say(f"  {outcome.error}")
        return 1 if failed else 0

    def _say(self, line: str) -> None:
        self.spoken = time.perf_counter()
        self._bar.console.print(line, markup=False, highlight=False, soft_wrap=True)


def _bytes(job: Job) -> int:
    try:
        return job.source.stat().st_size
    except OSError:  # gone by now; said when its turn comes
        return 1


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02}" if minutes >= 60 else f"{minutes}:{rest:02}"

"""What a person sees of a run: a live display on a terminal, one plain line an interval anywhere else."""

from collections.abc import Callable
from typing import Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from sr_engine.train.meter import Interval


class Progress:
    """Context manager that shows a run on `console`.

    A console that goes away, with its terminal or the program that reads a pipe, does not end the run: what is shown
    stands in `log.jsonl` too.

    Args:
        console: where to write; a terminal gets the live display.
        stage: what is being trained.
        total: iterations of the whole training.
    """

    def __init__(self, console: Console, *, stage: str, total: int) -> None:
        self.console = console
        self.stage = stage
        self.total = total
        self.iteration = 0
        self.interval: Interval | None = None
        self.psnr: float | None = None
        self._live = Live(console=console, get_renderable=self._display, refresh_per_second=2, transient=True)

    def __enter__(self) -> Self:
        if self.console.is_terminal:
            self._try(self._live.start)
        return self

    def __exit__(self, *_: object) -> None:
        self._try(self._live.stop)

    def tick(self, iteration: int) -> None:
        """Note that `iteration` iterations are done; free."""
        self.iteration = iteration

    def report(self, interval: Interval) -> None:
        """Show the means of an interval."""
        self.interval = interval
        self.iteration = interval.iteration
        if not self.console.is_terminal:
            self.say(self._line(interval))

    def say(self, message: str, style: str = "") -> None:
        """Print one line of text, above the live display if there is one."""
        self._try(lambda: self.console.print(message, style=style, markup=False, highlight=False, soft_wrap=True))

    def show(self, renderable: RenderableType) -> None:
        """Print a table."""
        self._try(lambda: self.console.print(renderable))

    def _try(self, show: Callable[[], None]) -> None:
        try:
            show()
        except (OSError, SystemExit):  # the latter is what rich makes of a broken pipe
            self.console.quiet = True

    def _line(self, interval: Interval) -> str:
        parts = [f"{self.stage}  {interval.iteration}/{self.total}", *self._rates(interval)]
        parts += [f"{name} {_amount(value, interval.weights.get(name))}" for name, value in interval.losses.items()]
        if self.psnr is not None:
            parts.append(f"val {self.psnr:.2f} dB")
        return "  ".join(parts)

    def _rates(self, interval: Interval) -> list[str]:
        remaining = (self.total - self.iteration) / interval.it_per_s if interval.it_per_s else 0.0
        return [
            f"{interval.it_per_s:.2f} it/s",
            f"eta {duration(remaining)}",
            f"data wait {interval.data_wait:.1%}",
            f"lr {interval.lr:.2e}",
        ]

    def _display(self) -> RenderableType:
        """Two lines that fit 80 columns, then a line for each loss."""
        rates = self._rates(self.interval) if self.interval else ["starting"]
        head = Table.grid(padding=(0, 2))
        cells = [Text(self.stage, "bold"), Text(f"{self.iteration}/{self.total}")]
        head.add_row(*cells, ProgressBar(self.total, self.iteration, width=24), Text("  ".join(rates[:2])))
        details = Text("  ".join(["", *rates[2:]]))
        if self.psnr is not None:
            details.append(f"  val {self.psnr:.2f} dB", "green")
        losses = Table.grid(padding=(0, 2))
        if self.interval is not None:
            for name, value in self.interval.losses.items():
                losses.add_row(Text(f"  {name}"), Text(_amount(value, self.interval.weights.get(name)), "cyan"))
        return Group(head, details, losses)


def duration(seconds: float) -> str:
    """`m:ss` or `h:mm:ss`."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def _amount(value: float, weight: float | None) -> str:
    return f"{value:.4g}" if weight is None else f"{value:.4g} (x{weight:.3g})"

"""The weights of a run's losses over its iterations, as rows and as text."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sr_engine.config.schema import LossConfig

FRACTIONS = (0.0, 0.1, 0.25, 0.5, 0.75, 1.0)  # of the run, at which the plan is read


@dataclass(frozen=True, slots=True)
class PlanRow:
    """One loss's weight over the run.

    Args:
        name, type: its key in the configuration and what it is.
        first_iter: first iteration at which it is computed; None when its weight is 0 for the whole run.
        ramp: "constant", or the ramp with the iterations between which it rises, such as "linear 10000-20000".
        points: (iteration, weight), at the same iterations for every loss of a run.
    """

    name: str
    type: str
    first_iter: int | None
    ramp: str
    points: tuple[tuple[int, float], ...]


def plan_row(name: str, config: "LossConfig", total_iter: int) -> PlanRow:
    """The row of one loss in a run of `total_iter` iterations, which are counted from 0."""
    schedule = config.loss_weight
    iterations = dict.fromkeys(round(f * (total_iter - 1)) for f in FRACTIONS)
    points = tuple((it, schedule.at(it, total_iter)) for it in iterations)
    # A weight moves only once, from start_iter on; the iteration after the start is the first on a ramp from 0.
    turns = (0, schedule.start_iter, schedule.start_iter + 1)
    first = next((it for it in turns if it < total_iter and schedule.at(it, total_iter) != 0), None)
    if schedule.constant:
        ramp = "constant"
    elif schedule.ramp == "step":
        ramp = f"step {schedule.start_iter}"
    else:
        end = schedule.start_iter + schedule.ramp_iters if schedule.ramp_iters else total_iter
        ramp = f"{schedule.ramp} {schedule.start_iter}-{end}"
    return PlanRow(name, config.type, first, ramp, points)


def render_plan(rows: Sequence[PlanRow]) -> str:
    """The plan as a text table: a line a loss, a column an iteration."""
    if not rows:
        return "no losses"
    header = ["loss", "type", "from", "ramp", *(f"{it}" for it, _ in rows[0].points)]
    cells = [
        [
            r.name,
            r.type,
            "never" if r.first_iter is None else f"{r.first_iter}",
            r.ramp,
            *(f"{w:.4g}" for _, w in r.points),
        ]
        for r in rows
    ]
    widths = [max(len(line[i]) for line in [header, *cells]) for i in range(len(header))]
    return "\n".join(
        "  ".join(
            c.ljust(w) if i in (0, 1, 3) else c.rjust(w) for i, (c, w) in enumerate(zip(line, widths, strict=True))
        )
        for line in [header, *cells]
    )

"""Which plots the results call for. Knows nothing of how they are drawn, so that it works without matplotlib."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from bench.history import Machine, Row, commit_name, natural

MANY = 24  # cases for one plot


@dataclass(frozen=True)
class Plot:
    """One plot.

    Args:
        shape: the function of `bench.plots` that draws it.
        section: where it stands on the page: "growth", "roofline", or an operation and its device.
        title: says what it shows.
        file: name below docs/performance/.
        machine: the device.
        panels: the cases it shows, by panel; one panel without a name unless it is of growth.
    """

    shape: Literal["bars", "growth", "roofline"]
    section: str
    title: str
    file: str
    machine: Machine
    panels: dict[str, list[Row]]

    @property
    def rows(self) -> list[Row]:
        return [row for rows in self.panels.values() for row in rows]

    @property
    def origin(self) -> str:
        """Commit and date of the device's newest results."""
        return f"commit {commit_name(self.machine.newest)}, {self.machine.newest['when'][:10]}"


def plan(machines: Sequence[Machine]) -> list[Plot]:
    """Every plot that there is something for, in the order of the page."""
    plots = []
    for machine in machines:
        name, slug = machine.name, machine.slug
        for op in machine.ops():
            for kind, rows in _parts(_raced(machine.of(op))).items():
                title = f"{op} on {name}{kind and f', {kind}'}: time and memory of the rivals over ours"
                file = "-".join([op, *re.findall("[a-z]+", kind), f"{slug}.png"])
                plots.append(Plot("bars", f"{op} {slug}", title, file, machine, {"": rows}))
        if curves := _curves(machine):
            title = f"Cost as the picture grows, {name}"
            plots.append(Plot("growth", "growth", title, f"growth-{slug}.png", machine, curves))
        if points := _points(machine):
            title = f"Roofline, {name}"
            plots.append(Plot("roofline", "roofline", title, f"roofline-{slug}.png", machine, {"": points}))
    return plots


def _raced(rows: Sequence[Row]) -> list[Row]:
    """Those with a rival; without the points of curves, which have a plot of their own, unless that is all there is."""
    raced = [row for row in rows if row.rivals]
    return [row for row in raced if row.case["headline"] or not row.case["series"]] or raced


def _parts(rows: Sequence[Row]) -> dict[str, list[Row]]:
    """All in one plot, without a name, or many by their kind of work."""
    parts: dict[str, list[Row]] = {}
    for row in rows:
        parts.setdefault(row.case["kind"] if len(rows) > MANY else "", []).append(row)
    return parts


def _curves(machine: Machine) -> dict[str, list[Row]]:
    """The cases of each series by size of the picture; two sizes make a curve."""
    found: dict[str, list[Row]] = {}
    for row in machine.rows:
        if row.case["series"] and row.case["side"]:
            _, kind, dtype = row.what
            found.setdefault(f"{row.case['series']}, {kind}, {dtype}", []).append(row)
    ordered = sorted(found.items(), key=lambda one: natural(one[0]))
    return {name: sorted(rows, key=lambda row: row.case["side"]) for name, rows in ordered if len(rows) > 1}


def _points(machine: Machine) -> list[Row]:
    """The cases whose bytes and operations are known, if the ceiling above them is."""
    return [row for row in machine.rows if machine.copy and row.case["flops"] and row.case["moved"]]

"""What has been measured on each device: its newest results file, and older ones for the cases that file lacks."""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

from bench import record

HERE = Path(__file__).parent
FEW_SAMPLES = 5  # with fewer, the spread of the samples says nothing


@dataclass(frozen=True)
class Row:
    """One case as a results file holds it, with where it comes from."""

    case: dict[str, Any]
    commit: str
    date: str
    newest: bool
    cores: int

    @property
    def busy(self) -> bool:
        """Whether other work ran beside it."""
        return (self.case["load"] or 0) > 1.5 * self.cores

    @property
    def ours(self) -> dict[str, Any]:
        """The contestant that is ours: milliseconds, p20, p80, samples, megabytes, error."""
        return self.case["contestants"][self.case["ours"]]

    @property
    def rivals(self) -> dict[str, dict[str, Any]]:
        """The others that were timed, by name."""
        return {name: one for name, one in self.case["contestants"].items() if name != self.case["ours"]}

    @property
    def baseline(self) -> dict[str, Any] | None:
        """Whom the headline ratio is against; None where it was left out."""
        return self.rivals.get(self.case["baseline"])

    @property
    def what(self) -> tuple[str, str, str]:
        """Title, kind and dtype: the case within its operation and device."""
        return self.case["title"], self.case["kind"], self.case["dtype"]

    def ratio(self, name: str) -> float:
        """Time of a rival over time of ours."""
        return self.rivals[name]["milliseconds"] / self.ours["milliseconds"]

    def memory_ratio(self, name: str) -> float | None:
        """Peak memory of a rival over that of ours; None where either was not measured or is nothing."""
        theirs, ours = self.rivals[name]["megabytes"], self.ours["megabytes"]
        return theirs / ours if theirs and ours else None


@dataclass(frozen=True)
class Machine:
    """A device: its newest results file, the newest measurement of every case and ceiling, and of training.

    `trained` is the newest file with a throughput of training, or None.
    """

    newest: dict[str, Any]
    rows: list[Row]
    copy: float | None  # gigabytes per second
    teraflops: dict[str, float]  # by dtype
    trained: dict[str, Any] | None

    @property
    def name(self) -> str:
        return self.newest["machine"]["device"]

    @property
    def kind(self) -> str:
        """ "cpu" or "cuda"."""
        return self.newest["machine"]["kind"]

    @property
    def slug(self) -> str:
        """The name as part of a file's."""
        return re.sub(r"[^a-z0-9]+", "-", self.name.lower()).strip("-")

    def of(self, op: str) -> list[Row]:
        return [row for row in self.rows if row.case["op"] == op]

    def ops(self) -> list[str]:
        return sorted({row.case["op"] for row in self.rows})


def machines(results: Path) -> list[Machine]:
    """Every device with a results file under `results`: CUDA devices first, then by name.

    Raises ResultsError where a file holds no results.
    """
    folders = sorted({path.parent for path in results.glob("*/*.json")})
    found = [_machine(folder) for folder in folders]
    return sorted(found, key=lambda machine: (machine.kind != "cuda", machine.name))


def _machine(folder: Path) -> Machine:
    files = [record.load(path) for path in newest_first(folder)]
    rows: dict[str, Row] = {}
    for number, content in enumerate(files):
        for case in content["cases"]:
            row = Row(
                case, commit_name(content), content["when"][:10], newest=number == 0, cores=content["machine"]["cores"]
            )
            rows.setdefault(case["key"], row)
    ceilings = [content.get("ceilings", {}) for content in files]
    copies = (known["copy_gigabytes_per_second"] for known in ceilings if "copy_gigabytes_per_second" in known)
    rates: dict[str, float] = {}
    for known in ceilings:
        rates = known.get("teraflops", {}) | rates
    trained = next((content for content in files if content.get("throughput")), None)
    return Machine(
        files[0], sorted(rows.values(), key=_order), next(copies, None), dict(sorted(rates.items())), trained
    )


def newest_first(folder: Path) -> list[Path]:
    """The results files of a device's folder; of two of one moment, the one whose name comes last is the newer."""
    return sorted(folder.glob("*.json"), key=lambda path: (record.load(path)["when"], path.name), reverse=True)


def commit_name(content: dict[str, Any]) -> str:
    """The commit a file was measured at, and whether sources differed from it."""
    return content["commit"] + (" with changes" if content.get("dirty") else "")


def missing(machine: Machine, others: Iterable[Machine]) -> Iterator[tuple[str, str, list[Row]]]:
    """What other devices have measured and this one has not: operation, that device's name, its cases.

    On a device of the same kind the case itself is looked for, on one of another kind one of the same title and kind
    of work, as CPUs and GPUs run in other precisions.
    """
    for other in others:
        if other is machine:
            continue
        alike = other.kind == machine.kind
        known = {_identity(row, exact=alike) for row in machine.rows}
        absent = [row for row in other.rows if _identity(row, exact=alike) not in known]
        for op, rows in groupby(absent, key=lambda row: row.case["op"]):
            yield op, other.name, list(rows)


def unmeasured_ops(machine: Machine, machines: Sequence[Machine]) -> list[str]:
    """Operations with a benchmark file, or results elsewhere, of which this device has nothing."""
    files = {path.stem.removeprefix("test_") for path in HERE.glob("test_*.py")}
    return sorted((files | {op for other in machines for op in other.ops()}) - set(machine.ops()))


def absent_kinds(machines: Sequence[Machine]) -> list[str]:
    """The kinds of device of which there is none."""
    names = {"cpu": "any CPU", "cuda": "any CUDA device"}
    return [name for kind, name in names.items() if all(machine.kind != kind for machine in machines)]


def _identity(row: Row, *, exact: bool) -> tuple[str, ...]:
    case = row.case
    return (case["key"],) if exact else (case["op"], case["title"], case["kind"])


def _order(row: Row) -> tuple[Any, ...]:
    case = row.case
    return case["op"], natural(case["title"]), case["kind"], case["dtype"]


def natural(text: str) -> list[tuple[int, int | str]]:
    """Sorts numbers in a text by their value."""
    return [(0, int(part)) if part.isdigit() else (1, part) for part in re.split(r"(\d+)", text) if part]

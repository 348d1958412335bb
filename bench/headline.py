"""What the results say in brief: the README's table, of the cases marked as headlines."""

from collections.abc import Iterator, Sequence

from bench.history import Machine, Row, absent_kinds, missing, unmeasured_ops
from bench.tables import NOT_MEASURED, digits, markdown_table, origin, plain, remark, times

ABOUT = (
    "Made by `python -m bench.report`; [docs/performance.md](docs/performance.md) has every case, rival and\n"
    "plot. A row is measured by `pytest bench/test_OPERATION.py --benchmark-only -s`."
)
NOTHING = "Nothing is measured yet: `pytest bench/ --benchmark-only -s`, then `python -m bench.report`."


def headline(machines: Sequence[Machine]) -> str:
    """The README's block between its markers."""
    if not machines:
        return f"{ABOUT}\n{NOTHING}"
    ops = sorted({op for machine in machines for op in machine.ops()})
    lines = [line for op in ops for machine in machines for line in _lines(machine, machines, op)]
    table = markdown_table(["operation", "case", "machine", "time", "peak memory"], lines)
    ran = "; ".join(f"{machine.name} ({origin(machine)})" for machine in machines)
    return "\n\n".join([ABOUT, table, f"Measured on {ran}. {_not_measured(machines)}".strip()])


def _lines(machine: Machine, machines: Sequence[Machine], op: str) -> Iterator[list[str]]:
    for row in machine.of(op):
        if row.case["headline"]:
            yield [f"`{op}`", plain(row) + remark(row), machine.name, _speed(row), _memory(row)]
    for row in _absent(machine, machines, op):
        yield [f"`{op}`", plain(row), machine.name, NOT_MEASURED, NOT_MEASURED]


def _speed(row: Row) -> str:
    name = row.case["baseline"]
    if row.baseline:
        return f"{times(row.ratio(name))} as fast as {name}"
    if name in row.case["dropped"]:
        return f"{NOT_MEASURED} against {name}, which was left out"
    return f"{digits(row.ours['milliseconds'])} ms"


def _memory(row: Row) -> str:
    ratio = row.memory_ratio(row.case["baseline"]) if row.baseline else None
    if ratio is None:
        return NOT_MEASURED
    if times(ratio) == "1.00x":
        return "the same"
    return f"{times(ratio)} less" if ratio > 1 else f"{times(1 / ratio)} more"


def _absent(machine: Machine, machines: Sequence[Machine], op: str) -> list[Row]:
    """Headline cases of `op` that a device of the same kind has and this one lacks, each once."""
    alike = [other for other in machines if other.kind == machine.kind]
    lacking = [row for name, _, rows in missing(machine, alike) for row in rows if name == op]
    return list({row.case["key"]: row for row in lacking if row.case["headline"]}.values())


def _not_measured(machines: Sequence[Machine]) -> str:
    lacks = [(machine.name, unmeasured_ops(machine, machines)) for machine in machines]
    parts = [f"{', '.join(ops)} on {name}" for name, ops in lacks if ops] + absent_kinds(machines)
    return f"Not measured: {'; '.join(parts)}." if parts else ""

"""What the results say as Markdown: the page `docs/performance.md`."""

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from bench.history import FEW_SAMPLES, Machine, Row, absent_kinds, commit_name, missing, unmeasured_ops

HERE = Path(__file__).parent
NOT_MEASURED = "not measured"
MANY_CASES = 6  # of an operation that a device lacks; so many are named, the rest counted

HOW_TO_READ = """\
Made by `python -m bench.report` from the files in `bench/results/`; change it there, not here. Each case runs ours and
its rivals on the same inputs, in turns, in one run; a rival whose output disagrees has no time.

- **ours, ms**: median of the samples, and their 20th and 80th percentile.
- **rivals**: their time over ours, so above 1 means that ours is faster; the bold one is the baseline. Those marked °
  compute something else, and nothing was compared.
- **memory**: peak of what a call allocates: that of ours, and the baseline's over it, so above 1 means that ours needs
  less.
- **of the floor**: the floor's time over ours. The floor is what copying the bytes that must move takes, or the
  arithmetic that must be done at the rate of a large matrix product, whichever is longer, both measured in the same
  run. On a CPU small inputs stay in its caches, which are faster than a copy: above 100 % is possible.
- A case that the newest run of a device lacks stands with the commit and date of the run it comes from.
"""
COMMANDS = """\
```
pytest bench/ --benchmark-only -s     # on an idle machine; every case that can run there, results to bench/results/
python -m bench.report                # this page, its plots and the README's table from the results
python -m bench.compare OLD NEW       # two results files or device folders: what got faster or slower beyond noise
```
"""


def page(machines: Sequence[Machine], plots: Mapping[str, Sequence[tuple[str, str]]]) -> str:
    """`docs/performance.md`.

    Args:
        machines: what was measured.
        plots: (title, path relative to the page) of the plots by section: "<op> <slug>", "roofline", "growth".
    """
    parts = ["# Performance", HOW_TO_READ, COMMANDS, "## Machines", _machine_table(machines)]
    for op in sorted({op for machine in machines for op in machine.ops()}):
        parts.append(f"## {op}\n\n`{command(op)}`")
        for machine in machines:
            parts += _operation(machine, op, plots.get(f"{op} {machine.slug}", ()))
    if throughput := _throughput(machines):
        parts += ["## Training throughput", *throughput]
    for section, title in (("growth", "## Cost as the picture grows"), ("roofline", "## Rooflines")):
        if section in plots:
            parts += [title, *_pictures(plots[section])]
    parts += ["## Not measured", _not_measured(machines)]
    return "\n\n".join(part.strip("\n") for part in parts) + "\n"


def command(op: str) -> str:
    """What measures an operation again."""
    own = f"bench/test_{op}.py"
    return f"pytest {own if (HERE.parent / own).exists() else 'bench/'} --benchmark-only -s"


def digits(value: float) -> str:
    """Three significant digits, all of those before the point."""
    if not value or not math.isfinite(value):
        return str(value)
    return f"{value:.{max(0, 2 - math.floor(math.log10(abs(value))))}f}"


def times(ratio: float) -> str:
    """A ratio, three digits or those before the point."""
    return f"{ratio:.{2 if ratio < 10 else 1 if ratio < 100 else 0}f}x"


def _share(value: float) -> str:
    return f"{100 * value:.0f} %" if value >= 0.01 else f"{100 * value:.1g} %"


def markdown_table(head: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    """A table whose cells may hold any text."""

    def line(cells: Sequence[str]) -> str:
        return "| " + " | ".join(" ".join(cell.split()).replace("|", "\\|") for cell in cells) + " |"

    return "\n".join([line(head), "|" + "---|" * len(head), *map(line, lines)])


def _pictures(plots: Iterable[tuple[str, str]]) -> list[str]:
    return [f"![{title}]({path})" for title, path in plots]


def origin(machine: Machine) -> str:
    """Commit, date and the packages that matter most of the newest results."""
    versions = machine.newest["versions"]
    packages = ", ".join(f"{name} {versions[name]}" for name in ("torch", "triton") if name in versions)
    return f"commit {commit_name(machine.newest)}, {machine.newest['when'][:10]}, {packages}"


def _machine_table(machines: Sequence[Machine]) -> str:
    if not machines:
        return "None has been measured yet."
    lines = [
        ["commit", *(commit_name(machine.newest) for machine in machines)],
        ["date", *(machine.newest["when"][:10] for machine in machines)],
        *(
            [_words(name), *(text_of(machine.newest["machine"].get(name)) for machine in machines)]
            for name in _facts(machines)
        ),
        ["versions", *(text_of(machine.newest["versions"]) for machine in machines)],
        ["copy, GB/s", *(text_of(machine.copy) or NOT_MEASURED for machine in machines)],
        ["matrix product, TFLOP/s", *(text_of(machine.teraflops) or NOT_MEASURED for machine in machines)],
    ]
    return markdown_table(["", *(machine.name for machine in machines)], lines)


def _facts(machines: Sequence[Machine]) -> list[str]:
    known = dict.fromkeys(name for machine in machines for name in machine.newest["machine"])
    return [name for name in known if name not in ("device", "folder", "kind")]


def text_of(value: Any) -> str:
    """A value of a results file for people."""
    if isinstance(value, Mapping):
        return ", ".join(f"{_words(key)} {text_of(one)}" for key, one in value.items() if one is not None)
    if isinstance(value, list):
        return ", ".join(map(text_of, value))
    if isinstance(value, float):
        return digits(value)
    return "" if value is None else str(value)


def _words(key: str) -> str:
    return key.replace("_", " ")


def plain(row: Row) -> str:
    """A case in words."""
    return ", ".join(row.what)


def remark(row: Row) -> str:
    """Where a case comes from, if not from the newest results, and whether it had the machine for itself."""
    said = [] if row.newest else [f"commit {row.commit}", row.date]
    said += [f"busy machine, load {digits(row.case['load'])}"] if row.busy else []
    return f" ({', '.join(said)})" if said else ""


def _operation(machine: Machine, op: str, plots: Sequence[tuple[str, str]]) -> list[str]:
    rows = machine.of(op)
    if not rows:
        return [f"### {machine.name}", f"{NOT_MEASURED.capitalize()}."]
    rivals = list(dict.fromkeys(name for row in rows for name in (*row.rivals, *row.case["dropped"])))
    head = ["case", "work", "ours, ms", *rivals, "memory, MB", "baseline / ours", "of the floor"]
    lines = [_line(row, rivals) for row in rows]
    parts = [f"### {machine.name}", markdown_table(head, lines), *_pictures(plots)]
    return [*parts, *_left_out(rows), *_notes(rows)]


def _line(row: Row, rivals: Sequence[str]) -> list[str]:
    title, kind, dtype = row.what
    ours, floor = row.ours, row.case["floor_milliseconds"]
    time = digits(ours["milliseconds"])
    if ours["p20"] is not None:  # the oldest results have medians only
        time += f" ({digits(ours['p20'])} to {digits(ours['p80'])})"
    if row.case["unit"] and row.case["per_call"]:
        time += f", {digits(row.case['per_call'] / ours['milliseconds'] * 1e3)} {row.case['unit']}/s"
    memory = row.memory_ratio(row.case["baseline"]) if row.baseline else None
    return [
        title + remark(row),
        f"{kind}, {dtype}",
        time,
        *(_rival(row, name) for name in rivals),
        "" if ours["megabytes"] is None else digits(ours["megabytes"]),
        "" if memory is None else times(memory),
        f"{_share(floor / ours['milliseconds'])} ({row.case['floor']})" if floor else "",
    ]


def _rival(row: Row, name: str) -> str:
    if name in row.rivals:
        ratio = times(row.ratio(name))
        if row.case["contestants"][name].get("checked") is False:
            ratio += "°"
        return f"**{ratio}**" if name == row.case["baseline"] else ratio
    return "left out" if name in row.case["dropped"] else ""


def _left_out(rows: Sequence[Row]) -> list[str]:
    reasons: dict[tuple[str, str], list[str]] = {}
    for row in rows:
        for name, why in row.case["dropped"].items():
            reasons.setdefault((name, " ".join(why.split())), []).append(plain(row))
    lines = [f"- `{name}` in {'; '.join(cases)}: {_code(why)}" for (name, why), cases in reasons.items()]
    return ["Left out:\n\n" + "\n".join(lines)] if lines else []


def _code(text: str) -> str:
    return "`" + text.replace("`", "'") + "`"


def _notes(rows: Sequence[Row]) -> list[str]:
    lines = []
    for row in rows:
        said = [f"{key}: {text_of(value)}" for key, value in row.case["notes"].items()]
        if (samples := row.ours["samples"]) < FEW_SAMPLES:
            said.append(f"samples: {samples}")
        if said:
            lines.append(f"- {plain(row)}: {'; '.join(said)}")
    return ["<details><summary>Notes</summary>\n\n" + "\n".join(lines) + "\n\n</details>"] if lines else []


def _throughput(machines: Sequence[Machine]) -> list[str]:
    parts = []
    for machine in machines:
        if not machine.trained:
            continue
        runs, ran = machine.trained["throughput"], machine.trained
        head = list(dict.fromkeys(key for run in runs for key in run))
        lines = [[text_of(run.get(key)) for key in head] for run in runs]
        parts += [f"### {machine.name}", markdown_table([*map(_words, head)], lines)]
        if ran is not machine.newest:
            parts.append(f"Measured at commit {commit_name(ran)}, {ran['when'][:10]}.")
    absent = [machine.name for machine in machines if not machine.trained]
    return [*parts, *(f"{name}: {NOT_MEASURED}." for name in absent)] if parts else []


def _not_measured(machines: Sequence[Machine]) -> str:
    lines = [f"- {name}" for name in absent_kinds(machines)]
    for machine in machines:
        whole = unmeasured_ops(machine, machines)
        if whole:
            lines.append(f"- {machine.name}: nothing of {', '.join(whole)}")
        for op, other, rows in missing(machine, machines):
            if op in whole:
                continue
            titles = list(dict.fromkeys(f"{row.case['title']}, {row.case['kind']}" for row in rows))
            more = f" and {len(titles) - MANY_CASES} more" if len(titles) > MANY_CASES else ""
            lines.append(f"- {machine.name}: {op}: {'; '.join(titles[:MANY_CASES])}{more} (measured on {other})")
    return "\n".join(lines) if lines else "Every case is measured on every device."

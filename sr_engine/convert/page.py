"""A translation as text: the table, and the commented YAML file."""

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from sr_engine.config import yaml12
from sr_engine.config.problems import show
from sr_engine.config.yaml12 import Value
from sr_engine.convert.translation import Row, Translation, changed

_ORDER = (
    "name",
    "scale",
    "network_g",
    "network_d",
    "load_from",
    "param_key_g",
    "strict_load_g",
    "datasets",
    "losses",
    "training",
    "validation",
    "logging",
)
_LINE = 120


def table(rows: Iterable[Row]) -> str:
    """A line for each key: path, value, outcome, and what it is here or why it has no equal."""
    cells = [(row.source or "-", show(row.value, 40) if row.source else "", row.outcome, _here(row)) for row in rows]
    widths = [max(len(line[i]) for line in cells) for i in range(3)]
    return "\n".join("  ".join(c.ljust(w) for c, w in zip(line, [*widths, 0], strict=True)).rstrip() for line in cells)


def summary(rows: Iterable[Row]) -> str:
    """How many keys went which way."""
    count = Counter(row.outcome for row in rows)
    near = f", {count['nearest']} taken as the nearest thing" if count["nearest"] else ""
    return (
        f"{count['kept']} kept, {count['renamed']} renamed{near}, {count['no equal']} without an equal; "
        f"{count['set']} keys set that the file does not have"
    )


def yaml_page(t: Translation, source: str) -> str:
    """The configuration as YAML; each line says where it is from, and the end what has no equal."""
    rows = t.table()
    comments: dict[str, str] = {}
    for row in rows:
        if row.target and row.outcome != "kept":
            text = _comment(row)
            comments[row.target] = f"{comments[row.target]}; {text}" if row.target in comments else text
    lines = [
        f"# Translated from {source} by sr-engine convert; each line says which key it is from.",
        *(f"# {note}" for note in t.notes),
    ]
    ordered = {key: t.out[key] for key in _ORDER if key in t.out}
    for key, value in ordered.items():
        if isinstance(value, Mapping):
            lines.append("")
        lines += _lines(key, value, key, comments, 0)
    lost = [row for row in rows if row.outcome == "no equal"]
    if lost:
        lines += ["", "# Without an equal here:"]
        lines += [f"#   {row.source} {show(row.value, 40)}: {row.note}".replace("\n", " ") for row in lost]
    return "\n".join(lines).lstrip("\n") + "\n"


def _here(row: Row) -> str:
    if row.outcome == "set":
        return f"{row.target}: {show(row.result, 100)} ({row.note})"
    if not row.target:
        return row.note
    if row.outcome == "nearest":
        return f"{row.target} ({row.note})"
    same = row.outcome == "kept" and not row.note
    text = "" if same else f"{row.target}: {changed(row.value, row.result, 100)}"
    return f"{text} ({row.note})" if row.note else text


def _comment(row: Row) -> str:
    if row.outcome == "set":
        return row.note
    if row.outcome == "nearest":
        return f"{row.source}: {row.note}"
    text = row.source if row.value == row.result else f"{row.source} {show(row.value, 40)}"
    return f"{text} ({row.note})" if row.note else text


def _lines(key: Any, value: Value, path: str, comments: Mapping[str, str], depth: int) -> list[str]:
    indent, comment = "  " * depth, comments.get(path, "").replace("\n", " ")
    if isinstance(value, Mapping) and value:
        head = yaml12.dump({key: None}).split(":")[0]
        lines = _with_comment(f"{indent}{head}:", comment)
        for inner, item in value.items():
            lines += _lines(inner, item, f"{path}.{inner}", comments, depth + 1)
        return lines
    text = yaml12.dump({key: value}).rstrip("\n").split("\n")
    if len(text) == 1:
        return _with_comment(indent + text[0], comment)
    return [*([f"{indent}# {comment}"] if comment else []), *(indent + line for line in text)]


def _with_comment(line: str, comment: str) -> list[str]:
    if not comment:
        return [line]
    if len(line) + len(comment) + 3 <= _LINE:
        return [f"{line} # {comment}"]
    return [f"{line[: len(line) - len(line.lstrip())]}# {comment}", line]

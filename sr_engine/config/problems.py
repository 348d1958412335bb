"""What is wrong with a configuration, in the words of the person who wrote it."""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from sr_engine.config.hints import ELSEWHERE, about_value
from sr_engine.config.yaml12 import Document, KeyPath, Value
from sr_engine.errors import ConfigError, did_you_mean

Known = Callable[[KeyPath], list[str]]  # keys that may stand in the mapping at a path

_EXPECTED = {
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "finite_number": "a finite number",
    "bool_type": "true or false",
    "string_type": "a string",
    "path_type": "a path",
    "list_type": "a list",
    "tuple_type": "a list",
    "set_type": "a list",
    "frozen_set_type": "a list",
    "dict_type": "a mapping",
    "model_type": "a mapping",
    "none_required": "null",
    "greater_than": "a number > {gt:g}",
    "greater_than_equal": "a number >= {ge:g}",
    "less_than": "a number < {lt:g}",
    "less_than_equal": "a number <= {le:g}",
    "multiple_of": "a multiple of {multiple_of}",
    "too_short": "at least {min_length} item(s)",
    "too_long": "at most {max_length} item(s)",
    "string_pattern_mismatch": "a string that matches {pattern}",
    "literal_error": "{expected}",
}


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong at a path."""

    path: KeyPath
    text: str


def expected(path: KeyPath, what: str, got: Value, known: Iterable[str] = ()) -> Problem:
    """`expected WHAT, got GOT`, with why it is not offered, or a suggestion when `got` resembles one of `known`."""
    hint = about_value(path[-1], got) if path else ""
    hint = hint or (did_you_mean(got, known) if isinstance(got, str) else "")
    return Problem(path, f"expected {what}, got {show(got)}{hint}")


def unknown_key(path: KeyPath, known: list[str]) -> Problem:
    """A key that nothing reads."""
    key = str(path[-1])
    hint = f" ({ELSEWHERE[key]})" if key in ELSEWHERE else did_you_mean(key, known)
    what = "a known key" if hint else f"one of the keys {', '.join(known)}" if known else "no further key"
    return Problem(path, f"expected {what}, got '{key}'{hint}")


def raise_problems(problems: Iterable[Problem], document: Document) -> None:
    """Report all problems in the order of the file, those of the command line last; does nothing when there are none.

    Raises:
        ConfigError: `file:line: path: expected X, got Y (did you mean 'z'?)`, one line for each problem.
    """
    located = sorted(
        ((document.where(p.path), p) for p in dict.fromkeys(problems)),
        key=lambda item: (item[0].line == 0, item[0].line),
    )
    lines = [f"{where}: {dotted(p.path)}: {p.text}" if p.path else f"{where}: {p.text}" for where, p in located]
    if lines:
        raise ConfigError("\n".join(lines))


def dotted(path: KeyPath) -> str:
    """`losses.pixel.layers.0`, as overrides are written."""
    return ".".join(map(str, path))


def show(value: Value, limit: int = 60) -> str:
    """A value as YAML on one line, shortened."""
    if value is None or isinstance(value, bool):
        return str(value).lower().replace("none", "null")
    if isinstance(value, Mapping):
        text = "{" + ", ".join(f"{key}: {show(item)}" for key, item in value.items()) + "}"
    elif isinstance(value, list):
        text = "[" + ", ".join(map(show, value)) + "]"
    else:
        text = repr(value)
    return text if len(text) <= limit else text[: limit - 4] + " ..."


def from_validation(error: ValidationError, data: Value, base: KeyPath, known: Known) -> list[Problem]:
    """Problems in pydantic's findings about `data`, which stands at `base`.

    pydantic reports each member of a union that fails; here the user gets one problem: of the member whose shape the
    value has, or what any of the members would have taken.
    """
    findings = [_Finding.of(item, data) for item in error.errors(include_url=False)]
    problems = [_problem(group, base, known) for group in _by_value(findings)]
    return _without_consequences([problem for problem in problems if problem is not None], findings, base)


@dataclass(frozen=True)
class _Finding:
    path: KeyPath  # to the value, without the names of union members
    union: KeyPath | None  # to the outermost value that may be one of several types, if there is one on the way
    member: tuple[str | int, ...]  # which members of unions were tried
    kind: str
    context: dict[str, Any]
    message: str
    got: Value

    @classmethod
    def of(cls, item: Any, data: Value) -> "_Finding":
        path: KeyPath = ()
        member: tuple[str | int, ...] = ()
        union = None
        for position, step in enumerate(item["loc"]):
            last = position == len(item["loc"]) - 1
            inside = step in data if isinstance(data, dict) else isinstance(data, list) and step in range(len(data))
            if inside:
                path, data = (*path, step), data[step]
            elif last and item["type"] == "missing":
                path = (*path, step)
            elif step != "[key]":
                union = path if union is None else union
                member = (*member, step)
        return cls(path, union, member, item["type"], item.get("ctx", {}), item["msg"], item["input"])


def _by_value(findings: list[_Finding]) -> list[list[_Finding]]:
    """Findings in groups that become one problem each, in order; of a union the member that fits best is kept."""
    groups: dict[tuple[KeyPath, bool], list[_Finding]] = {}
    for union in dict.fromkeys(f.union for f in findings):
        here = [f for f in findings if f.union == union]
        for finding in here if union is None else _best_member(here, union):
            groups.setdefault((finding.path, finding.kind == "extra_forbidden"), []).append(finding)
    return list(groups.values())


def _best_member(findings: list[_Finding], union: KeyPath) -> list[_Finding]:
    members: dict[Any, list[_Finding]] = {}
    for finding in findings:
        members.setdefault(finding.member[:1], []).append(finding)
    right_shape = [group for group in members.values() if all(len(f.path) > len(union) for f in group)]
    if not right_shape:
        return [f for f in findings if len(f.path) == len(union)]
    best = {f.path for f in min(right_shape, key=len)}
    return [f for group in right_shape if {f.path for f in group} == best for f in group]


def _problem(group: list[_Finding], base: KeyPath, known: Known) -> Problem | None:
    first = group[0]
    path = (*base, *first.path)
    if first.kind == "extra_forbidden":
        return unknown_key(path, known(path[:-1]))
    if first.kind == "missing":
        return Problem(path, "expected a value, which is required, got nothing")
    whats = [_expected(finding) for finding in group if finding.kind != "none_required"] or ["null"]
    candidates = [name for what in whats for name in re.findall(r"'([^']*)'", what)]
    return expected(path, " or ".join(dict.fromkeys(whats)), first.got, candidates)


def _expected(finding: _Finding) -> str:
    if finding.kind == "expected":  # raised by the schema itself, in these words
        return finding.message
    template = _EXPECTED.get(finding.kind)
    return template.format(**finding.context) if template else f"another value ({finding.message})"


def _without_consequences(problems: list[Problem], findings: list[_Finding], base: KeyPath) -> list[Problem]:
    """Leave out a missing key when the same mapping has an unknown one that looks like it: it is there, misspelt."""
    missing = {(*base, *f.path) for f in findings if f.kind == "missing"}
    unknown = [(*base, *f.path) for f in findings if f.kind == "extra_forbidden"]
    misspelt = {
        path
        for path in missing
        for other in unknown
        if other[:-1] == path[:-1] and did_you_mean(str(other[-1]), [str(path[-1])])
    }
    return [problem for problem in problems if problem.path not in misspelt]

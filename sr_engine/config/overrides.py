"""`key.path=value` of the command line, laid over a parsed file."""

from collections.abc import Iterable
from typing import Any

from sr_engine.config.problems import Problem, dotted, expected
from sr_engine.config.yaml12 import MOST_LEVELS, Document, KeyPath, Location, parse
from sr_engine.errors import ConfigError

COMMAND_LINE = "command line"
_MOST_DIGITS = 20  # Python refuses to read more than 4300


def apply(document: Document, overrides: Iterable[str]) -> list[Problem]:
    """Set each key in place; values are YAML, mappings on the way are made, list items are addressed by number.

    Raises:
        ConfigError: something is no `key=value`, or its value is not YAML.
    """
    return [problem for text in overrides if (problem := _set(document, text)) is not None]


def _set(document: Document, text: str) -> Problem | None:
    name, equals, value_text = text.partition("=")
    steps = name.strip().split(".")
    if not equals or "" in steps:
        raise ConfigError(f"{COMMAND_LINE}: expected key.path=value, got '{text}'")
    if len(steps) > MOST_LEVELS:
        raise ConfigError(f"{COMMAND_LINE}: expected a key of at most {MOST_LEVELS} parts, got {len(steps)}")
    value = parse(value_text, f"{COMMAND_LINE}: {name}", first_line=0)
    path: KeyPath = ()
    parent: Any = document.value
    for step in steps[:-1]:
        if (key := _key(parent, step)) is None:
            return _misplaced(document, path, step, parent)
        if isinstance(parent, dict) and parent.get(key) is None:
            parent[key] = {}
            document.locations[(*path, key)] = Location(COMMAND_LINE, 0)
        path, parent = (*path, key), parent[key]
    if (key := _key(parent, steps[-1])) is None:
        return _misplaced(document, path, steps[-1], parent)
    parent[key] = value.value
    path = (*path, key)
    for stale in [known for known in document.locations if known[: len(path)] == path]:
        del document.locations[stale]
    document.locations.update({(*path, *inner): location for inner, location in _relabelled(value).items()})
    return None


def _key(container: Any, step: str) -> str | int | None:
    """The key or index that `step` names in a container, None when the container cannot have it."""
    if isinstance(container, dict):
        return number if (number := _number(step)) in container else step
    if isinstance(container, list) and (number := _number(step)) is not None and number < len(container):
        return number
    return None


def _number(step: str) -> int | None:
    return int(step) if step.isdecimal() and len(step) <= _MOST_DIGITS else None


def _misplaced(document: Document, path: KeyPath, step: str, parent: Any) -> Problem:
    document.locations[(*path, step)] = Location(COMMAND_LINE, 0)
    what = f"the number of one of {len(parent)} items" if isinstance(parent, list) else f"a mapping at {dotted(path)}"
    return expected((*path, step), what, step if isinstance(parent, list) else parent)


def _relabelled(value: Document) -> dict[KeyPath, Location]:
    return dict.fromkeys(value.locations, Location(COMMAND_LINE, 0))

"""What becomes of each key of an option file: the rows of the table and the configuration that grows beside them."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from sr_engine.config.problems import show
from sr_engine.config.yaml12 import Value
from sr_engine.errors import EngineError

Outcome = Literal["kept", "renamed", "nearest", "no equal", "set"]


class ConversionError(EngineError):
    """An option file that cannot be translated at all; the message names the key."""


@dataclass(frozen=True)
class Row:
    """One key of the option file, or (`set`) one that only our file needs.

    source: dotted path in the option file; "" for `set`.
    target: dotted path here, "" when nothing is written.
    result: value here.
    note:   why, in one phrase.
    """

    source: str
    value: Value
    outcome: Outcome
    target: str = ""
    result: Value = None
    note: str = ""


class Translation:
    """An option file on its way.

    Every leaf gets exactly one row: a scalar, an empty mapping, or a list that holds no mappings.

    Args:
        tree: the option file as nested mappings.
        nearest: also take what has only something near here, and say so.
    """

    def __init__(self, tree: Mapping[Any, Value], *, nearest: bool = False) -> None:
        self.tree = tree
        self.nearest = nearest
        self.leaves: dict[str, Value] = dict(leaves(tree))
        self.rows: dict[str, Row] = {}
        self.added: list[Row] = []
        self.notes: list[str] = []
        self.out: dict[str, Any] = {}

    def value(self, path: str, default: Value = None) -> Value:
        """What stands at a dotted path of the option file; null counts as absent."""
        inner: Any = self.tree
        for step in path.split("."):
            if isinstance(inner, Mapping) and step in inner:
                inner = inner[step]
            elif isinstance(inner, list) and step.isdigit() and int(step) < len(inner):
                inner = inner[int(step)]
            else:
                return default
        return default if inner is None else inner

    def entry(self, path: str) -> Mapping[Any, Value]:
        """The mapping at a path; empty when there is none."""
        value = self.value(path)
        return value if isinstance(value, Mapping) else {}

    def pending(self, path: str) -> list[str]:
        """Leaves at or below a path that have no row yet."""
        below = path + "."
        return [leaf for leaf in self.leaves if (leaf == path or leaf.startswith(below)) and leaf not in self.rows]

    def write(self, source: str, target: str, result: Value, note: str = "") -> None:
        """A key with an equal: its value goes to `target`."""
        outcome = "kept" if source == target and result == self.leaves[source] else "renamed"
        self._row(Row(source, self.leaves[source], outcome, target, result, note))
        self._set(target, result)

    def belongs(self, source: str, target: str, note: str = "") -> None:
        """A key that takes part in what another row, or `put`, writes to `target`."""
        self._row(Row(source, self.leaves[source], "renamed", target, _at(self.out, target), note))

    def always(self, path: str, note: str) -> None:
        """Keys whose meaning needs no key here: it is always so."""
        for leaf in self.pending(path):
            self._row(Row(leaf, self.leaves[leaf], "kept", note=note))

    def near(self, path: str, target: str, note: str) -> None:
        """Keys whose nearest thing was taken because `nearest` was asked for."""
        for leaf in self.pending(path):
            self._row(Row(leaf, self.leaves[leaf], "nearest", target, note=note))

    def drop(self, path: str, reason: str) -> None:
        """Keys without an equal: all below a path that have no row yet."""
        for leaf in self.pending(path):
            self._row(Row(leaf, self.leaves[leaf], "no equal", note=reason))

    def drop_entry(self, path: str, reason: str) -> None:
        """A mapping without an equal as a whole: the reason stands at its first leaf, the others point there."""
        first, *rest = self.pending(path) or [path]
        self.drop(first, reason)
        for leaf in rest:
            self.drop(leaf, f"as {first}")

    def put(self, target: str, result: Value, why: str) -> None:
        """A key that the option file doesn't have, such as a default that differs; an existing one stays."""
        if _at(self.out, target) is None:
            self.added.append(Row("", None, "set", target, result, why))
            self._set(target, result)

    def note_default(self, target: str, result: Value, why: str) -> None:
        """List a key that has been written and that the option file doesn't have."""
        self.added.append(Row("", None, "set", target, result, why))

    def table(self) -> list[Row]:
        """All rows: those of the option file in its order, then the keys that only our file needs."""
        self.drop_rest()
        return [*(self.rows[leaf] for leaf in self.leaves), *self.added]

    def drop_rest(self) -> None:
        """List what no rule knows."""
        for leaf in self.leaves:
            self.drop(leaf, "not known to this converter")

    def _row(self, row: Row) -> None:
        if row.source in self.rows:
            raise AssertionError(f"{row.source} is listed twice")
        self.rows[row.source] = row

    def _set(self, target: str, result: Value) -> None:
        inner = self.out
        *parents, last = target.split(".")
        for step in parents:
            inner = inner.setdefault(step, {})
        inner[last] = result


def leaves(tree: Value, path: str = "") -> Iterator[tuple[str, Value]]:
    """Dotted path and value of every leaf."""
    if isinstance(tree, Mapping):
        items = list(tree.items())
    elif isinstance(tree, list) and any(isinstance(item, Mapping) for item in tree):
        items = list(enumerate(tree))
    else:
        items = []
    if not items and path:
        yield path, tree
    for key, value in items:
        yield from leaves(value, f"{path}.{key}" if path else str(key))


def changed(before: Value, after: Value, limit: int = 60) -> str:
    """`192 -> 48`, or the value alone when it is the same."""
    return show(after, limit) if before == after else f"{show(before)} -> {show(after, limit)}"


def _at(tree: Any, path: str) -> Value:
    for step in path.split("."):
        tree = tree.get(step) if isinstance(tree, Mapping) else None
    return tree

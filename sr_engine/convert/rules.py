"""What a table of keys can say about a key. A table maps dotted paths of the option file to rules, in any order."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from sr_engine.config.yaml12 import Value
from sr_engine.convert.translation import Translation
from sr_engine.convert.values import Convert, NoEqualError, same


class Rule(Protocol):
    """Lists the leaves at or below a path."""

    def apply(self, t: Translation, path: str) -> None: ...


Table = Mapping[str, Rule]


@dataclass(frozen=True)
class To:
    """The same thing under `target`."""

    target: str
    convert: Convert = same
    note: str = ""

    def apply(self, t: Translation, path: str) -> None:
        if path not in t.leaves:
            return t.drop(path, "a single value is expected")
        try:
            t.write(path, self.target, self.convert(t.leaves[path]), self.note)
        except NoEqualError as reason:
            t.drop(path, str(reason))
        return None


@dataclass(frozen=True)
class Same:
    """Always so here, whatever the value."""

    note: str

    def apply(self, t: Translation, path: str) -> None:
        t.always(path, self.note)


@dataclass(frozen=True)
class Is:
    """Always so here for these values; any other has no equal."""

    values: tuple[Any, ...]
    note: str
    otherwise: str

    def apply(self, t: Translation, path: str) -> None:
        for leaf in t.pending(path):
            if _among(t.leaves[leaf], self.values):
                t.always(leaf, self.note)
            else:
                t.drop(leaf, self.otherwise)


@dataclass(frozen=True)
class Off:
    """Something that is not here: no loss where it is switched off there too (null, false, 0 or empty)."""

    reason: str

    def apply(self, t: Translation, path: str) -> None:
        for leaf in t.pending(path):
            if t.leaves[leaf] in (None, False, 0, [], {}, "false", "no", "off"):
                t.always(leaf, "off there, absent here")
            else:
                t.drop(leaf, self.reason)


@dataclass(frozen=True)
class No:
    """Without an equal, with the reason or the nearest thing in one phrase."""

    reason: str
    null: bool = False  # whether the reason also holds for null, which says that nothing is set

    def apply(self, t: Translation, path: str) -> None:
        for leaf in t.pending(path):
            if t.leaves[leaf] is None and not self.null:
                t.always(leaf, "null: nothing is set")
            else:
                t.drop(leaf, self.reason)


def apply_table(t: Translation, table: Table) -> None:
    """Apply every rule whose path has leaves without a row."""
    for path, rule in table.items():
        if t.pending(path):
            rule.apply(t, path)


def _among(value: Value, values: tuple[Any, ...]) -> bool:
    """Whether it is one of them; 1 is 1.0 but not true."""
    return any(value == item and isinstance(value, bool) == isinstance(item, bool) for item in values)

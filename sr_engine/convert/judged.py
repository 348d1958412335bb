"""What a loss or discriminator of an option file is here, and what of it is not the same."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sr_engine.config.yaml12 import Value
from sr_engine.convert.values import NoEqualError, plain

Entry = Mapping[Any, Value]


@dataclass
class Judged:
    """The nearest thing here.

    type:        its type.
    arguments:   its arguments.
    targets:     key there -> key here, for those that carry over.
    always:      key there -> why nothing has to be written for it.
    differences: what is not the same; empty when it is equal.
    needs_d:     it looks at the discriminator.
    """

    type: str
    arguments: dict[str, Value] = field(default_factory=dict)
    targets: dict[str, str] = field(default_factory=dict)
    always: dict[str, str] = field(default_factory=dict)
    differences: list[str] = field(default_factory=list)
    needs_d: bool = False


def reduction(judged: Judged, entry: Entry) -> Judged:
    """Only the mean has an equal."""
    value = entry.get("reduction", "mean")
    judged.always["reduction"] = "losses here are means"
    if value != "mean":
        judged.differences.append(f"the {value} over all elements: losses here are means")
    return judged


def only(judged: Judged, entry: Entry, key: str, default: Value, expected: tuple[Value, ...], why: str) -> None:
    """A key of which only some values are the same as here."""
    value = entry.get(key, default)
    judged.always[key] = why
    if value not in expected:
        judged.differences.append(f"{key}: {value} ({why})")


def leave_unknown(judged: Judged, entry: Entry, known: tuple[str, ...]) -> None:
    """Keys that no rule of this loss reads make it another loss."""
    seen = {"type", *known, *judged.targets, *judged.always}
    judged.differences += [f"{key} has no equal" for key in entry if key not in seen]


def type_of(entry: Entry) -> str:
    """The type as it is compared.

    Raises:
        NoEqualError: there is none.
    """
    if not isinstance(entry.get("type"), str):
        raise NoEqualError("a type is expected")
    return plain(entry["type"])

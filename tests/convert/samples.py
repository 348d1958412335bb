"""Sample option files, one in each dialect, and helpers to change and to read them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from sr_engine.convert.translation import Translation

OPTIONS = Path(__file__).parent / "options"
SAMPLES = sorted(path.name for path in OPTIONS.iterdir())
ABSENT = object()

Change = Callable[..., Translation]


def put(tree: Any, key: str, value: Any) -> None:
    """Set or (ABSENT) remove a value at a dotted path."""
    *parents, last = [int(step) if step.isdigit() else step for step in key.split(".")]
    for step in parents:
        tree = tree.setdefault(step, {}) if isinstance(tree, dict) else tree[step]
    if value is ABSENT:
        del tree[last]
    else:
        tree[last] = value


def outcome(t: Translation, source: str) -> str:
    """What became of a key."""
    return {row.source: row.outcome for row in t.table()}[source]


def reason(t: Translation, source: str) -> str:
    """Why a key has no equal."""
    (row,) = (row for row in t.table() if row.source == source)
    assert row.outcome == "no equal", row
    return row.note

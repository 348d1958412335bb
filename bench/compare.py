"""What got faster or slower between two results: `python -m bench.compare OLD NEW`, files or device folders.

A folder stands for its newest file. Cases are matched by their key; for each contestant the table has its time in NEW
over that in OLD, and for ours that of the ratio to the baseline too, in which a drift of the machine cancels.

The rule: the noise of a time is half of what lies between its 20th and 80th percentile, relative to its median; with
fewer than five samples, which say nothing of their spread, at least 15 %. The noise of a ratio of times is the root of
the sum of their squares, and at least the threshold (5 %). A contestant is marked where its time changed by more than
the noise of both its times. Ours is marked faster or slower where its own time changed by more than that and, if the
baseline ran in both, its ratio to the baseline changed the same way, by more than the noise of all four times. Where
its time changed and that ratio did not, or the other way round, it is marked as such, and no verdict is given.

Exit code: 0, or 1 where something of ours got slower beyond the noise, 2 where there is nothing to compare.
"""

import argparse
import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench import record
from bench.history import FEW_SAMPLES, commit_name, natural, newest_first
from bench.tables import markdown_table, text_of, times

THRESHOLD, FEW_NOISE = 0.05, 0.15
WORDS = {0: "", 1: "slower", -1: "faster"}
MACHINE = ("device", "cpu", "cores", "threads")  # other values make it another machine


class CompareError(Exception):
    """Nothing to compare, in one sentence."""


@dataclass(frozen=True)
class Change:
    """One case in both results, as the table shows it: NEW over OLD, of ours also against the baseline; the verdict."""

    key: str
    ours: str
    relative: str
    memory: str
    rivals: str
    verdict: str


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m bench.compare", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("old", type=Path, help="a results file, or a device's folder: its newest file")
    parser.add_argument("new", type=Path)
    parser.add_argument("--threshold", type=float, default=THRESHOLD, help="smaller changes are never marked (0.05)")
    parser.add_argument("--other-machine", action="store_true", help="compare what different machines measured")
    options = parser.parse_args(arguments)
    try:
        old, new = (_load(path) for path in (options.old, options.new))
        _same_machine(old, new, options.new, allowed=options.other_machine)
        changes, text = compare(old, new, options.threshold)
    except (record.ResultsError, CompareError) as error:
        print(error, file=sys.stderr)
        return 2
    print(text)
    return int(any(change.verdict == "slower" for change in changes))


def compare(old: dict[str, Any], new: dict[str, Any], threshold: float = THRESHOLD) -> tuple[list[Change], str]:
    """The changes of all cases that both results hold, and the page that tells of them.

    Raises CompareError where they have no case in common.
    """
    before, after = ({case["key"]: case for case in content["cases"]} for content in (old, new))
    common = sorted(before.keys() & after.keys(), key=natural)
    if not common:
        raise CompareError(f"the results of {_named(old)} and {_named(new)} have no case in common")
    changes = [_change(before[key], after[key], threshold) for key in common]
    parts = [f"# {_named(old)} to {_named(new)}", *_versions(old, new), _table(changes), _summary(changes)]
    for title, keys in (("Appeared", after.keys() - before.keys()), ("Disappeared", before.keys() - after.keys())):
        if keys:
            parts.append(f"{title}:\n\n" + "\n".join(f"- {key}" for key in sorted(keys, key=natural)))
    return changes, "\n\n".join(parts)


def noise(one: dict[str, Any]) -> float:
    """Half of the spread of a contestant's samples from p20 to p80, relative to their median."""
    if one["p20"] is None:  # the oldest results have medians only
        return FEW_NOISE
    half = (one["p80"] - one["p20"]) / 2 / one["milliseconds"]
    return half if one["samples"] >= FEW_SAMPLES else max(half, FEW_NOISE)


def moved(ratio: float, ones: Sequence[dict[str, Any]], threshold: float) -> int:
    """1 or -1 where a ratio of the times of `ones` lies above or below 1 beyond their noise, else 0."""
    bound = max(math.hypot(*map(noise, ones)), threshold)
    return 0 if abs(math.log(ratio)) <= math.log1p(bound) else 1 if ratio > 1 else -1


def _change(old: dict[str, Any], new: dict[str, Any], threshold: float) -> Change:
    before, after = dict(old["contestants"]), dict(new["contestants"])
    a, b = before.pop(old["ours"]), after.pop(new["ours"])
    rivals = [_ratio(before[name], after[name], threshold, name) for name in after if name in before]
    own = moved(b["milliseconds"] / a["milliseconds"], (a, b), threshold)
    relative, against = "", None
    peer = new["baseline"]
    if peer in before and peer in after:
        was, now = (side[peer]["milliseconds"] / one["milliseconds"] for side, one in ((before, a), (after, b)))
        relative = f"{times(was)} to {times(now)} ({peer})"
        against = moved(was / now, (a, b, before[peer], after[peer]), threshold)
    memory = times(b["megabytes"] / a["megabytes"]) if a["megabytes"] and b["megabytes"] else ""
    return Change(new["key"], _ratio(a, b, threshold), relative, memory, ", ".join(rivals), _verdict(own, against))


def _ratio(old: dict[str, Any], new: dict[str, Any], threshold: float, name: str = "") -> str:
    ratio = new["milliseconds"] / old["milliseconds"]
    return " ".join(filter(None, (name, times(ratio), WORDS[moved(ratio, (old, new), threshold)])))


def _verdict(own: int, against: int | None) -> str:
    if against is None or own == against:
        return WORDS[own]
    if own and against == -own:
        return "unclear: time and ratio moved apart"
    return "time alone changed" if own else "ratio alone changed"


def _bold(verdict: str) -> str:
    return f"**{verdict}**" if verdict in ("slower", "faster") else verdict


def _table(changes: Sequence[Change]) -> str:
    lines = [
        [
            change.key.replace(" | ", ", "),
            change.ours,
            change.relative,
            change.memory,
            change.rivals,
            _bold(change.verdict),
        ]
        for change in changes
    ]
    head = ["case", "ours, new / old", "times as fast as the baseline", "memory, new / old", "rivals, new / old", ""]
    return markdown_table(head, lines)


def _summary(changes: Sequence[Change]) -> str:
    counts = {word: sum(change.verdict == word for change in changes) for word in ("slower", "faster")}
    rest = len(changes) - sum(counts.values())
    return f"Ours: {counts['slower']} slower, {counts['faster']} faster, {rest} without a change beyond the noise."


def _versions(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    before, after = old["versions"], new["versions"]
    other = [name for name in dict.fromkeys([*before, *after]) if before.get(name) != after.get(name)]
    said = [f"{name} {before.get(name, 'none')} to {after.get(name, 'none')}" for name in other]
    return [f"Other versions: {', '.join(said)}."] if said else []


def _named(content: dict[str, Any]) -> str:
    return f"{commit_name(content)} ({content['when'][:10]}, {content['machine']['device']})"


def _load(path: Path) -> dict[str, Any]:
    if path.is_dir():
        files = newest_first(path)
        if not files:
            raise CompareError(f"{path}: expected a results file or a device's folder with some, found no *.json in it")
        path = files[0]
    return record.load(path)


def _same_machine(old: dict[str, Any], new: dict[str, Any], path: Path, *, allowed: bool) -> None:
    before, after = old["machine"], new["machine"]
    other = [name for name in MACHINE if before.get(name) != after.get(name)]
    if other and not allowed:
        was, now = (text_of(machine.get(other[0])) for machine in (before, after))
        raise CompareError(
            f"{path}: measured on another machine ({other[0]} {now}, not {was}); --other-machine compares all the same"
        )


if __name__ == "__main__":
    raise SystemExit(main())

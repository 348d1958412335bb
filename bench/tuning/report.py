"""What a sweep says: the fastest of each class beside the default, and the entries it proposes for the tables."""

import math
from collections.abc import Iterable

from bench.tuning.timing import Found

MOST_OFF = 0.10  # a default that is further from the best than this gets a new entry


def lines(found: Found) -> list[str]:
    """One kernel of one shape."""
    choice = found.choice
    default = found.seconds[choice.default]
    tried = f"{len(found.seconds)} timed"
    tried += "".join(f", {n} {why}" for why, n in found.skipped.items())
    tried += f", {len(found.failed)} failed" * bool(found.failed) + f", {len(found.wrong)} WRONG" * bool(found.wrong)
    text = [
        f"{choice.label}  class {choice.group}: default {default * 1e6:.1f} us, "
        f"{100 * found.off:.0f} % off the best ({tried})",
        f"  {default * 1e6:9.1f} us  {choice.default}  <- default",
    ]
    best = sorted(found.seconds.items(), key=lambda pair: pair[1])[:5]
    text += [f"  {seconds * 1e6:9.1f} us  {config}" for config, seconds in best]
    text += [f"  WRONG by {error:.1e}: {config}" for config, error in found.wrong.items()]
    return text


def groups(measured: Iterable[Found]) -> list[list[Found]]:
    """Those that share an entry of a table: one kernel, one class, one default."""
    found: dict[tuple, list[Found]] = {}
    for one in measured:
        choice = one.choice
        key = choice.shape.op, choice.passing, choice.kernel, choice.group, choice.default
        found.setdefault(key, []).append(one)
    return list(found.values())


def proposal(measured: Iterable[Found]) -> str:
    """Python source of the entries whose default is more than `MOST_OFF` off the best for one of their shapes.

    Proposed is the configuration with the least geometric mean of times over the best's, over all shapes of the class.
    """
    text: dict[str, list[str]] = {}
    for group in groups(measured):
        if max(one.off for one in group) <= MOST_OFF:
            continue
        choice = group[0].choice
        shared = set.intersection(*(set(one.seconds) for one in group))
        best = min(shared, key=lambda config: _mean_ratio(group, config))
        after = [one.seconds[best] / one.seconds[one.best] - 1 for one in group]
        off = ", ".join(
            f"{one.choice.shape.name} {100 * one.off:.0f} % -> {100 * new:.0f} %"
            for one, new in zip(group, after, strict=True)
        )
        entry = f"    # off the best, {choice.passing}: {off}; now {choice.default}\n"
        entry += f"    ({choice.kernel!r}, {choice.group!r}): {best!r},"
        if best == choice.default:
            entry = f"    # {choice.kernel} {choice.group}, {choice.passing}: no one entry serves all better: {off}"
        text.setdefault(choice.shape.op, []).append(entry)
    return "\n".join(f"{op.upper()} = {{\n" + "\n".join(entries) + "\n}" for op, entries in text.items())


def _mean_ratio(group: list[Found], config: object) -> float:
    return math.prod(one.seconds[config] / one.seconds[one.best] for one in group) ** (1 / len(group))

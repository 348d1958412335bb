"""A race: contestants checked against a reference, then timed in turns, their memory measured, the case recorded.

Speed is a ratio within one race, since shared machines drift: every contestant takes its turn in every round, so that a
change of the machine's load hits all of them alike.
"""

import math
import os
import statistics
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import numpy as np
import torch

from bench import clock, floors
from bench.clock import Call
from bench.devices import COMPILE_ONLY, SMOKE, place
from bench.record import Results

ROUNDS = {"cpu": 15, "cuda": 4}
SAMPLES_A_TURN = {"cpu": 1, "cuda": 5}
LONGEST_CASE = 30.0  # seconds; a slower one gets fewer rounds, three at least


@dataclass(frozen=True)
class Case:
    """What is timed, and what is known of the work in it.

    Args:
        op: group of the table, and section of the report.
        title: one row of the report; together with op, kind, dtype and device it names the case.
        kind: "forward", "forward + backward", "training step" or "end to end".
        dtype: name of the torch dtype of the work.
        device: "cpu" or "cuda".
        ours: the contestant that may not fail.
        baseline: whom the headline ratio is against; the first contestant if None.
        moved: bytes that must be moved at least: each input read once, each output written once.
        flops: floating-point operations that must be done, two for a multiply-add; 0 where they are not counted.
        headline: whether the README shows it.
        series: cases of one series are one curve over `side`, in input pixels.
        unit: what `per_call` counts, for throughput: "megapixels", "pictures".
        by_host: whether work on the host counts on a CUDA device: the time is that between two waits for it.
    """

    op: str
    title: str
    kind: str = "forward"
    dtype: str = "float32"
    device: str = "cpu"
    ours: str = "ours"
    baseline: str | None = None
    moved: int = 0
    flops: int = 0
    headline: bool = False
    series: str | None = None
    side: int = 0
    unit: str = ""
    per_call: float = 0
    by_host: bool = False

    @property
    def key(self) -> str:
        """Names the case in result files."""
        return " | ".join((self.op, self.title, self.kind, self.dtype, self.device))

    @property
    def training(self) -> bool:
        """Whether gradients are part of the work."""
        return self.kind not in ("forward", "end to end")


@dataclass
class Measured:
    """What a race says of each contestant, by name; who had nothing to be compared with; who was dropped, and why."""

    samples: dict[str, list[float]] = field(default_factory=dict)
    memory: dict[str, int] = field(default_factory=dict)
    error: dict[str, float] = field(default_factory=dict)
    unchecked: set[str] = field(default_factory=set)
    dropped: dict[str, str] = field(default_factory=dict)

    @property
    def seconds(self) -> dict[str, float]:
        """Medians."""
        return {name: statistics.median(taken) for name, taken in self.samples.items()}


def compete(
    case: Case,
    contestants: Mapping[str, Call],
    *,
    tolerance: float,
    reference: Call | None = None,
    loose: Mapping[str, float | None] | None = None,
    checked: Callable[[str, Any], Any] | None = None,
    memory: bool = True,
    rounds: int | None = None,
) -> Measured:
    """Check every contestant, then measure those that agree.

    Args:
        contestants: functions by name, whose result is a tensor, an array, a tuple of them, or None.
        tolerance: largest difference, relative to the largest magnitude of the reference.
        reference: computes what is right, and is not timed; if None, what the first contestant that can says is right.
        loose: other tolerances by name, for peers that compute something else by nature; None for not comparable, which
            the record says.
        checked: `checked(name, result)` brings a result into the order and layout of the reference.
        memory: whether peak memory is measured.
        rounds: turns of each contestant.

    A peer that fails, runs out of memory or disagrees is dropped with the reason, and has no time. Raises
    AssertionError where ours disagrees.
    """
    found, where = Measured(), place(case.device)
    with torch.set_grad_enabled(case.training):
        _gate(case, contestants, found, tolerance, reference, loose or {}, checked)
        racing = {name: call for name, call in contestants.items() if name not in found.dropped}
        if COMPILE_ONLY:
            return found
        _time_in_turns(case, racing, found, where, rounds or (2 if SMOKE else ROUNDS[where]))
        if memory:  # last, since counting leaves the allocator of a CPU in another state
            for name in [case.ours] if SMOKE else found.samples:
                clock.reclaim(where)
                if (peak := clock.peak_memory(racing[name], where)) is not None:
                    found.memory[name] = peak
    clock.reclaim(where)
    return found


def _gate(
    case: Case,
    contestants: Mapping[str, Call],
    found: Measured,
    tolerance: float,
    reference: Call | None,
    loose: Mapping[str, float | None],
    checked: Callable[[str, Any], Any] | None,
) -> None:
    where = place(case.device)
    clock.reclaim(where)

    def result(name: str) -> tuple[torch.Tensor, ...]:
        value = contestants[name]()
        return tensors(value if checked is None else checked(name, value))

    expected = None if reference is None else tensors(reference())
    for name in contestants:
        allowed = loose.get(name, tolerance)
        try:
            actual = result(name)
            if allowed is None:
                found.unchecked.add(name)
            elif expected is None:  # the first of them is what the others are compared with
                expected = actual
            else:
                found.error[name] = difference(actual, expected)
                if not found.error[name] <= allowed:
                    found.dropped[name] = f"differs by {found.error[name]:.1e} of the largest value; allowed {allowed}"
            del actual
        except Exception as error:  # whatever a compiler or a backend throws at a shape it does not take
            if name == case.ours:
                raise
            found.dropped[name] = reason(error)
        clock.reclaim(where)
    assert case.ours not in found.dropped, f"{case.key}: {case.ours} {found.dropped[case.ours]}"
    agreeing = reference is not None or found.error.keys() - found.dropped.keys() or case.ours in found.unchecked
    assert agreeing, f"{case.key}: nothing to compare {case.ours} with: {found.dropped}"


def _time_in_turns(case: Case, contestants: Mapping[str, Call], found: Measured, where: str, rounds: int) -> None:
    plans: dict[str, clock.Plan] = {}
    taken: dict[str, list[float]] = {name: [] for name in contestants}
    for turn in range(-1, rounds):
        for name, call in contestants.items():
            if name in found.dropped:
                continue
            try:
                if where == "cuda":
                    call()  # memory that another contestant took meanwhile is back before the clock runs
                if turn < 0:
                    plans[name] = clock.plan(call, where, by_host=case.by_host)
                else:
                    taken[name] += [clock.sample(call, plans[name], where) for _ in range(SAMPLES_A_TURN[where])]
            except torch.OutOfMemoryError as error:
                if name == case.ours:
                    raise
                found.dropped[name] = reason(error)
                clock.reclaim(where)
        spent = sum(plans[name][0] * sum(times) for name, times in taken.items() if name in plans)
        if turn >= 2 and spent > LONGEST_CASE:
            break
    found.samples = {name: times for name, times in taken.items() if name not in found.dropped}


def keep(case: Case, found: Measured, results: Results | None, notes: Mapping[str, Any]) -> dict[str, Any]:
    """The case as a results file holds it; written there unless `results` is None."""
    where = place(case.device)
    lowest = floors.floor(where, getattr(torch, case.dtype), case.moved, case.flops)
    content = {
        "key": case.key,
        **{name: getattr(case, name) for name in ("op", "title", "kind", "dtype", "device", "ours")},
        "baseline": case.baseline or next(iter(found.samples)),
        **{name: getattr(case, name) for name in ("headline", "series", "side", "unit", "per_call")},
        "contestants": {name: _contestant(found, name) for name in found.samples},
        "dropped": found.dropped,
        "moved": case.moved,
        "flops": case.flops,
        "floor_milliseconds": None if lowest is None else digits(lowest[0] * 1e3),
        "floor": None if lowest is None else lowest[1],
        "notes": dict(notes),
        "load": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    if results is not None:
        ceilings = results.content["ceilings"]
        ceilings["copy_gigabytes_per_second"] = digits(floors.copy_bandwidth(where) / 1e9)
        if case.flops:
            rates = ceilings.setdefault("teraflops", {})
            rates[case.dtype] = digits(floors.matrix_rate(where, getattr(torch, case.dtype)) / 1e12)
        results.add(content)
    return content


def table(content: Mapping[str, Any]) -> str:
    """What one case has measured, for the terminal."""
    ours, lines = content["contestants"][content["ours"]], [content["key"]]
    for name, one in content["contestants"].items():
        cells = [f"{one['milliseconds']:11.4f} ms  ({one['p20']:.4f} to {one['p80']:.4f})"]
        cells.append(f"{one['milliseconds'] / ours['milliseconds']:7.2f}x ours")
        if one["megabytes"] is not None:
            cells.append(f"{one['megabytes']:10.1f} MB")
        if one["error"] is not None:
            cells.append(f"differs by {one['error']:.0e}")
        lines.append(f"  {name:<26}{'  '.join(cells)}")
    if lowest := content["floor_milliseconds"]:
        times = ours["milliseconds"] / lowest
        lines.append(f"  floor, by {content['floor']:<16}{lowest:11.4f} ms  ours takes {times:.2f} times that")
    lines += [f"  {name:<26}left out: {why}" for name, why in content["dropped"].items()]
    lines += [f"  {name}: {value}" for name, value in content["notes"].items()]
    return "\n".join(lines)


def _contestant(found: Measured, name: str) -> dict[str, Any]:
    times = 1e3 * np.array(found.samples[name])
    middle, low, high = (digits(float(np.percentile(times, q))) for q in (50, 20, 80))
    memory, error = found.memory.get(name), found.error.get(name)
    return {
        "milliseconds": middle,
        "p20": low,
        "p80": high,
        "samples": len(times),
        "megabytes": None if memory is None else round(memory / 1e6, 2),
        "error": None if error is None else float(f"{error:.2e}"),
        "checked": name not in found.unchecked,
    }


def digits(value: float) -> float:
    """Five of them."""
    return float(f"{value:.5g}")


def tensors(result: Any) -> tuple[torch.Tensor, ...]:
    """A result as tensors without their graph; None is none."""
    many = () if result is None else result if isinstance(result, tuple | list) else (result,)
    return tuple(torch.as_tensor(one).detach() for one in many)


def difference(actual: tuple[torch.Tensor, ...], expected: tuple[torch.Tensor, ...]) -> float:
    """Largest difference relative to the largest magnitude, over all tensors; NaN counts as infinite."""
    assert expected, "there is no tensor to compare"
    worst = 0.0
    for a, b in zip(actual, expected, strict=True):
        assert a.shape == b.shape, f"result of shape {tuple(a.shape)}, not {tuple(b.shape)}"
        exact = torch.float64 if b.dtype == torch.float64 else torch.float32
        a, b = a.to(b.device, exact), b.to(exact)
        difference = float((a - b).abs().max() / b.abs().max().clamp_min(1e-30)) if b.numel() else 0.0
        worst = max(worst, difference) if not math.isnan(difference) else math.inf
    return worst


def reason(error: BaseException) -> str:
    """First lines of an error and of what lies at its bottom: compilers wrap what a backend said."""
    bottom = error
    while (below := bottom.__cause__ or bottom.__context__) is not None:
        bottom = below
    lines = (f"{type(e).__name__}: {str(e).strip().partition(chr(10))[0]}"[:200] for e in (error, bottom))
    return " <- ".join(dict.fromkeys(lines))

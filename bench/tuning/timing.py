"""Times candidates of one kernel on the GPU: each checked against the default first, cold L2, medians."""

import math
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import torch

from bench import clock
from bench.race import reason
from bench.tuning.choices import Choice, attempt
from bench.tuning.shapes import Pass, Place
from sr_kernels.launch import Launch

QUICK, FINAL, FINALISTS = 5, 21, 6  # samples of all, samples of the fastest, how many those are
TOLERANCE = {torch.bfloat16: 3e-2, torch.float16: 5e-3, torch.float32: 1e-3}  # of the largest magnitude of a result

Timer = Callable[[list[Launch], int], float]
"""Median seconds of so many samples of launches one after the other."""


@dataclass
class Found:
    """What was measured of a choice; seconds by configuration, the default's among them if it ran."""

    choice: Choice
    seconds: dict[Any, float] = field(default_factory=dict)
    wrong: dict[Any, float] = field(default_factory=dict)
    failed: dict[Any, str] = field(default_factory=dict)
    skipped: dict[str, int] = field(default_factory=dict)

    @property
    def best(self) -> Any:
        return min(self.seconds, key=self.seconds.__getitem__)

    @property
    def off(self) -> float:
        """How much longer the default takes than the best, as a fraction."""
        return self.seconds[self.choice.default] / self.seconds[self.best] - 1

    def record(self) -> dict[str, Any]:
        """For the results file, fastest first."""
        choice, timed = self.choice, sorted(self.seconds.items(), key=lambda pair: pair[1])
        ran = choice.default in self.seconds
        return {
            "op": choice.shape.op,
            "shape": choice.shape.name,
            "pass": choice.passing,
            "kernel": choice.kernel,
            "class": list(choice.group),
            "default": asdict(choice.default),
            "microseconds": round(self.seconds[choice.default] * 1e6, 2) if ran else None,
            "off_percent": round(100 * self.off, 1) if ran else None,
            "measured": [{"config": asdict(c), "microseconds": round(t * 1e6, 2)} for c, t in timed],
            "wrong": [{"config": asdict(c), "error": e if math.isfinite(e) else None} for c, e in self.wrong.items()],
            "failed": [{"config": asdict(c), "reason": why} for c, why in self.failed.items()],
            "skipped": self.skipped,
        }


def cold_median(launches: list[Launch], samples: int) -> float:
    """`Timer` of a CUDA device."""

    def call() -> None:
        for launch in launches:
            launch.run()

    _, lead = clock.plan(call, "cuda")
    return statistics.median(clock.sample(call, (1, lead), "cuda") for _ in range(samples))


def measure(
    choice: Choice,
    passes: Mapping[str, Pass],
    place: Place,
    candidates: list[Any],
    seconds: float,
    timer: Timer = cold_median,
) -> Found:
    """The default and those of `candidates` that `seconds` leave time for; the fastest once more, in turns.

    Raises RuntimeError if the device does not recover from a candidate.
    """
    found, end = Found(choice), time.monotonic() + seconds
    start, op = passes[choice.passing], choice.shape.op
    expected, own = attempt(op, start, place, {}, choice.kernel)
    expected = tensors(expected)
    ready: dict[Any, list[Launch]] = {choice.default: own}
    found.seconds[choice.default] = timer(own, QUICK)
    for number, config in enumerate(candidates):
        if time.monotonic() > end - 0.2 * seconds:
            found.skipped["no time left to time"] = len(candidates) - number
            break
        try:
            result, launches = attempt(op, start, place, {choice.kernel: config}, choice.kernel)
            error = difference(tensors(result), expected)
            if error > TOLERANCE[place.dtype]:
                found.wrong[config] = error
                continue
            found.seconds[config] = timer(launches, QUICK)
        except Exception as error:  # a launch may ask for more of something than there is
            if fatal(error):
                raise RuntimeError(f"{choice.label} {config}: {reason(error)}") from error
            found.failed[config] = reason(error)
            continue
        ready[config] = launches
        _keep_fastest(ready, found.seconds, choice.default)
    again: dict[Any, list[float]] = {config: [] for config in ready}
    for _ in range(3):
        for config, launches in ready.items():
            again[config].append(timer(launches, FINAL // 3))
    found.seconds |= {config: statistics.median(times) for config, times in again.items()}
    return found


def fatal(error: BaseException) -> bool:
    """Whether the device runs nothing any more in this process."""
    return any(text in str(error) for text in ("CUDA error", "illegal memory", "misaligned address", "launch failure"))


def _keep_fastest(ready: dict[Any, list[Launch]], seconds: Mapping[Any, float], default: Any) -> None:
    """Launches hold memory: only those that may yet win are kept."""
    while len(ready) > FINALISTS:
        ready.pop(max((config for config in ready if config != default), key=seconds.__getitem__))


def tensors(result: Any) -> list[torch.Tensor]:
    """All tensors in a tensor or in nested tuples, lists and objects."""
    if isinstance(result, torch.Tensor):
        return [result]
    if isinstance(result, tuple | list):
        return [one for part in result for one in tensors(part)]
    return []


def difference(actual: list[torch.Tensor], expected: list[torch.Tensor]) -> float:
    """Largest difference relative to the largest magnitude, over all tensors; NaN counts as infinite."""
    worst = 0.0
    for a, b in zip(actual, expected, strict=True):
        if a.shape != b.shape:
            return math.inf
        if b.numel():
            largest = b.abs().max().float().clamp_min(1e-30)
            one = float((a.float() - b.float()).abs().max() / largest)
            worst = max(worst, one) if math.isfinite(one) else math.inf
    return worst

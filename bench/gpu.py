"""Timing on a CUDA device: contestants in turns, cold L2, no gaps from the host; memory; the speed of a plain copy.

SR_BENCH_SMOKE=1 runs the same code on a CPU with a few samples, to see that it works; its numbers mean nothing.
SR_BENCH_FULL=1 lets a benchmark time every contestant on every shape.
"""

import functools
import gc
import math
import os
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

SMOKE = os.environ.get("SR_BENCH_SMOKE") == "1"
FULL = os.environ.get("SR_BENCH_FULL") == "1"
DEVICE = "cpu" if SMOKE else "cuda"

SAMPLES, ROUNDS = (2, 1) if SMOKE else (20, 4)
SAMPLE_SECONDS, CALLS_AT_MOST = 1e-3, 10  # a sample is the mean of so many calls
FLUSH_BYTES, COPY_BYTES = (1 << 20, 1 << 20) if SMOKE else (256 << 20, 1 << 30)
CYCLES_PER_SECOND = 2e9  # of the device; more than any has, so the host's lead is long enough
LONGEST_LEAD = 5e-3

Call = Callable[[], Any]


@dataclass
class Measured:
    """What one run says of each contestant; seconds and bytes by name, and who left the race for what reason."""

    seconds: dict[str, float] = field(default_factory=dict)
    memory: dict[str, int] = field(default_factory=dict)
    error: dict[str, float] = field(default_factory=dict)
    dropped: dict[str, str] = field(default_factory=dict)


def obstacle() -> str | None:
    """Why nothing can be timed here, or None."""
    return (
        None if SMOKE or torch.cuda.is_available() else "needs a CUDA device; SR_BENCH_SMOKE=1 tries the code on a CPU"
    )


def wait() -> None:
    if DEVICE == "cuda":
        torch.cuda.synchronize()


def reclaim() -> None:
    """Give back what the allocator keeps, so that one contestant's memory does not crowd out the next."""
    gc.collect()
    if DEVICE == "cuda":
        torch.cuda.empty_cache()


def compete(contestants: Mapping[str, Call], *, ours: str, tolerance: float, checked: Callable[..., Any]) -> Measured:
    """Check every contestant against ours, then measure those that agree.

    Args:
        contestants: functions by name.
        ours: the name of the one that may not fail.
        tolerance: largest difference, relative to the largest magnitude of ours.
        checked: `checked(name, result)` brings the results of a contestant into the order and layout of ours.

    A peer that fails or runs out of memory is dropped with the reason. One that disagrees is dropped as well, except
    the first: it is the oracle, and a disagreement with it raises AssertionError.
    """
    found = Measured()
    reclaim()
    expected = checked(ours, contestants[ours]())
    for name, call in contestants.items():
        if name == ours:
            continue
        try:
            found.error[name] = _difference(checked(name, call()), expected)
        except Exception as error:  # whatever a compiler or a backend throws at a shape it does not take
            found.dropped[name] = _reason(error)
        reclaim()
    oracle = next(name for name in contestants if name != ours)
    if oracle in found.error:
        error = found.error[oracle]
        assert error <= tolerance, f"{ours} differs from {oracle} by {error:.2e}, relative; allowed are {tolerance}"
    for name, error in found.error.items():
        if not error <= tolerance:
            found.dropped[name] = f"differs from {ours} by {error:.2e}, relative"
    assert len(found.dropped) < len(contestants) - 1, f"nothing to check {ours} against: {found.dropped}"
    del expected
    racing = {name: call for name, call in contestants.items() if name not in found.dropped}
    for name, call in racing.items():
        reclaim()
        found.memory[name] = peak_memory(call)
    reclaim()
    _time_in_turns(racing, found, ours)
    return found


def _time_in_turns(contestants: Mapping[str, Call], found: Measured, ours: str) -> None:
    plans: dict[str, tuple[int, float]] = {}
    taken: dict[str, list[float]] = {name: [] for name in contestants}
    for turn in range(-1, ROUNDS):
        for name, call in contestants.items():
            if name in found.dropped:
                continue
            try:
                call()  # memory that another contestant took meanwhile is back before the clock runs
                if turn < 0:
                    plans[name] = _plan(call)
                else:
                    taken[name] += [_sample(call, *plans[name]) for _ in range(SAMPLES // ROUNDS)]
            except torch.OutOfMemoryError as error:
                if name == ours:
                    raise
                found.dropped[name] = _reason(error)
                reclaim()
    found.seconds = {name: statistics.median(times) for name, times in taken.items() if name not in found.dropped}


def _plan(call: Call) -> tuple[int, float]:
    """Calls per sample, and how far the host must be ahead for the device never to wait for it."""
    wait()
    start = time.perf_counter()
    call()
    lead = min(LONGEST_LEAD, 1.5 * (time.perf_counter() - start))
    return max(1, min(CALLS_AT_MOST, math.ceil(SAMPLE_SECONDS / _sample(call, 1, lead)))), lead


def _sample(call: Call, calls: int, lead: float) -> float:
    """Mean seconds of a call on the device, its input not in L2.

    The device sleeps before each call for as long as the host needs to enqueue it: what is measured is the work, not
    the host. That favours contestants of many launches; `launch_to_launch` has the other view.
    """
    if DEVICE == "cpu":
        start = time.perf_counter()
        for _ in range(calls):
            call()
        return (time.perf_counter() - start) / calls
    events = []
    for _ in range(calls):
        start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        _scratch(FLUSH_BYTES).zero_()
        torch.cuda._sleep(int(lead * CYCLES_PER_SECOND))
        start.record()
        call()
        end.record()
        events.append((start, end))
    torch.cuda.synchronize()
    return statistics.fmean(start.elapsed_time(end) for start, end in events) / 1e3


def launch_to_launch(call: Call, calls: int = 3 if SMOKE else 200) -> float:
    """Seconds per call when one follows the other without a pause, inputs warm: what the host can keep up with."""
    call()
    wait()
    start = time.perf_counter()
    for _ in range(calls):
        call()
    wait()
    return (time.perf_counter() - start) / calls


def warm_times(contestants: Mapping[str, Call], found: Measured, ours: str) -> dict[str, float]:
    """`launch_to_launch` of all that were timed, and `graph_replay` of ours."""
    warm = {f"{name}, back to back": launch_to_launch(contestants[name]) for name in found.seconds}
    replay = graph_replay(contestants[ours])
    return warm if replay is None else warm | {f"{ours}, CUDA graph": replay}


def graph_replay(call: Call) -> float | None:
    """Seconds per replay of the call as a CUDA graph; None where it cannot be captured."""
    if DEVICE == "cpu":
        return None
    try:
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(3):
                call()
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            kept = call()
        seconds = launch_to_launch(graph.replay)
        del kept
    except RuntimeError as error:
        print(f"  no CUDA graph: {_reason(error)}")
        return None
    return seconds


def peak_memory(call: Call) -> int:
    """Bytes allocated at the highest point of one call, its result included, beyond what lay there before."""
    if DEVICE == "cpu":
        return 0
    call()
    wait()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    call()
    wait()
    return torch.cuda.max_memory_allocated() - before


def table(title: str, found: Measured, *, ours: str, floor: float, warm: Mapping[str, float] | None = None) -> None:
    """Print what was measured; `floor` is the seconds that a copy of the fused kernel's bytes takes."""
    print(f"\n{title}: a copy of its bytes takes {floor * 1e3:.4f} ms")
    for key, seconds in found.seconds.items():
        against = f"{seconds / floor:6.2f} copies" if key == ours else f"{seconds / found.seconds[ours]:6.2f}x ours"
        error = f"  differs by {found.error[key]:.1e}" if key in found.error else ""
        print(f"  {key:<22}{seconds * 1e3:10.4f} ms {against}  {found.memory[key] / 1e6:10.1f} MB{error}")
    for key, seconds in (warm or {}).items():
        print(f"  {key:<22}{seconds * 1e3:10.4f} ms")
    for key, why in found.dropped.items():
        print(f"  {key:<22} left out: {why}")


def fields(found: Measured, *, ours: str, floor: float, warm: Mapping[str, float] | None = None) -> dict[str, Any]:
    """What `table` prints, for the results file."""
    return {
        "floor_milliseconds": round(floor * 1e3, 4),
        "copies": round(found.seconds[ours] / floor, 2),
        "copy_gigabytes_per_second": round(copy_bandwidth() / 1e9, 1),
        "warm_milliseconds": {key: round(value * 1e3, 4) for key, value in (warm or {}).items()},
        "megabytes": {key: round(value / 1e6, 2) for key, value in found.memory.items()},
        "relative_error": {key: float(f"{value:.2e}") for key, value in found.error.items()},
        "dropped": found.dropped,
    }


@functools.cache
def copy_bandwidth() -> float:
    """Bytes read and written per second by copying a large tensor: the floor of everything bound by memory."""
    source, target = (torch.ones(COPY_BYTES, dtype=torch.uint8, device=DEVICE) for _ in range(2))

    def copy() -> None:
        target.copy_(source)

    copy()
    seconds = statistics.median(_sample(copy, 1, 1e-4) for _ in range(SAMPLES))
    return 2 * COPY_BYTES / seconds


@functools.cache
def _scratch(size: int) -> torch.Tensor:
    return torch.empty(size, dtype=torch.uint8, device=DEVICE)


def _difference(actual: tuple[torch.Tensor, ...], expected: tuple[torch.Tensor, ...]) -> float:
    """Largest difference relative to the largest magnitude, over all tensors; NaN counts as infinite."""
    worst = 0.0
    for a, b in zip(actual, expected, strict=True):
        assert a.shape == b.shape, f"result of shape {tuple(a.shape)}, not {tuple(b.shape)}"
        difference = float((a.detach().float() - b.detach().float()).abs().max() / b.detach().abs().max().float())
        worst = max(worst, difference) if difference == difference else math.inf
    return worst


def _reason(error: BaseException) -> str:
    """First lines of an error and of what lies at its bottom: compilers wrap what a backend said."""
    bottom = error
    while (below := bottom.__cause__ or bottom.__context__) is not None:
        bottom = below
    lines = (f"{type(e).__name__}: {str(e).strip().partition(chr(10))[0]}"[:200] for e in (error, bottom))
    return " <- ".join(dict.fromkeys(lines))

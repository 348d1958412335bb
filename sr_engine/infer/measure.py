"""Time and peak memory of a forward pass, and two networks side by side."""

import gc
import os
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

Run = Callable[[], Any]


@dataclass(frozen=True)
class Cost:
    """Of one forward pass: seconds (median), and the peak of the memory that it allocates, in bytes."""

    seconds: float
    peak_bytes: int


def costs(runs: Sequence[Run], device: torch.device, *, repeats: int = 5, budget: float = 30.0) -> list[Cost]:
    """Cost of each run. They take turns, so that a busy machine slows all of them alike.

    Args:
        repeats: timed passes of each; fewer once `budget` seconds are over, but one at least.
    """
    for run in runs:  # the first pass of all pays for what later ones find ready
        run()
    times: list[list[float]] = [[] for _ in runs]
    start = time.perf_counter()
    for _ in range(repeats):
        for run, taken in zip(runs, times, strict=True):
            taken.append(_seconds(run, device))
        if time.perf_counter() - start > budget:
            break
    # Afterwards, since the profiler leaves the allocator of a CPU in another state.
    peaks = [peak_bytes(run, device) for run in runs]
    return [Cost(statistics.median(taken), peak) for taken, peak in zip(times, peaks, strict=True)]


def peak_bytes(run: Run, device: torch.device) -> int:
    """Peak of the memory that `run` allocates through torch on `device`, beyond what was allocated before."""
    if device.type == "cuda":
        run()  # workspaces of the libraries are allocated once
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        run()
        return torch.cuda.max_memory_allocated(device) - before
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # it reports its own start and stop on stderr
    gc.collect()  # what is garbage already would be freed in between
    # The allocator of a CPU keeps no peak; the profiler sees every allocation, those inside operators included.
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as record:
        run()
    results = cast(Any, record.profiler).kineto_results
    allocations = sorted((event.start_ns(), event.nbytes()) for event in results.events() if event.name() == "[memory]")
    now = peak = 0
    for _, size in allocations:
        now += size
        peak = max(peak, now)
    return peak


def relative_difference(expected: Tensor, actual: Tensor) -> float:
    """Largest difference relative to the largest expected value."""
    return ((actual - expected).abs().max() / expected.abs().max().clamp_min(1e-12)).item()


def _seconds(run: Run, device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    start = time.perf_counter()
    run()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - start

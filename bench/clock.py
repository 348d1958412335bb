"""Clocks: seconds of a call on a CPU, and on a CUDA device with cold L2 and no gaps from the host; peak memory."""

import functools
import gc
import math
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch

from bench.devices import SMOKE

SAMPLE_SECONDS, CALLS_AT_MOST = 1e-3, 10  # a sample is the mean of so many calls
FLUSH_BYTES = 1 << 20 if SMOKE else 256 << 20  # several times the L2 of any GPU
CYCLES_PER_SECOND = 2e9  # of the device; more than any has, so the host's lead is long enough
LONGEST_LEAD = 0.2  # seconds; of a call whose launches take the host longer, gaps count

Call = Callable[[], Any]
Plan = tuple[int, float | None]  # calls of a sample; seconds of the host's lead, None for its own clock


def wait(place: str) -> None:
    """Until the device has done what it was given."""
    if place == "cuda":
        torch.cuda.synchronize()


def reclaim(place: str) -> None:
    """Give back what the allocator keeps, so that one contestant's memory does not crowd out the next."""
    if place == "cuda":
        gc.collect()
        torch.cuda.empty_cache()


def plan(call: Call, place: str, *, by_host: bool = False) -> Plan:
    """Calls per sample, and by how many seconds the host must be ahead for the device never to wait for it.

    Args:
        by_host: whether the host's clock decides on a CUDA device, too: for calls whose work on the host counts.
    """
    wait(place)
    start = time.perf_counter()
    call()
    once, lead = time.perf_counter() - start, None
    if place == "cuda":
        lead = None if by_host else min(LONGEST_LEAD, 1.5 * once)
        once = sample(call, (1, lead), place)
    return max(1, min(CALLS_AT_MOST, math.ceil(SAMPLE_SECONDS / max(once, 1e-9)))), lead


def sample(call: Call, plan: Plan, place: str) -> float:
    """Mean seconds of a call; on a CUDA device with its input not in L2.

    The device sleeps before each call for as long as the host needs to enqueue it: what is measured is the work, not
    the host. That favours contestants of many launches; `launch_to_launch` has the other view.
    """
    calls, lead = plan
    if lead is None:
        if place == "cuda":
            _scratch(FLUSH_BYTES).zero_()
        wait(place)
        start = time.perf_counter()
        for _ in range(calls):
            call()
        wait(place)
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


@functools.cache
def _scratch(size: int) -> torch.Tensor:
    return torch.empty(size, dtype=torch.uint8, device="cuda")


def launch_to_launch(call: Call, place: str, calls: int = 3 if SMOKE else 200) -> float:
    """Seconds per call when one follows the other without a pause, inputs warm: what the host can keep up with."""
    call()
    wait(place)
    start = time.perf_counter()
    for _ in range(calls):
        call()
    wait(place)
    return (time.perf_counter() - start) / calls


def graph_replay(call: Call, place: str) -> float | None:
    """Seconds per replay of the call as a CUDA graph; None where it cannot be captured."""
    if place == "cpu":
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
        seconds = launch_to_launch(graph.replay, place)
        del kept
    except RuntimeError:
        return None
    return seconds


def peak_memory(call: Call, place: str) -> int | None:
    """Bytes allocated at the highest point of one call, its result included, beyond what lay there before.

    On a CPU those that torch allocates; None where the engine, which counts them, cannot be imported.
    """
    if place == "cpu":
        try:
            from sr_engine.infer.measure import peak_bytes
        except ImportError:
            return None
        return peak_bytes(call, torch.device("cpu"))
    call()
    wait(place)
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    call()
    wait(place)
    return torch.cuda.max_memory_allocated() - before

"""What every benchmark shares: a fixed number of threads, contestants that take turns, results with their machine.

Run on an idle machine: `pytest bench/ --benchmark-only -s`. A contestant is timed only after its result agreed with the
others', and speed is a ratio of medians within one run, since shared machines drift. pytest-benchmark's own table shows
ours; the medians of all stand in its `extra_info`. Where pytest-benchmark is missing, the same commands do without it.

SR_BENCH_RESULTS names another folder for the results (a smoke run, SR_BENCH_SMOKE=1, keeps none otherwise), and
SR_BENCH_COMMIT the commit where there is no repository.
"""

import importlib.util
import json
import os
import platform
import statistics
import subprocess
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import torch

RESULTS = Path(os.environ.get("SR_BENCH_RESULTS") or Path(__file__).parent / "results")
KEEP = "SR_BENCH_RESULTS" in os.environ or os.environ.get("SR_BENCH_SMOKE") != "1"
REPEATS = 15

Seconds = dict[str, float]
Race = Callable[..., Seconds]
Record = Callable[..., None]

if importlib.util.find_spec("pytest_benchmark") is None:

    def pytest_addoption(parser: pytest.Parser) -> None:
        parser.addoption("--benchmark-only", action="store_true", help="without effect: pytest-benchmark is missing")

    @pytest.fixture
    def benchmark() -> None:
        return None


@pytest.fixture(autouse=True)
def _threads():
    """All cores this process may use, and the same number for every contestant."""
    before = torch.get_num_threads()
    torch.set_num_threads(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def race(request: pytest.FixtureRequest, benchmark: Any) -> Race:
    """`race({name: function}, ours=name, tolerance=...)`: median seconds of each, printed and kept in `RESULTS`."""

    def run(
        contestants: Mapping[str, Callable[[], Any]], *, ours: str, tolerance: float, device: str = "cpu"
    ) -> Seconds:
        _same_results({name: function() for name, function in contestants.items()}, tolerance)
        taken: dict[str, list[float]] = {name: [] for name in contestants}
        for _ in range(REPEATS):
            for name, function in contestants.items():
                taken[name].append(_seconds(function, device))
        medians = {name: statistics.median(times) for name, times in taken.items()}
        slowest = max(medians.values())
        print(f"\n{request.node.name}")
        for name, seconds in medians.items():
            print(f"  {name:<24}{seconds * 1e3:9.2f} ms {slowest / seconds:6.2f}x")
        _record(request.node.name, medians, device)
        _show(benchmark, medians, contestants[ours])
        return medians

    return run


@pytest.fixture
def record(request: pytest.FixtureRequest, benchmark: Any) -> Record:
    """`record(medians, device, ours=function, **fields)`: for a benchmark with its own clock; `fields` go to `RESULTS`.

    `ours` waits for its device and is what pytest-benchmark's table shows.
    """

    def keep(medians: Seconds, device: str, *, ours: Callable[[], Any], **fields: Any) -> None:
        _record(request.node.name, medians, device, **fields)
        _show(benchmark, medians, ours)

    return keep


def _show(benchmark: Any, medians: Seconds, ours: Callable[[], Any]) -> None:
    if benchmark is not None:
        benchmark.extra_info.update({f"{name} (ms)": seconds * 1e3 for name, seconds in medians.items()})
        benchmark.pedantic(ours, rounds=5)


def _seconds(function: Callable[[], Any], device: str) -> float:
    _wait(device)
    start = time.perf_counter()
    function()
    _wait(device)
    return time.perf_counter() - start


def _wait(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


def _same_results(results: Mapping[str, Any], tolerance: float) -> None:
    (first, expected), *others = results.items()
    for name, actual in others:
        torch.testing.assert_close(
            actual, expected, rtol=tolerance, atol=tolerance, msg=lambda text, name=name: f"{name} vs {first}: {text}"
        )


def _record(case: str, medians: Seconds, device: str, **fields: Any) -> None:
    if not KEEP:
        return
    machine = torch.cuda.get_device_name() if device == "cuda" else f"{platform.machine()}-{torch.get_num_threads()}cpu"
    folder = RESULTS / machine.replace(" ", "_")
    folder.mkdir(parents=True, exist_ok=True)
    line = {
        "case": case,
        "milliseconds": {name: round(seconds * 1e3, 4) for name, seconds in medians.items()},
        **fields,
        "load": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
        "torch": torch.__version__,
        "commit": _commit(),
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    with (folder / "results.jsonl").open("a") as file:
        file.write(json.dumps(line) + "\n")


def _commit() -> str:
    if named := os.environ.get("SR_BENCH_COMMIT"):
        return named
    command, here = ["git", "rev-parse", "--short", "HEAD"], Path(__file__).parent
    try:
        found = subprocess.run(command, cwd=here, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return "unknown"
    return found.stdout.strip() or "unknown"

"""The race of every benchmark, and what the command line selects.

    pytest bench/ --benchmark-only -s             all cases that can run here
    pytest bench/ --benchmark-only -s --quick     a few of each file, three minutes on two cores
    pytest bench/ --benchmark-only -s -m gpu      those of a CUDA device

Run on an idle machine. A contestant is timed only after its result agreed with the reference. pytest-benchmark's own
table shows ours, its `extra_info` the medians of all; `bench/results/` gets every case at once (SR_BENCH_RESULTS names
another folder, SR_BENCH_COMMIT the commit where there is no repository). Where pytest-benchmark is missing, the same
commands do without it.
"""

import functools
import gc
import importlib.util
import os
from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch

from bench import machine
from bench.clock import Call, wait
from bench.devices import COMPILE_ONLY, SMOKE, place
from bench.race import Case, Measured, compete, keep, table
from bench.record import Results
from sr_engine.allocator import keep_freed_memory

PLUGIN = importlib.util.find_spec("pytest_benchmark") is not None
QUICK_ROUNDS = 5
KEEP = "SR_BENCH_RESULTS" in os.environ or not SMOKE

Race = Callable[..., Measured]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--quick", action="store_true", help="a few cases of each benchmark, within three minutes")
    if not PLUGIN:
        parser.addoption("--benchmark-only", action="store_true", help="without effect: pytest-benchmark is missing")


def pytest_configure(config: pytest.Config) -> None:
    keep_freed_memory()  # as the command line does
    config.addinivalue_line("markers", "quick: part of the selection of --quick")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--quick"):
        config.hook.pytest_deselected(items=[item for item in items if not item.get_closest_marker("quick")])
        items[:] = [item for item in items if item.get_closest_marker("quick")]


def pytest_collection_finish() -> None:
    # Counting memory collects garbage again and again; what the imports left is none and need not be looked through.
    gc.collect()
    gc.freeze()


if not PLUGIN:

    @pytest.fixture
    def benchmark() -> None:
        return None


@pytest.fixture(autouse=True)
def _threads():
    """All cores this process may use, and the same number for every contestant."""
    before = torch.get_num_threads()
    torch.set_num_threads(1 if SMOKE else machine.cores())
    yield
    torch.set_num_threads(before)


@functools.cache
def _results(kind: str) -> Results:
    return Results.open(kind)


@pytest.fixture
def race(request: pytest.FixtureRequest, benchmark: Any) -> Race:
    """`race(case, {name: function}, tolerance=...)`: checks, times, prints and records; see `bench.race.compete`.

    `notes`: what else there is to say of the case, kept with it. `measured`: what was measured elsewhere, such as in a
    process of its own; then nothing is run but ours, once, for pytest-benchmark's table.
    """
    given: dict[str, Any] = {"rounds": QUICK_ROUNDS} if request.config.getoption("--quick") else {}

    def run(
        case: Case,
        contestants: Mapping[str, Call],
        *,
        notes: Mapping[str, Any] | None = None,
        measured: Measured | None = None,
        **options: Any,
    ) -> Measured:
        found = measured or compete(case, contestants, **given | options)
        if COMPILE_ONLY:
            return found
        content = keep(case, found, _results(place(case.device)) if KEEP else None, notes or {})
        print(f"\n{table(content)}")
        if benchmark is not None:
            _show(benchmark, case, found, contestants[case.ours], rounds=3 if measured is None else 1)
        return found

    return run


def _show(benchmark: Any, case: Case, found: Measured, ours: Call, rounds: int) -> None:
    benchmark.group = case.op
    benchmark.extra_info.update({f"{name} (ms)": seconds * 1e3 for name, seconds in found.seconds.items()})
    where = place(case.device)

    def once() -> None:
        ours()
        wait(where)

    with torch.set_grad_enabled(case.training):
        benchmark.pedantic(once, rounds=rounds)

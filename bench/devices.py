"""Where a benchmark runs: cases for CPUs and CUDA devices, and how they are told apart.

SR_BENCH_SMOKE=1 runs every case on a CPU with tiny shapes and a few samples, to see that it works: its numbers mean
nothing and are not kept. SR_BENCH_FULL=1 times every contestant on every shape. SR_BENCH_COMPILE_ONLY=1 calls every
contestant once and times nothing: several processes fill the compilers' caches before one process times.
"""

import os
from typing import Any

import pytest
import torch

SMOKE = os.environ.get("SR_BENCH_SMOKE") == "1"
FULL = os.environ.get("SR_BENCH_FULL") == "1"
COMPILE_ONLY = os.environ.get("SR_BENCH_COMPILE_ONLY") == "1"


def case(device: str, *values: Any, id: str, quick: bool = False) -> Any:
    """Parameters of a case on "cpu" or "cuda"; `quick` puts it into the selection of `--quick`."""
    marks = [pytest.mark.quick] if quick else []
    if device == "cuda":
        missing = not SMOKE and not torch.cuda.is_available()
        marks += [pytest.mark.gpu, pytest.mark.skipif(missing, reason="needs a CUDA device")]
    return pytest.param(*values, id=f"{device}-{id}", marks=marks)


def place(device: str) -> str:
    """The device of tensors: a smoke run has CPUs only."""
    return "cpu" if SMOKE else device


def impl(device: str) -> Any:
    """The implementation that serves a device."""
    return "triton" if place(device) == "cuda" else "torch"

"""Tile sizes and warps of the window attention kernels: a static table, and live tuning for those who ask for it.

SR_KERNELS_AUTOTUNE=1 times the candidates on the first call of each shape class, on the tensors of that call.
"""

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING

import torch

from sr_kernels.launch import Launch

if TYPE_CHECKING:
    from sr_kernels.window_attention.arguments import Problem

ENVIRONMENT_VARIABLE = "SR_KERNELS_AUTOTUNE"


@dataclass(frozen=True)
class Config:
    """How one kernel is cut and compiled.

    Args:
        queries, keys: tile of scores; fixed by the window where that is small.
        warps: warps in a program.
        stages: depth of the software pipeline.
        windows: windows a program works on, one after the other.
    """

    queries: int = 64
    keys: int = 32
    warps: int = 4
    stages: int = 1
    windows: int = 4


_tuned: dict[tuple, Config] = {}


def best(kernel: str, problem: "Problem", make: Callable[[Config], Launch]) -> Launch:
    """`make` of the configuration for a kernel: the static one, or the fastest of `candidates` if tuning is on."""
    if os.environ.get(ENVIRONMENT_VARIABLE) != "1" or problem.q.device.type != "cuda":
        return make(static(kernel, problem))
    key = (kernel, *shape_class(problem), problem.tokens, problem.head_dim, problem.count)
    if key not in _tuned:
        timed = {config: _milliseconds(make(config)) for config in candidates(kernel, problem)}
        _tuned[key] = min(timed, key=timed.__getitem__)
    return make(_tuned[key])


def static(kernel: str, problem: "Problem") -> Config:
    """The entry of the static table."""
    if problem.whole:
        return Config(windows=4 if kernel == "forward" else 8)
    if kernel == "keys_backward":
        return Config(queries=32, keys=64)
    return Config(windows=16 if kernel == "bias_backward" else 1)


def shape_class(problem: "Problem") -> tuple:
    """What the static table distinguishes besides the architecture."""
    return problem.whole, problem.padded_head_dim, problem.q.element_size()


def candidates(kernel: str, problem: "Problem") -> Iterator[Config]:
    """What live tuning tries."""
    if problem.whole:
        windows = (1, 2, 4, 8, 16) if kernel == "forward" else (4, 8, 16, 32)
        for warps, stages, count in product((4, 8), (1, 2), windows):
            yield Config(warps=warps, stages=stages, windows=count)
    else:
        windows = (16, 64) if kernel == "bias_backward" else (1,)
        for (queries, keys), warps, stages, count in product(
            ((64, 32), (32, 64), (64, 64), (128, 32), (128, 64), (64, 128)), (4, 8), (1, 2), windows
        ):
            yield Config(queries, keys, warps, stages, count)


def _milliseconds(launch: Launch) -> float:
    from triton.testing import do_bench

    try:
        return float(do_bench(launch.run, warmup=5, rep=20, return_mode="median"))
    except Exception as error:  # a configuration may ask for more shared memory than there is
        if "out of resource" not in str(error):
            raise
        return float("inf")

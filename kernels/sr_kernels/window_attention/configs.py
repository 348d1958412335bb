"""Tile sizes and warps of the window attention kernels: a static table, and live tuning for those who ask for it.

SR_KERNELS_AUTOTUNE=1 times the candidates on the first call of each shape class, on the tensors of that call.
"""

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
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
        windows: windows a program of the forward pass works on, one after the other.
        resident: programs per multiprocessor that kernels which sum over windows are cut into: those that it can hold.
    """

    queries: int = 64
    keys: int = 64
    warps: int = 4
    stages: int = 1
    windows: int = 4
    resident: int = 2

    def share(self, problem: "Problem", tiles: int) -> int:
        """Windows for each program of a kernel that sums over them, with `tiles` programs for each head and window."""
        groups = max(1, self.resident * multiprocessors(problem.q.device) // (problem.heads * tiles))
        return -(-problem.count // groups)


_tuned: dict[tuple, Config] = {}


def best(kernel: str, problem: "Problem", make: Callable[[Config], Launch]) -> Launch:
    """`make` of the configuration for a kernel: the static one, or the fastest of `candidates` if tuning is on."""
    if os.environ.get(ENVIRONMENT_VARIABLE) != "1" or problem.q.device.type != "cuda":
        return make(static(kernel, problem))
    key = (kernel, *shape_class(problem), problem.tokens, problem.head_dim, problem.count)
    if key not in _tuned:
        tried = (static(kernel, problem), *candidates(kernel, problem))
        timed = {config: _milliseconds(make(config)) for config in dict.fromkeys(tried)}
        _tuned[key] = min(timed, key=timed.__getitem__)
    return make(_tuned[key])


def static(kernel: str, problem: "Problem") -> Config:
    """The entry of the static table: measured on sm_90, elsewhere what compiles without spilling registers."""
    if os.environ.get("TRITON_INTERPRET") == "1":
        return Config()  # the interpreter's time is in the number of tiles
    arch, wide = problem.arch, problem.padded_head_dim > 32
    if problem.whole:
        if kernel == "forward":
            return Config(windows=4 if problem.padded_head_dim == 16 else 1)
        crowded = problem.logit_scale is not None or problem.tokens[0] % 16 > 0
        return Config(warps=8, resident=1) if crowded else Config()
    if problem.q.element_size() == 4:
        if wide and kernel == "forward" and arch >= 90:
            # 16 keys for 8 warps are wrong there: Triton 3.6 miscompiles the three products (docs/log.md).
            return Config(queries=64 if problem.padded_head_dim == 64 else 32, keys=32, warps=8)
        return (FULL_WIDE if wide else FULL)[kernel]
    if wide:
        return Config(keys=32, warps=4 if kernel == "forward" else 8)
    if kernel == "table_backward":
        older = arch == 90 and _triton_version() < (3, 9)  # later ones need more registers
        if problem.tokens[1] > 256:
            return Config(warps=4 if older else 8, resident=4)
        return Config(keys=32, warps=8 if arch < 90 else 4, stages=2 if older else 1, resident=3)
    if kernel == "keys_backward":
        return Config() if arch == 90 else Config(queries=32)
    if kernel == "bias_backward":
        return Config(keys=64 if arch >= 90 else 32)
    separate = problem.windows.key_step != problem.windows.size
    return Config(keys=16 if kernel == "forward" and separate and arch >= 100 else 32)


# float32, multiplied in three tf32 products, needs three times the registers.
FULL = {
    "forward": Config(keys=32),
    "queries_backward": Config(keys=16),
    "keys_backward": Config(queries=16, keys=64),
    "bias_backward": Config(keys=16),
}
FULL_WIDE = {  # heads of more than 32 channels; beyond 64 some of these spill a little
    "forward": Config(keys=16, warps=8),
    "queries_backward": Config(queries=16, keys=32, warps=8),
    "keys_backward": Config(keys=16, warps=8),
    "bias_backward": Config(keys=16, warps=8),
}


@cache
def _triton_version() -> tuple[int, int]:
    import triton

    major, minor = triton.__version__.split(".")[:2]
    return int(major), int(minor)


@cache
def multiprocessors(device: torch.device) -> int:
    """Of this GPU; elsewhere, of an H100."""
    return torch.cuda.get_device_properties(device).multi_processor_count if device.type == "cuda" else 132


def shape_class(problem: "Problem") -> tuple:
    """What the static table distinguishes besides the architecture."""
    return problem.whole, problem.padded_head_dim, problem.q.element_size()


def candidates(kernel: str, problem: "Problem") -> Iterator[Config]:
    """What live tuning tries."""
    if kernel == "forward" and problem.whole:
        for warps, stages, windows in product((4, 8), (1, 2), (1, 2, 4, 8)):
            yield Config(warps=warps, stages=stages, windows=windows)
    elif problem.whole:
        for warps, resident in product((4, 8), (1, 2, 3, 4)):
            yield Config(warps=warps, resident=resident)
    else:
        tiles = ((64, 32), (32, 64), (64, 64), (128, 32), (128, 64), (64, 128))
        if kernel == "table_backward":
            tiles = ((64, 64),) if problem.tokens[1] > 256 else ((64, 32), (64, 64))
        residents = (1,) if kernel in ("forward", "queries_backward", "keys_backward") else (2, 3, 4, 8, 16)
        for (queries, keys), warps, stages, resident in product(tiles, (4, 8), (1, 2), residents):
            yield Config(queries, keys, warps, stages, resident=resident)


def _milliseconds(launch: Launch) -> float:
    from triton.errors import TritonError
    from triton.testing import do_bench

    try:
        return float(do_bench(launch.run, warmup=5, rep=20, return_mode="median"))  # type: ignore[arg-type]
    except (RuntimeError, TritonError):  # a candidate may not compile, or ask for more shared memory than there is
        return float("inf")

"""Times the candidate configurations of the window attention kernels on this GPU, for the table in configs.py.

    python bench/tune_window_attention.py [--dtype bf16] [--json FILE] [NAME ...]

Compiles in several processes first (Triton's cache on disk is shared), then times alone.
"""

import argparse
import json
import sys
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch

sys.path[:0] = [str(Path(__file__).parents[1] / "kernels")]

from sr_kernels.launch import Launch, Steps, run  # noqa: E402
from sr_kernels.window_attention import configs  # noqa: E402
from sr_kernels.window_attention.arguments import Problem  # noqa: E402
from sr_kernels.window_attention.backward import backward  # noqa: E402
from sr_kernels.window_attention.forward import forward  # noqa: E402
from sr_kernels.window_attention.windows import Windows  # noqa: E402

SHAPES: dict[str, tuple[Windows, int, int, int]] = {  # windows, heads, head dim, side of the map
    "light": (Windows(8, 4), 6, 10, 256),
    "swinir": (Windows(8, 4), 6, 30, 256),
    "swin": (Windows(7, 3), 6, 32, 252),
    "hat": (Windows(16, 8), 6, 30, 256),
    "ocab": (Windows(16, keys=24, key_offset=-4, outside="zero"), 6, 30, 256),
    "dat": (Windows((8, 32), (4, 16)), 3, 30, 256),
    "w12d64": (Windows(12, 6), 3, 64, 252),
    "wide": (Windows(16, 8), 2, 122, 128),
}
DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}


def steps(name: str, dtype: torch.dtype) -> Iterator[Any]:
    """The two passes of a shape, each a generator of launches."""
    windows, heads, d, side = SHAPES[name]
    qkv = torch.randn(1, side, side, 3 * heads * d, device="cuda", dtype=dtype)
    table = torch.randn(windows.table_rows, heads, device="cuda")
    problem = Problem.of([qkv], heads, table, None, None, d**-0.5, windows, "auto", training=True)
    out, lse = run(forward(problem), qkv.device)
    yield forward(problem)
    yield backward(problem, torch.randn_like(out), out, lse, packed=True, need_bias=True)


def each(name: str, dtype: torch.dtype, only: str | None) -> Iterator[tuple[str, Any, Any]]:
    """Every kernel of a shape with its candidates: name, candidate, launch."""
    found: list[tuple[str, Any, Any]] = []

    def collecting(kernel: str, problem: Problem, make: Any) -> Launch:
        if only is None or kernel == only:
            found.extend((kernel, config, make) for config in configs.candidates(kernel, problem))
        return make(configs.static(kernel, problem))

    before, configs.best = configs.best, collecting
    try:
        for passing in steps(name, dtype):
            _drain(passing)
    finally:
        configs.best = before
    yield from found


def _drain(passing: Steps[Any]) -> None:
    run(passing, torch.device("cuda"))


def compile_share(name: str, dtype: torch.dtype, only: str | None, part: int, parts: int) -> None:
    """Run every `parts`-th candidate once, for what it leaves in Triton's cache."""
    for _, config, make in list(each(name, dtype, only))[part::parts]:
        _milliseconds(make(config), compile_only=True)


def _milliseconds(launch: Launch, *, compile_only: bool = False) -> float:
    from triton.testing import do_bench

    try:
        if compile_only:
            launch.run()
            return 0.0
        return float(do_bench(launch.run, warmup=3, rep=15, return_mode="median"))  # type: ignore[arg-type]
    except Exception as error:
        return float("inf") if "out of resource" in str(error) else _report(error)


def _report(error: Exception) -> float:
    print("failed:", repr(error)[:300])
    return float("inf")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", default=list(SHAPES))
    parser.add_argument("--dtype", default="bf16", choices=DTYPES)
    parser.add_argument("--kernel", help="only this one, by its name in configs.py")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--processes", type=int, default=14)
    given = parser.parse_args()
    if unknown := set(given.names) - set(SHAPES):
        parser.error(f"unknown shape {', '.join(sorted(unknown))}; there are {', '.join(SHAPES)}")
    if not torch.cuda.is_available():
        parser.error("needs a CUDA device: it times kernels on the GPU that you have")
    dtype = DTYPES[given.dtype]
    with ProcessPoolExecutor(given.processes, get_context("spawn")) as pool:
        jobs = [
            pool.submit(compile_share, name, dtype, given.kernel, part, given.processes)
            for name in given.names
            for part in range(given.processes)
        ]
        for job in jobs:
            job.result()
    record = []
    for name in given.names:
        times: dict[str, list[tuple[float, Any]]] = {}
        for kernel, config, make in each(name, dtype, given.kernel):
            times.setdefault(kernel, []).append((_milliseconds(make(config)), config))
        for kernel, measured in times.items():
            measured.sort(key=lambda pair: pair[0])
            record += [{"shape": name, "kernel": kernel, "ms": t, "config": vars(c)} for t, c in measured]
            print(f"{name} {kernel}")
            for t, c in measured[:5]:
                print(f"  {t * 1e3:8.1f} us  {c}")
    if given.json:
        given.json.write_text(json.dumps(record))


if __name__ == "__main__":
    main()

"""A kernel launch as a value: what runs, on what, how it was compiled. Made first, run after.

Making one touches no device, so that launches for `meta` tensors can be compiled ahead of time and inspected.
"""

from collections.abc import Generator, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, TypeVar

import torch


@dataclass(frozen=True)
class Launch:
    """One launch of a Triton kernel.

    Args:
        kernel: the `triton.jit` function.
        grid: number of programs, along x only (y and z end at 65535).
        arguments: run-time arguments by name: tensors, ints, floats, or None for a pointer that is never read.
        constants: `tl.constexpr` arguments by name.
        options: `num_warps`, `num_stages`.
        choice: under which name the operation chose how it is cut; a sweep over configurations finds it by that.
    """

    kernel: Any
    grid: int
    arguments: Mapping[str, Any]
    constants: Mapping[str, Any]
    options: Mapping[str, int]
    choice: str = ""

    def run(self) -> None:
        """Enqueue it on the current stream; an empty grid does nothing."""
        if self.grid:
            # FP fusion is named because its default changes between versions of Triton.
            self.kernel[(self.grid,)](**self.arguments, **self.constants, **self.options, enable_fp_fusion=True)


Result = TypeVar("Result")
Steps = Generator[Launch, None, Result]


def run(steps: Steps[Result], device: torch.device) -> Result:
    """Run the launches that `steps` yields on `device`, one after the other, and return what it returns.

    What `steps` does between two launches sees the results of the first.
    """
    # Triton launches on the current device, wherever the tensors are.
    with torch.cuda.device(device) if device.type == "cuda" else nullcontext():
        while True:
            try:
                launch = next(steps)
            except StopIteration as stop:
                return stop.value
            launch.run()


def collect(steps: Steps[Any]) -> list[Launch]:
    """The launches of `steps` over `meta` tensors, none of them run."""
    return list(steps)

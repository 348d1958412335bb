"""How the kernels of the content statistics cut pictures: strips of columns, bands of rows, tiles of windows."""

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from typing import Any

import triton
from torch import Tensor

from sr_kernels.launch import Launch

POOLED = (8, 16, 32)  # windows whose difficulty needs no second launch
COLUMNS = 56  # of a strip: 64 that a warp reads, less 4 on either side
# Bands are as high as leaves so many programs: six for each multiprocessor of a large GPU, where nine find room. Lower
# bands read and sum more rows twice, higher ones leave cores idle.
PROGRAMS = 768
BANDS = (64, 48, 32, 16, 8)
# The assembler that comes with Triton 3.9 stops at 168 unless told, and spills.
REGISTERS = 255
STRIPS = ("statistics", "sums", "spread")


@dataclass(frozen=True)
class Config:
    """How one kernel is cut and compiled.

    Args:
        rows: height of the bands of those that go over strips, of the tile of those that go over windows.
        columns: width of that tile, or pixels of a row that a program of `fold` takes; strips have `COLUMNS`.
        warps: warps in a program; one where strips pass, whose lanes hand numbers to each other.
        registers: at most so many a thread, where that is told.
    """

    rows: int = 1
    columns: int = COLUMNS
    warps: int = 1
    registers: int = REGISTERS


@dataclass(frozen=True)
class Problem:
    """What the choice depends on: pictures [B H W], side of the windows or 0, what strips cover beyond the picture."""

    size: tuple[int, int, int]
    window: int = 0
    margin: int = 0

    @property
    def heights(self) -> list[int]:
        """Bands hold whole windows."""
        return [rows for rows in BANDS if not self.window or rows % self.window == 0]

    @property
    def valid(self) -> int:
        """Columns of a fine strip; it holds whole windows."""
        return COLUMNS // self.window * self.window if self.window else COLUMNS

    def cuts(self, rows: int) -> tuple[tuple[int, int, int], tuple[int, int, int]]:
        """Programs, strips and bands of one picture: of its 2x2 means, and of its pixels."""
        _, H, W = self.size
        coarse = (H + 1) // 2 + 2 * self.margin, (W + 1) // 2 + 2 * self.margin
        return _cut(coarse, rows, COLUMNS), _cut((H + 2 * self.margin, W + 2 * self.margin), rows, self.valid)

    def programs(self, rows: int) -> int:
        coarse, fine = self.cuts(rows)
        return self.size[0] * (coarse[0] + fine[0])


def choose(kernel: str, problem: Problem) -> Config:
    """The configuration that a kernel is launched with."""
    return static(kernel, problem)


def static(kernel: str, problem: Problem) -> Config:
    """What the rules above say. Not one of them changes a result."""
    if kernel in STRIPS:
        heights = problem.heights
        return Config(next((rows for rows in heights if problem.programs(rows) >= PROGRAMS), heights[-1]))
    if kernel == "fold":
        return Config(columns=256, warps=2)
    side = triton.next_power_of_2(problem.window)
    pixels, widest = (512, 64) if kernel == "pool" else (64, 32)
    return Config(max(1, min(pixels // min(widest, side), side)), min(widest, side))


def shape_class(kernel: str, problem: Problem) -> tuple[int, ...]:
    """What `static` distinguishes: the window, and for strips the height of the bands that fill a GPU."""
    return (problem.window, static(kernel, problem).rows) if kernel in STRIPS else (problem.window,)


def candidates(kernel: str, problem: Problem) -> Iterator[Config]:
    """What a sweep tries."""
    if kernel in STRIPS:
        for rows, registers in product(problem.heights, (REGISTERS, 168, 128)):
            yield Config(rows, registers=registers)
    elif kernel == "fold":
        for columns, warps in product((128, 256, 512, 1024), (1, 2, 4, 8)):
            yield Config(columns=columns, warps=warps)
    else:
        side = triton.next_power_of_2(problem.window)
        for rows, columns, warps in product((1, 2, 4, 8, 16, 32), (8, 16, 32, 64), (1, 2, 4)):
            if rows <= side and columns <= side and 32 <= rows * columns <= 1024:
                yield Config(rows, columns, warps)


@dataclass(frozen=True)
class Picture:
    """A picture (B, 1 or 3, H, W) of any strides."""

    x: Tensor

    def over_strips(
        self,
        choice: str,
        kernel: Any,
        maps: Mapping[str, Tensor | None],
        *,
        window: int = 0,
        margin: int = 0,
        **constants: Any,
    ) -> Launch:
        """A program for every strip of every band, of the 2x2 means first: theirs take longest.

        Strips and bands hold whole windows, if any; they cover the picture and a `margin` around it.
        """
        B, C, H, W = self.x.shape
        problem = Problem((B, H, W), window, margin)
        config = choose(choice, problem)
        (coarse_programs, coarse_strips, coarse_bands), (_, fine_strips, fine_bands) = problem.cuts(config.rows)
        sizes = {"coarse_programs": B * coarse_programs, "coarse_strips": coarse_strips, "coarse_bands": coarse_bands}
        return Launch(
            kernel,
            problem.programs(config.rows),
            {"x": self.x, **maps, **strides("x", self.x), "H": H, "W": W, **sizes}
            | {"half_H": (H + 1) // 2, "half_W": (W + 1) // 2}
            | {"fine_strips": fine_strips, "fine_bands": fine_bands},
            {"CHANNELS": C, "VALID": problem.valid, "ROWS": config.rows, **constants},
            {"num_warps": 1, "num_stages": 1, "maxnreg": config.registers},
            choice,
        )


def _cut(size: tuple[int, int], rows: int, columns: int) -> tuple[int, int, int]:
    """Programs, strips, bands of one picture."""
    strips, bands = triton.cdiv(size[1], columns), triton.cdiv(size[0], rows)
    return strips * bands, strips, bands


def strides(name: str, x: Tensor) -> dict[str, int]:
    """Kernel arguments `NAME_b`, `NAME_c`, `NAME_y`, `NAME_x`."""
    return {f"{name}_{axis}": step for axis, step in zip("bcyx", x.stride(), strict=True)}


def compiled() -> bool:
    """Whether kernels run on a device and not in the interpreter, which has no assembler."""
    return os.environ.get("TRITON_INTERPRET") != "1"

"""How the kernels of magic_resample are cut: what each is launched with, and what a sweep tries."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

import triton

# Programs to make where the picture allows: about what a large GPU holds at a time.
PROGRAMS = 1000
# Numbers of a tile of `banded`.
TILE = 512


@dataclass(frozen=True)
class Config:
    """How one kernel is cut and compiled.

    Args:
        rows: rows of a program: those that stream by, of the fused kernels; of its tile, of `banded`.
        lanes: numbers of a row that a program makes.
        warps: warps in a program. A thread of a fused kernel has lanes / (32 * warps) numbers.
    """

    rows: int
    lanes: int
    warps: int

    @property
    def deep(self) -> int:
        """Numbers of a row that a thread makes."""
        return max(1, self.lanes // (32 * self.warps))


@dataclass(frozen=True)
class Problem:
    """What the choice depends on: `planes` pictures of `height` rows of `length` numbers.

    A thread of a fused kernel may have any of `deeps` numbers of a row; by the table it has `deep`.
    """

    planes: int
    height: int
    length: int
    deeps: tuple[int, ...] = (1,)
    deep: int = 1


@dataclass(frozen=True)
class Tile:
    """How a kernel of the learned form is cut.

    Args:
        per_thread: pixels of a thread.
        group: channels of a pixel that a thread has at a time.
        columns: width of the tile in pixels where lanes lie along the width, and where they lie along the channels.
        warps: warps in a program.
    """

    per_thread: int
    group: int = 1
    columns: tuple[int, int] = (32, 4)
    warps: int = 4


@dataclass(frozen=True)
class Learned:
    """What the choice depends on: channels, whether lanes lie along them, stencils or lags."""

    channels: int
    along_channels: bool
    terms: int


def choose(kernel: str, problem: Problem) -> Config:
    """The configuration that a kernel is launched with."""
    return static(kernel, problem)


def choose_tile(kernel: str, problem: Learned) -> Tile:
    """The same for the kernels of the learned form."""
    return static_tile(kernel, problem)


def static(kernel: str, problem: Problem) -> Config:
    """Longer runs of rows read fewer rows twice, as long as there are programs for all of a large GPU."""
    if kernel.startswith("banded"):
        lanes = min(128, max(32, triton.next_power_of_2(problem.length)))
        return Config(TILE // lanes, lanes, 4)
    warps = min(4, triton.next_power_of_2(triton.cdiv(problem.length, 32 * problem.deep)))
    lanes = 32 * warps * problem.deep
    others = problem.planes * triton.cdiv(problem.length, lanes)
    runs = (n for n in (16, 24, 32, 48, 64) if others * triton.cdiv(problem.height, n) >= PROGRAMS)
    return Config(max(runs, default=8), lanes, warps)


def static_tile(kernel: str, problem: Learned) -> Tile:
    """Where a thread keeps a number for each of the stencils at its pixels, more pixels share the reading of taps."""
    if kernel == "lags":
        return Tile(4)
    if kernel == "transposed_lags":
        # Two would spill where lanes lie along the channels (sm_80), or lags are many.
        return Tile(2 if problem.terms <= 3 and not problem.along_channels else 1)
    if kernel == "stencils_to_input":
        return Tile(1, group=16)
    few = problem.channels <= 4
    return Tile(max(1, min(4 if few else 2, 64 // triton.next_power_of_2(problem.terms))), group=4)


def shape_class(kernel: str, problem: Problem | Learned) -> tuple[int, ...]:
    """What the two tables distinguish."""
    if isinstance(problem, Learned):
        return problem.channels, problem.along_channels, problem.terms
    return (static(kernel, problem).lanes, problem.deep)


def candidates(kernel: str, problem: Problem) -> Iterator[Config]:
    """What a sweep tries."""
    if kernel.startswith("banded"):
        for rows, lanes, warps in product((1, 2, 4, 8, 16, 32), (32, 64, 128, 256), (1, 2, 4, 8)):
            if 128 <= rows * lanes <= 2048 and rows * lanes >= 32 * warps:
                yield Config(rows, lanes, warps)
        return
    for rows, deep, warps in product((8, 16, 24, 32, 48, 64, 128), problem.deeps, (1, 2, 4, 8)):
        if warps == 1 or 16 * warps * deep < problem.length:
            yield Config(rows, 32 * warps * deep, warps)


def candidate_tiles(kernel: str, problem: Learned) -> Iterator[Tile]:
    """What a sweep tries of the learned form."""
    columns = ((32, 2), (32, 4), (32, 8)) if problem.along_channels else ((16, 4), (32, 4), (64, 4), (128, 4))
    wide = triton.cdiv(problem.channels, 32) if problem.along_channels else problem.channels
    groups = [n for n in (1, 2, 4, 8, 16) if n < 2 * wide and kernel.startswith("stencils")] or [1]
    for per_thread, group, width, warps in product((1, 2, 4, 8), groups, columns, (2, 4, 8)):
        yield Tile(per_thread, group, width, warps)

"""How the kernels of channel attention cut their work: tile sizes, maps as strides, spans of pixels."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import product
from math import gcd
from typing import Any

import torch
import triton
from torch import Tensor

from sr_kernels.channel_attention.reference import NORM_EPS
from sr_kernels.launch import Launch

# Spans of pixels are made this many over all pictures and heads: about four programs for each core of a large GPU.
# The number is fixed, so that sums are added in the same order on every machine.
PROGRAMS = 512


@dataclass(frozen=True)
class Tile:
    """`pixels` of all channels of a head are read at once by `warps` warps, with `stages` tiles in flight.

    A program computes at most `widest` channels of a result, of one result only where results are `apart`: a matrix
    of float32 as mma.sync takes it is many registers.
    """

    pixels: int
    warps: int
    stages: int
    widest: int = 128
    apart: bool = False


@dataclass(frozen=True)
class Tiles:
    gram: Tile
    mix: Tile
    gradients: Tile


@dataclass(frozen=True)
class Rows:
    """`spans` are summed at once, one row of each, by `warps` warps."""

    spans: int
    warps: int


# By width of a head, rounded up to a power of two, and whether numbers are 4 bytes wide.
TABLE = {
    (16, False): Tiles(Tile(64, 4, 4), Tile(128, 4, 3), Tile(128, 4, 2)),
    (32, False): Tiles(Tile(32, 4, 4), Tile(64, 4, 3), Tile(64, 4, 2)),
    (64, False): Tiles(Tile(64, 4, 3), Tile(64, 4, 3), Tile(64, 8, 2)),
    (128, False): Tiles(Tile(32, 8, 2), Tile(64, 4, 2, widest=64), Tile(64, 8, 1, widest=32)),
    (16, True): Tiles(Tile(64, 4, 2), Tile(128, 4, 2), Tile(64, 4, 2)),
    (32, True): Tiles(Tile(32, 4, 3), Tile(64, 4, 2), Tile(64, 4, 1)),
    (64, True): Tiles(Tile(32, 8, 2), Tile(64, 4, 1, widest=32), Tile(32, 4, 1, widest=32, apart=True)),
    (128, True): Tiles(Tile(32, 8, 1, widest=32), Tile(32, 4, 1, widest=16), Tile(32, 4, 1, widest=16, apart=True)),
}


OVER_CHANNELS = ("weights", "mixing")


@dataclass(frozen=True)
class Problem:
    """Sizes that all launches of one call share. Made from a view of q (B, heads, d, H, W)."""

    q: Tensor
    precision: str

    @property
    def head_dim(self) -> int:
        return self.q.shape[2]

    @property
    def padded(self) -> int:
        """The head dim as tensor cores take it."""
        return max(16, triton.next_power_of_2(self.head_dim))

    @property
    def rows(self) -> int:
        """Pictures times heads."""
        return self.q.shape[0] * self.q.shape[1]

    @property
    def side_by_side(self) -> bool:
        """Whether several numbers of a tile share an address."""
        return placement(self.q)["ALIGN"] > 1 or (self.q.stride(4) == 1 and self.q.stride(2) % 16 == 0)

    def empty(self, *shape: int) -> Tensor:
        """Float32 memory for each head of each picture."""
        return torch.empty(*self.q.shape[:2], *shape, dtype=torch.float32, device=self.q.device)

    def spans(self, tile: Tile) -> tuple[int, int]:
        """Number of spans, pixels of each; a whole number of tiles."""
        pixels = self.q.shape[3] * self.q.shape[4]
        count = max(1, min(PROGRAMS // self.rows, triton.cdiv(pixels, tile.pixels)))
        each = triton.cdiv(triton.cdiv(pixels, count), tile.pixels) * tile.pixels
        return triton.cdiv(pixels, each), each

    def over_pixels(
        self,
        choice: str,
        kernel: Any,
        tile: Tile,
        maps: Mapping[str, Tensor],
        others: Mapping[str, Tensor | None],
        constants: Mapping[str, Any],
        *,
        strided: Mapping[str, Tensor] | None = None,
    ) -> Launch:
        """A program for every span of every head. `strided`: whose strides are passed, under which names."""
        count, span = self.spans(tile)
        columns = min(self.padded, tile.widest)
        steps = [strides(name, x) for name, x in (maps if strided is None else strided).items()]
        sizes = {"heads": self.q.shape[1], "pixels": self.q.shape[3] * self.q.shape[4], "width": self.q.shape[4]}
        arguments = {**maps, **others, **sizes, "spans": count, "span": span}
        return Launch(
            kernel,
            self.rows * count * (self.padded // columns),
            arguments | {name: step for named in steps for name, step in named.items()},
            {"DIM": self.head_dim, "D": self.padded, "PIXELS": tile.pixels, "COLUMNS": columns}
            | {"PRECISION": self._dots, **constants, **placement(*maps.values())},
            {"num_warps": tile.warps, "num_stages": tile.stages},
            choice,
        )

    def over_channels(self, choice: str, kernel: Any, others: Mapping[str, Tensor]) -> Launch:
        """A program for every channel of every head; `others["products"]` came from `gram`."""
        rows: Rows = choose(choice, self)
        return Launch(
            kernel,
            self.rows * self.head_dim,
            {**others, "heads": self.q.shape[1], "spans": others["products"].shape[2]},
            {"DIM": self.head_dim, "D": self.padded, "SPANS": rows.spans, "EPS": NORM_EPS},
            {"num_warps": rows.warps, "num_stages": 1},
            choice,
        )

    @property
    def _dots(self) -> str:
        """`input_precision` of tl.dot."""
        return "tf32x3" if self.precision == "auto" else self.precision


def choose(kernel: str, problem: Problem) -> Any:
    """The configuration that a kernel is launched with: `Rows` for those over channels, a `Tile` for the others."""
    return static(kernel, problem)


def static(kernel: str, problem: Problem) -> Any:
    """The entry of the table; half as many pixels where every number has an address of its own, in registers."""
    if kernel in OVER_CHANNELS:
        return Rows(4096 // problem.padded, 4)  # 4096 numbers are summed at once
    found: Tile = getattr(TABLE[problem.padded, problem.q.element_size() > 2], kernel)
    return found if problem.side_by_side else replace(found, pixels=max(16, found.pixels // 2))


def shape_class(kernel: str, problem: Problem) -> tuple[int, ...]:
    """What `static` distinguishes."""
    if kernel in OVER_CHANNELS:
        return (problem.padded,)
    return problem.padded, problem.q.element_size(), problem.side_by_side


def candidates(kernel: str, problem: Problem) -> Iterator[Any]:
    """What a sweep tries; results stay `apart` where they are."""
    if kernel in OVER_CHANNELS:
        for numbers, warps in product((1024, 2048, 4096, 8192), (1, 2, 4, 8)):
            yield Rows(numbers // problem.padded, warps)
        return
    before = static(kernel, problem)
    least = min(before.widest, problem.padded) // 2
    widths = [n for n in (16, 32, 64, 128) if max(16, least) <= n < problem.padded] + [128]
    for widest, pixels, warps, stages in product(widths, (16, 32, 64, 128, 256), (4, 8), (1, 2, 3, 4)):
        if 1024 <= pixels * problem.padded <= 16384:
            yield replace(before, pixels=pixels, warps=warps, stages=stages, widest=widest)


def strides(name: str, x: Tensor) -> dict[str, int]:
    """Kernel arguments `NAME_b`, `NAME_h`, `NAME_c`, `NAME_y`, `NAME_x` of a view (B, heads, d, H, W)."""
    return {f"{name}_{axis}": step for axis, step in zip("bhcyx", x.stride(), strict=True)}


def placement(*maps: Tensor) -> dict[str, int | bool]:
    """Kernel constants of views (B, heads, d, H, W) that one kernel reads and writes.

    FLAT: all pixels of a map lie at one distance, so that rows of the map need no division.
    ALIGN: where channels lie side by side, every head of every pixel starts at a multiple of so many numbers.
    """
    first = maps[0]
    aligned = 16 // first.element_size()
    for x in maps:
        steps = (step for axis, step in enumerate(x.stride()) if axis != 2)
        aligned = gcd(aligned, x.data_ptr() // x.element_size(), *steps) if x.stride(2) == 1 else 1
    flat = all(x.shape[3] == 1 or x.stride(3) == x.shape[4] * x.stride(4) for x in maps)
    return {"FLAT": flat, "ALIGN": aligned}

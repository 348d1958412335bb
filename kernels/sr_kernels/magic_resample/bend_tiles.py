"""What the kernels of the learned form share: how pictures are cut into tiles, and stencils as tables of weights."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from sr_kernels.launch import Launch
from sr_kernels.magic_resample import configs

# pyright: reportPossiblyUnboundVariable=false, reportOperatorIssue=false, reportArgumentType=false, reportCallIssue=false
# pyright: reportIndexIssue=false, reportGeneralTypeIssues=false, reportAttributeAccessIssue=false
# ruff: noqa: RUF005 -- Triton has no starred expressions


@dataclass(frozen=True)
class Tiles:
    """Tiles of `pixels`, `columns` wide, over pictures of `channels`; `lanes` times `group` channels at a time.

    Lanes of a warp lie along the width; along the channels where these lie side by side and are many.
    """

    batch: int
    height: int
    width: int
    channels: int
    pixels: int
    columns: int
    lanes: int
    group: int
    warps: int
    choice: str

    @staticmethod
    def of(choice: str, x: Tensor, terms: int) -> "Tiles":
        """For pictures like `x` [B C H W] and so many stencils or lags, as `configs` cuts the kernels of this name."""
        B, C, H, W = x.shape
        lanes = min(32, triton.next_power_of_2(C)) if x.stride(1) == 1 and C >= 8 else 1
        tile = configs.choose_tile(choice, configs.Learned(C, lanes > 1, terms))
        pixels = tile.warps * 32 * tile.per_thread // lanes
        columns = min(pixels, tile.columns[lanes > 1])
        return Tiles(B, H, W, C, pixels, columns, lanes, min(tile.group, triton.cdiv(C, lanes)), tile.warps, choice)

    @property
    def count(self) -> int:
        """Tiles of a picture."""
        return triton.cdiv(self.height, self.pixels // self.columns) * triton.cdiv(self.width, self.columns)

    def launch(
        self,
        kernel: Any,
        maps: Mapping[str, Tensor | None],
        others: Mapping[str, Tensor | int],
        constants: Mapping[str, Any],
    ) -> Launch:
        """A program for each tile. `maps` [B|1 C H|1 W|1] are passed with their strides, 0 along axes of size 1."""
        steps = {}
        for name, x in maps.items():
            for i, axis in enumerate("bcyx"):
                steps[f"{name}_{axis}"] = 0 if x is None or x.shape[i] == 1 else x.stride(i)
        return Launch(
            kernel,
            self.batch * self.count,
            {**maps, **others, "H": self.height, "W": self.width, **steps},
            {"C": self.channels, "PIXELS": self.pixels, "COLUMNS": self.columns, "LANES": self.lanes, **constants},
            {"num_warps": self.warps, "num_stages": 1},
            self.choice,
        )


def unspecialized(*maps: str) -> list[str]:
    """The sizes and the strides of `maps`: compiled once for all values.

    Known strides of 1 would also make a thread own neighbouring pixels, for wide accesses to the few maps that are
    aligned; every shifted access would then touch four times as many cache lines.
    """
    return ["H", "W", *(f"{name}_{axis}" for name in maps for axis in "bcyx")]


@triton.jit
def place(H, W, PIXELS: tl.constexpr, COLUMNS: tl.constexpr):
    """Picture, first row and first column of this program's tile, which may end outside, and (v, u) of its pixels."""
    program = tl.program_id(0)
    wide, high = tl.cdiv(W, COLUMNS), tl.cdiv(H, PIXELS // COLUMNS)
    top, left = program // wide % high * (PIXELS // COLUMNS), program % wide * COLUMNS
    i = tl.arange(0, PIXELS)[:, None]
    return program // (wide * high), top, left, top + i // COLUMNS, left + i % COLUMNS


@triton.jit
def corner(map_, picture, top, left, step_b, step_y, step_x):
    """Pointer to the first channel of the first pixel of a tile. From there on, 32 bits hold every offset."""
    return map_ + picture.to(tl.int64) * step_b + top.to(tl.int64) * step_y + left.to(tl.int64) * step_x


@triton.jit
def offset(v, u, top, left, H, W, step_y, step_x):
    """From the corner of the tile to pixels (v, u), or to those nearest to them in the picture."""
    v = tl.minimum(tl.maximum(v, 0), H - 1)
    u = tl.minimum(tl.maximum(u, 0), W - 1)
    return (v - top) * step_y + (u - left) * step_x


@triton.jit
def inside(v, u, H, W):
    return (v >= 0) & (v < H) & (u >= 0) & (u < W)


@triton.jit
def read(at, used, MASKED: tl.constexpr):
    """Numbers as float32; 0 where not `used`."""
    value = tl.load(at, used, 0) if MASKED else tl.load(at)
    return value.to(tl.float32)


@triton.jit
def zeros(COUNT: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    """A tuple of COUNT tiles: for what is summed side by side."""
    out = ()
    for _ in tl.static_range(COUNT):
        out = out + (tl.zeros((ROWS, COLUMNS), tl.float32),)
    return out


def table(basis: Tensor, gains: Tensor | None, classes: int) -> tuple[Tensor, Launch]:
    """Weights [G, classes, k * k] of the stencils, or [B|1, classes, k * k] of their sum for gains [B|1 G 1 1].

    With 16 classes they are those of the transpose, see `fold`.
    """
    G, k, _ = basis.shape
    rows = G if gains is None else gains.shape[0]
    out = torch.empty(rows, classes, k * k, dtype=torch.float32, device=basis.device)
    steps = (0, 0) if gains is None else gains.stride()[:2]
    arguments = {"basis": basis, "gains": gains, "out": out, "gains_b": steps[0], "gains_c": steps[1]}
    constants = {"G": G, "K": k, "SIDE": triton.next_power_of_2(k), "CLASSES": classes, "SHARED": gains is not None}
    return out, Launch(fold, rows * classes, arguments, constants, {"num_warps": 1, "num_stages": 1})


@triton.jit
def fold(
    basis, gains, out, gains_b, gains_c,
    G: tl.constexpr, K: tl.constexpr, SIDE: tl.constexpr, CLASSES: tl.constexpr, SHARED: tl.constexpr,
):  # fmt: skip
    """Zero-sum weights of a stencil, as pixels of one class receive through them.

    One program owns one class of one stencil, or with SHARED of sum_g (gains_g - 1) stencil_g of one picture. A class
    is 4 v + h, both made of bits: 1 for the first line of the axis, 2 for the last. A replicated border gives what
    its pixels receive to the edge: for the first line, weight t is also what the weights before it are.
    """
    program = tl.program_id(0)
    number = program // CLASSES
    vertical, horizontal = program % CLASSES // 4, program % 4
    if CLASSES == 1:
        horizontal = 0
    i = tl.arange(0, SIDE)
    used = (i < K)[:, None] & (i < K)[None, :]
    at = i[:, None] * K + i[None, :]
    if SHARED:
        taps = tl.zeros((SIDE, SIDE), tl.float32)
        for g in range(G):
            gain = tl.load(gains + number * gains_b + g * gains_c).to(tl.float32)
            taps += (gain - 1) * tl.load(basis + g * (K * K) + at, used, 0.0)
    else:
        taps = tl.load(basis + number * (K * K) + at, used, 0.0)
    others = tl.where((i == K // 2)[:, None] & (i == K // 2)[None, :], 0.0, taps)
    total = tl.sum(tl.sum(others, 1), 0)
    taps = tl.where((i == K // 2)[:, None] & (i == K // 2)[None, :], -total, taps)
    if CLASSES > 1:
        to, source = i[:, None], i[None, :]
        up_down = (to == source) | ((vertical % 2 == 1) & (source < to)) | ((vertical // 2 == 1) & (source > to))
        left_right = (to == source) | ((horizontal % 2 == 1) & (source < to)) | ((horizontal // 2 == 1) & (source > to))
        taps = tl.sum(tl.where(up_down[:, :, None], taps[None, :, :], 0.0), 1)
        taps = tl.sum(tl.where(left_right[None, :, :], taps[:, None, :], 0.0), 2)
    tl.store(out + program * (K * K) + at, taps, used)

"""Launches of the sums that end the backward pass."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

import torch
from torch import Tensor

from sr_kernels.launch import Launch, Steps
from sr_kernels.window_attention.arguments import Problem
from sr_kernels.window_attention.fold import fold_distances, fold_groups, fold_keys, fold_table


@dataclass(frozen=True)
class Config:
    """A program sums `rows` by `columns` numbers at once with `warps` warps.

    Rows are pixels (fold_keys), groups of windows (fold_groups), else rows of the bias table; columns are channels,
    numbers, keys (fold_table) or query rows (fold_distances).
    """

    rows: int
    columns: int
    warps: int = 4

    @property
    def options(self) -> dict[str, int]:
        return {"num_warps": self.warps, "num_stages": 1}


def choose(kernel: str, channels: int) -> Config:
    """The configuration that a kernel is launched with, for maps of so many channels."""
    return static(kernel, channels)


def static(kernel: str, channels: int) -> Config:
    if kernel == "fold_keys":
        return Config(32, min(64, 1 << (channels - 1).bit_length()))
    return {"fold_distances": Config(8, 64), "fold_groups": Config(8, 128), "fold_table": Config(16, 64)}[kernel]


def shape_class(_kernel: str, _channels: int) -> tuple[int, ...]:
    """What `static` distinguishes: nothing but the width of few channels."""
    return ()


def candidates(kernel: str, channels: int) -> Iterator[Config]:
    """What a sweep tries."""
    for rows, columns, warps in product((4, 8, 16, 32, 64), (16, 32, 64, 128, 256), (2, 4, 8)):
        wasted = kernel == "fold_keys" and columns >= 2 * channels
        if 256 <= rows * columns <= 4096 and not wasted:
            yield Config(rows, columns, warps)


def keys(problem: Problem, parts: Tensor, maps: list[Tensor], which: int) -> Launch:
    """Gradients of keys (`which` 0) or values (1), given for each window apart, summed onto their map."""
    C = parts.shape[2]
    packed = len(maps) == 1
    out = maps[0] if packed else maps[1 + which]
    pixels = problem.k.shape[:3].numel()
    config = choose("fold_keys", C)
    (H, W), (NY, NX) = problem.q.shape[1:3], problem.counts
    start, stride = ((1 + which) * C, 3 * C) if packed else (0, C)
    arguments = {"parts": parts, "out": out, "start": start, "stride": stride}
    arguments |= {"H": H, "W": W, "NY": NY, "NX": NX, "pixels": pixels}
    constants = {"G": problem.geometry, "C": C, "NK": problem.tokens[1], "BP": config.rows, "BC": config.columns}
    programs = -(-pixels // config.rows) * -(-C // config.columns)
    return Launch(fold_keys, programs, arguments, constants, config.options, "fold_keys")


def bias(problem: Problem, like: Tensor, parts: Tensor) -> Steps[Tensor]:
    """Gradient of the bias, from logit gradients (groups, heads, Nq, Nk), or from sums by distance (6 dimensions).

    Returns it in the form and dtype of `like`.
    """
    out = torch.empty_like(like, memory_format=torch.contiguous_format)
    channels = problem.heads * problem.head_dim
    constants = {"G": problem.geometry, "HEADS": problem.heads}
    if parts.dim() == 6:
        config = choose("fold_distances", channels)
        size = {"ROWS": len(out), "KR": parts.shape[5] // 8, "BR": config.rows, "BT": config.columns}
        arguments = {"parts": parts, "out": out, "groups": len(parts)}
        programs = -(-len(out) // config.rows) * problem.heads
        yield Launch(fold_distances, programs, arguments, constants | size, config.options, "fold_distances")
        return out
    dense = parts.new_empty(parts.shape[1:]) if len(parts) > 1 else parts[0]
    if len(parts) > 1:
        config = choose("fold_groups", channels)
        arguments = {"parts": parts, "out": dense, "groups": len(parts), "size": dense.numel()}
        size = {"BG": config.rows, "BS": config.columns}
        programs = -(-dense.numel() // config.columns)
        yield Launch(fold_groups, programs, arguments, size, config.options, "fold_groups")
    if like.dim() == 3:
        return dense.to(like.dtype)
    Nq, Nk = problem.tokens
    config = choose("fold_table", channels)
    size = {"NQ": Nq, "NK": Nk, "ROWS": len(out), "BR": config.rows, "BK": config.columns}
    programs = -(-len(out) // config.rows) * problem.heads
    yield Launch(fold_table, programs, {"dense": dense, "out": out}, constants | size, config.options, "fold_table")
    return out

"""Attention in two branches, as DAT, RGT and CRAFT have it: half of the heads in windows (h, w), half in (w, h)."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from sr_engine.dropin.checks import expect, expect_heads
from sr_kernels import functional as K


def cuts(split: Sequence[int], shift: Sequence[int], **rest: Any) -> tuple[K.Windows, K.Windows]:
    """The windows of the first branch, and turned by 90 degrees those of the second; `rest` as for `K.Windows`."""
    (h, w), (dy, dx) = split, shift
    return K.Windows((h, w), (dy, dx), **rest), K.Windows((w, h), (dx, dy), **rest)


def expect_branches(dim: int, branches: Sequence[Any], split: Sequence[int], shift: Sequence[int]) -> None:
    """Two branches of the same heads, half of the layer's channels each, in windows that `cuts` can make."""
    expect(len(branches) == 2, f"it has {len(branches)} branches, not two")
    expect(len(split) == len(shift) == 2, f"its windows {split} or their shift {shift} are no pair")
    expect(all(0 <= d < s for d, s in zip(shift, split, strict=True)), f"its shift {shift} exceeds its windows {split}")
    for branch, size in zip(branches, (tuple(split), tuple(split[::-1])), strict=True):
        expect((branch.H_sp, branch.W_sp) == size, f"a branch has windows {(branch.H_sp, branch.W_sp)}, not {size}")
        expect(2 * branch.dim == dim, f"a branch has {branch.dim} of {dim} channels, not half")
        expect(branch.num_heads == branches[0].num_heads, "its branches differ in heads")
        expect_heads(branch.dim, branch.num_heads)


def attend(
    qkv: Tensor, branches: Sequence[Any], tables: Sequence[Tensor], windows: tuple[K.Windows, K.Windows]
) -> Tensor:
    """qkv (B,H,W,3C), a bias table for each branch -> (B,H,W,C), the channels of the first branch first."""
    heads = branches[0].num_heads
    q, k, v = (part.unflatten(-1, (2, heads, -1)).unbind(3) for part in qkv.chunk(3, -1))
    halves = [
        K.window_attention((q[i], k[i], v[i]), tables[i], heads=heads, windows=windows[i], scale=branches[i].scale)
        for i in range(2)
    ]
    return torch.cat(halves, -1)


class FreeTable(nn.Module):
    """Independent entries in place of the small network that computes a bias table from offsets.

    What that network makes is nearly constant over sectors of offsets, and quite constant where it has one channel
    (its norm then leaves nothing), so on test weights it would hide a wrong index.
    """

    def __init__(self, rows: int, heads: int, device: torch.device) -> None:
        super().__init__()
        self.relative_position_bias_table = nn.Parameter(1.5 * torch.randn(rows, heads, device=device))

    def forward(self, *_: Tensor) -> Tensor:
        return self.relative_position_bias_table


def free_tables(branches: Sequence[Any]) -> None:
    """Give every branch of a copy a table of independent entries."""
    for branch in branches:
        rows = (2 * branch.H_sp - 1) * (2 * branch.W_sp - 1)
        branch.pos = FreeTable(rows, branch.num_heads, next(branch.pos.parameters()).device)

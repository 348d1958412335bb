"""Tokens of a few windows at a time, for the fast PyTorch path: taken from maps into memory that is used again.

Memory that was never touched before costs more than what is written to it, and a copy that stays near the cores costs
little. So maps are never copied whole.
"""

from collections.abc import Iterator

import torch
from torch import Tensor

from sr_kernels.window_attention.plan import Plan, with_outside
from sr_kernels.window_attention.windows import Windows


class Tokens:
    """Rows of one map as attention takes them, up to `count` windows at a time; `take` overwrites what it returned.

    Args:
        source: (pixels, parts * heads * d), any distance between pixels.
        rows: (windows, N) rows of it.
        parts: how many of q, k and v lie side by side in a row.
        heads: heads of each.
        count: the most windows of one `take`.
        dtype: of the tokens returned.
        width: channels of a head returned, at least d; those beyond d are zero.
        heads_first: whether N x width numbers of one head lie together, or width numbers only.
    """

    def __init__(
        self,
        source: Tensor,
        rows: Tensor,
        parts: int,
        heads: int,
        count: int,
        dtype: torch.dtype,
        width: int,
        heads_first: bool,
    ) -> None:
        self.source, self.rows, self.parts, self.heads = source, rows, parts, heads
        self.head_dim = source.shape[1] // (parts * heads)
        self.taken = source.new_empty(count * rows.shape[1], source.shape[1])
        self.turned = None
        if heads_first:
            self.turned = source.new_zeros(parts, count, heads, rows.shape[1], width, dtype=dtype)
        elif width != self.head_dim or dtype != source.dtype:
            self.turned = source.new_zeros(count, rows.shape[1], parts, heads, width, dtype=dtype)
            self.turned = self.turned.permute(2, 0, 3, 1, 4)

    def take(self, pick: slice) -> tuple[Tensor, ...]:
        """Each part of some windows, (windows, heads, N, width)."""
        count = pick.stop - pick.start
        rows = self.rows[pick].view(-1)
        tokens = torch.index_select(self.source, 0, rows, out=self.taken.narrow(0, 0, len(rows)))
        tokens = tokens.view(count, -1, self.parts, self.heads, self.head_dim).permute(2, 0, 3, 1, 4)
        if self.turned is None:
            return tokens.unbind(0)
        turned = self.turned.narrow(1, 0, count)
        turned.narrow(4, 0, self.head_dim).copy_(tokens)
        return turned.unbind(0)


def qkv_tokens(
    qkv: list[Tensor],
    pad_token: Tensor | None,
    windows: Windows,
    plan: Plan,
    heads: int,
    count: int,
    dtype: torch.dtype,
    width: int,
    heads_first: bool,
) -> list[Tokens]:
    """What q, k and v are taken from: one map where a window is its own keys and they lie packed, else three."""
    how = (heads, count, dtype, width, heads_first)
    if len(qkv) == 1 and windows.keys_are_queries:
        return [Tokens(with_outside(qkv[0].flatten(0, 2), pad_token, plan), plan.queries, 3, *how)]
    maps = qkv[0].flatten(0, 2).chunk(3, 1) if len(qkv) == 1 else [t.flatten(3).flatten(0, 2) for t in qkv]
    outside = (None, None, None) if pad_token is None else pad_token.chunk(3)
    rows = (plan.queries, plan.keys, plan.keys)
    return [
        Tokens(with_outside(flat, token, plan), row, 1, *how)
        for flat, token, row in zip(maps, outside, rows, strict=True)
    ]


def chunks(start: int, stop: int, count: int) -> Iterator[slice]:
    """start..stop in slices of `count`."""
    return (slice(first, min(first + count, stop)) for first in range(start, stop, count))

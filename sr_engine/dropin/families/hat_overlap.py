"""HAT's overlapping cross-attention (Chen et al., arXiv 2205.04437, section 3.3)."""

from collections.abc import Hashable, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from sr_engine.dropin.checks import expect, expect_heads, expect_index, has, scale_logits, takes, tokens
from sr_engine.dropin.families.masks import network_of, two_by_three
from sr_engine.dropin.fused import Fused
from sr_engine.dropin.sites import Site
from sr_kernels import functional as K

CROSS_INDEX = "relative_position_index_OCA"


class OverlappingBlock(Fused):
    """OCAB: each window attends to a larger one around it; beyond the map keys and values are zero."""

    family = "HAT overlapping block"
    bypassed = ("unfold", "softmax")

    @classmethod
    def recognises(cls, module: Any) -> bool:
        return (
            has(module, qkv=nn.Module, proj=nn.Module, softmax=nn.Module, relative_position_bias_table=Tensor)
            and has(module, norm1=nn.Module, norm2=nn.Module, mlp=nn.Module, unfold=nn.Unfold)
            and has(module, dim=int, num_heads=int, scale=(int, float), window_size=int, overlap_win_size=int)
            and takes(module, "x", "x_size", "rpi")
        )

    @classmethod
    def check(cls, site: Site) -> None:
        block, network = site.module, network_of(site, CROSS_INDEX)
        expect_heads(block.dim, block.num_heads)
        window, keys = block.window_size, block.overlap_win_size
        expect((keys - window) % 2 == 0, f"its windows of {window} do not lie in the middle of those of {keys}")
        unfold = block.unfold
        cut = [_pair(n) for n in (unfold.kernel_size, unfold.stride, unfold.padding, unfold.dilation)]
        rule = [_pair(n) for n in (keys, window, (keys - window) // 2, 1)]
        expect(cut == rule, f"it cuts key windows by {unfold}")
        table = block.relative_position_bias_table
        expect_index(_windows(block), getattr(network, CROSS_INDEX), len(table), lambda rows: _in_order(rows, block))

    @classmethod
    def key(cls, site: Site) -> Hashable:
        block = site.module
        return block.window_size, block.overlap_win_size, block.dim, block.num_heads, block.scale

    @classmethod
    def trials(cls, site: Site) -> Sequence[tuple[Any, ...]]:
        size, index = two_by_three(site.module), getattr(network_of(site, CROSS_INDEX), CROSS_INDEX)
        return [(tokens(site.device, 1, *size, site.module.dim), size, index)]

    @classmethod
    def excite(cls, module: Any) -> None:
        scale_logits(module.qkv)

    def fused(self, x: Tensor, x_size: tuple[int, int], rpi: Tensor) -> Tensor:
        block = cast(Any, self)
        del rpi  # by rule: see check
        x = x.contiguous()  # rows of channels, as SwinIRBlock says
        out = K.window_attention(
            block.qkv(block.norm1(x).unflatten(1, x_size)),
            _in_order(block.relative_position_bias_table, block),
            heads=block.num_heads,
            windows=_windows(block),
            scale=block.scale,
        )
        x = block.proj(out.flatten(1, 2)) + x
        return x + block.mlp(block.norm2(x))


def _windows(block: Any) -> K.Windows:
    window, keys = block.window_size, block.overlap_win_size
    return K.Windows(window, keys=keys, key_offset=(window - keys) // 2, outside="zero")


def _in_order(table: Tensor, block: Any) -> Tensor:
    """The table (rows, heads) in the order of `Windows.relative_index`.

    With S = window + keys - 1, our row i = (qy - ky + keys - 1) * S + (qx - kx + keys - 1) holds the entry that OCAB
    looks up at (ky - qy + window - keys + 1) * S + (kx - qx + window - keys + 1) = window * (S + 1) - i: mostly
    negative, and wrapped by the indexing. So rows run backwards, from window * (S + 1) on.
    """
    window, keys = block.window_size, block.overlap_win_size
    return torch.roll(table.flip(0), window * (window + keys) + 1, 0)


def _pair(value: Any) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else tuple(value)

"""Uformer's block (Wang et al., arXiv 2106.03106) on tokens of a square map.

Its modulator, a vector for each place in a window, is added between norm and projection: here on the map as it lies,
rolled by the shift. Projections by convolutions inside windows are not served, and with an input mask the original
forward runs.
"""

from collections.abc import Hashable, Sequence
from math import isqrt
from typing import Any, cast

from torch import Tensor, nn

from sr_engine.dropin.checks import expect_heads, expect_index, has, scale_logits, takes, tokens
from sr_engine.dropin.fused import Fused
from sr_engine.dropin.sites import Site
from sr_kernels import functional as K


class UformerBlock(Fused):
    """Attention to learned vectors (optional), norm, modulated shifted windows, residual, norm, MLP, residual."""

    family = "Uformer block"
    bypassed = ("attn", "attn.qkv", "attn.softmax", "attn.attn_drop")
    dropouts = ("attn.attn_drop",)

    @classmethod
    def recognises(cls, module: Any) -> bool:
        return (
            has(module, attn__qkv__to_q=nn.Linear, attn__qkv__to_kv=nn.Linear, attn__proj=nn.Module)
            and has(module, attn__relative_position_bias_table=Tensor, attn__relative_position_index=Tensor)
            and has(module, attn__softmax=nn.Module, attn__attn_drop=nn.Module, attn__proj_drop=nn.Module)
            and has(module, attn__num_heads=int, attn__dim=int, attn__scale=float)
            and has(module, norm1=nn.Module, norm2=nn.Module, mlp=nn.Module, drop_path=nn.Module)
            and has(module, win_size=int, shift_size=int)
            and has(module, modulator=(nn.Embedding, type(None)), cross_modulator=(nn.Embedding, type(None)))
            and takes(module, "x", "mask")
        )

    @classmethod
    def check(cls, site: Site) -> None:
        attn = site.module.attn
        expect_heads(attn.dim, attn.num_heads)
        expect_index(
            K.Windows(site.module.win_size), attn.relative_position_index, len(attn.relative_position_bias_table)
        )

    @classmethod
    def key(cls, site: Site) -> Hashable:
        block, attn = site.module, site.module.attn
        modulated = block.modulator is not None, block.cross_modulator is not None
        return block.win_size, block.shift_size, attn.dim, attn.num_heads, attn.scale, modulated

    @classmethod
    def trials(cls, site: Site) -> Sequence[tuple[Any, ...]]:
        size = 3 * site.module.win_size
        return [(tokens(site.device, 1, size, size, site.module.attn.dim),)]

    @classmethod
    def excite(cls, module: Any) -> None:
        scale_logits(module.attn.qkv.to_q, module.attn.qkv.to_kv)
        if module.modulator is not None:
            module.modulator.weight.normal_()

    def fused(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        block = cast(Any, self)
        if mask is not None:
            return super(Fused, self).forward(x, mask)  # type: ignore[misc]
        attn, side = block.attn, isqrt(x.shape[1])
        if block.cross_modulator is not None:
            x = x + block.cross_attn(x, block.cross_modulator.weight)
        y = _modulated(block, block.norm1(x).unflatten(1, (side, side)))
        k, v = attn.qkv.to_kv(y).unflatten(3, (2, attn.num_heads, -1)).unbind(3)
        out = K.window_attention(
            (attn.qkv.to_q(y).unflatten(3, (attn.num_heads, -1)), k, v),
            attn.relative_position_bias_table,
            heads=attn.num_heads,
            windows=K.Windows(block.win_size, block.shift_size),
            scale=attn.scale,
        )
        x = x + block.drop_path(attn.proj_drop(attn.proj(out.flatten(1, 2))))
        return x + block.drop_path(block.mlp(block.norm2(x)))


def _modulated(block: Any, y: Tensor) -> Tensor:
    """The map (B, H, W, C) and the modulator in every window of the rolled map."""
    if block.modulator is None:
        return y
    size, shift = block.win_size, block.shift_size
    tile = block.modulator.weight.unflatten(0, (size, size)).roll((shift, shift), (0, 1))
    return (y.unflatten(2, (-1, size)).unflatten(1, (-1, size)) + tile[:, None]).flatten(3, 4).flatten(1, 2)

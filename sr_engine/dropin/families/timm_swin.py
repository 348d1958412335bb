"""The Swin blocks of timm on maps (B, H, W, C): roll first, then pad, both before the projection to q, k and v.

The padding carries the projection's bias. A block made for one input size holds a mask of that size; since timm 1.0
it may build its mask for each input instead (`dynamic_mask`).
"""

from collections.abc import Hashable, Sequence
from typing import Any, cast

import torch.nn.functional as F
from torch import Tensor, nn

from sr_engine.dropin.checks import expect, expect_heads, expect_index, expect_mask, has, scale_logits, takes, tokens
from sr_engine.dropin.families.cosine import bias_table, excite_cosine, logit_scale, qkv_bias
from sr_engine.dropin.fused import Fused
from sr_engine.dropin.sites import Site
from sr_kernels import functional as K


class TimmSwinBlock(Fused):
    """norm, shifted windows, residual, norm, MLP, residual."""

    family = "timm Swin block"
    bypassed = ("attn", "attn.softmax", "attn.attn_drop")
    dropouts = ("attn.attn_drop",)

    @classmethod
    def recognises(cls, module: Any) -> bool:
        return (
            has(module, window_size=tuple, shift_size=tuple, drop_path1=nn.Module, drop_path2=nn.Module)
            and has(module, norm1=nn.Module, norm2=nn.Module, mlp=nn.Module)
            and has(module, attn__qkv=nn.Module, attn__relative_position_index=Tensor, attn__num_heads=int)
            and has(module, attn__softmax=nn.Module, attn__attn_drop=nn.Module, attn__proj_drop=nn.Module)
            and has(module, attn__proj__in_features=int, attn__proj__out_features=int)
            and takes(module, "x")
            and cls._has_bias(module.attn)
        )

    @classmethod
    def _has_bias(cls, attn: Any) -> bool:
        return has(attn, relative_position_bias_table=Tensor, scale=float) and not hasattr(attn, "logit_scale")

    @classmethod
    def check(cls, site: Site) -> None:
        block, attn = site.module, site.module.attn
        expect_heads(attn.proj.in_features, attn.num_heads)
        expect_index(K.Windows(block.window_size), attn.relative_position_index, cls._rows(attn))
        if cls._has_mask(block):
            expect(isinstance(getattr(block, "attn_mask", None), Tensor), "it is shifted and holds no mask")
            expect_mask(K.Windows(block.window_size, block.shift_size), block.attn_mask, *block.input_resolution)

    @classmethod
    def _rows(cls, attn: Any) -> int:
        return len(attn.relative_position_bias_table)

    @classmethod
    def key(cls, site: Site) -> Hashable:
        block = site.module
        size = tuple(block.input_resolution) if cls._has_mask(block) else None
        heads = block.attn.num_heads, block.attn.proj.in_features, getattr(block.attn, "scale", None)
        return block.window_size, block.shift_size, block.attn.proj.out_features, heads, size

    @classmethod
    def trials(cls, site: Site) -> Sequence[tuple[Any, ...]]:
        block = site.module
        rows, columns = block.window_size
        sizes = [(2 * rows, 3 * columns), (2 * rows - 1, 2 * columns + 1)]
        if cls._has_mask(block):
            sizes = [block.input_resolution]  # it accepts no other
        dim = block.attn.proj.out_features
        return [(tokens(site.device, 1, h, w, dim).unflatten(1, (h, w)),) for h, w in sizes]

    @staticmethod
    def _has_mask(block: Any) -> bool:
        return any(block.shift_size) and not getattr(block, "dynamic_mask", False)

    @classmethod
    def excite(cls, module: Any) -> None:
        scale_logits(module.attn.qkv)

    def fused(self, x: Tensor) -> Tensor:
        block = cast(Any, self)
        attn = block.attn
        out = K.window_attention(
            attn.qkv(block.norm1(x)),
            attn.relative_position_bias_table,
            heads=attn.num_heads,
            windows=_windows(block, attn.qkv.bias),
            scale=attn.scale,
            pad_token=attn.qkv.bias,
        )
        x = x + block.drop_path1(attn.proj_drop(attn.proj(out)))
        size, x = x.shape[1:3], x.flatten(1, 2)
        return (x + block.drop_path2(block.mlp(block.norm2(x)))).unflatten(1, size)


class TimmSwinV2Block(TimmSwinBlock):
    """Shifted windows of cosine attention, norm, residual, MLP, norm, residual."""

    family = "timm Swin V2 block"

    @classmethod
    def _has_bias(cls, attn: Any) -> bool:
        return has(attn, logit_scale=Tensor, cpb_mlp=nn.Sequential, relative_coords_table=Tensor) and hasattr(
            attn, "q_bias"
        )

    @classmethod
    def _rows(cls, attn: Any) -> int:
        return attn.relative_coords_table.shape[:-1].numel()

    @classmethod
    def excite(cls, module: Any) -> None:
        excite_cosine(module.attn)

    def fused(self, x: Tensor) -> Tensor:
        block = cast(Any, self)
        attn = block.attn
        bias = qkv_bias(attn)
        if getattr(attn, "qkv_bias_separate", False) and bias is not None:
            qkv = attn.qkv(x) + bias
        else:
            qkv = attn.qkv(x) if bias is None else F.linear(x, attn.qkv.weight, bias)
        out = K.window_attention(
            qkv,
            bias_table(attn),
            heads=attn.num_heads,
            windows=_windows(block, bias),
            logit_scale=logit_scale(attn),
            pad_token=bias,
        )
        x = x + block.drop_path1(block.norm1(attn.proj_drop(attn.proj(out))))
        size, x = x.shape[1:3], x.flatten(1, 2)
        return (x + block.drop_path2(block.norm2(block.mlp(x)))).unflatten(1, size)


def _windows(block: Any, bias: Tensor | None) -> K.Windows:
    """Pixels outside the map are zero before the projection."""
    outside = "zero" if bias is None else "token"
    return K.Windows(block.window_size, block.shift_size, outside=outside, order="roll_pad")

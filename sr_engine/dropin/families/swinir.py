"""SwinIR's block (Liang et al., arXiv 2108.10257), which DRCT and many networks after it use as it is."""

from collections.abc import Hashable, Sequence
from typing import Any, cast

from torch import Tensor, nn

from sr_engine.dropin.checks import expect_heads, expect_index, has, scale_logits, takes, tokens
from sr_engine.dropin.families.masks import expect_own_masks
from sr_engine.dropin.fused import Fused
from sr_engine.dropin.sites import Site
from sr_kernels import functional as K


class SwinIRBlock(Fused):
    """norm, shifted windows, residual, norm, MLP, residual on tokens (B, H * W, C)."""

    family = "SwinIR block"
    bypassed = ("attn", "attn.softmax", "attn.attn_drop")
    dropouts = ("attn.attn_drop",)

    @classmethod
    def recognises(cls, module: Any) -> bool:
        return (
            has(module, attn__qkv=nn.Module, attn__proj=nn.Module, attn__relative_position_bias_table=Tensor)
            and has(module, norm1=nn.Module, norm2=nn.Module, mlp=nn.Module, drop_path=nn.Module)
            and has(module, window_size=int, shift_size=int, attn__relative_position_index=Tensor)
            and takes(module, "x", "x_size")
            and not hasattr(module.attn, "logit_scale")
        )

    @classmethod
    def check(cls, site: Site) -> None:
        block, attn = site.module, site.module.attn
        windows = K.Windows(block.window_size, block.shift_size)
        expect_heads(attn.dim, attn.num_heads)
        expect_index(windows, attn.relative_position_index, len(attn.relative_position_bias_table))
        expect_own_masks(block, windows, windows)

    @classmethod
    def key(cls, site: Site) -> Hashable:
        block = site.module
        return block.window_size, block.shift_size, block.attn.dim, block.attn.num_heads, block.attn.scale

    @classmethod
    def trials(cls, site: Site) -> Sequence[tuple[Any, ...]]:
        height, width = 2 * site.module.window_size, 3 * site.module.window_size
        return [(tokens(site.device, 1, height, width, site.module.attn.dim), (height, width))]

    @classmethod
    def excite(cls, module: Any) -> None:
        scale_logits(module.attn.qkv)

    def fused(self, x: Tensor, x_size: tuple[int, int]) -> Tensor:
        block = cast(Any, self)
        attn = block.attn
        # Tokens made from the result of a convolution have their channels apart: each norm would copy them into rows,
        # and sums keep the order, so that all blocks up to the next convolution would.
        x = x.contiguous()
        out = K.window_attention(
            attn.qkv(block.norm1(x)).unflatten(1, x_size),
            attn.relative_position_bias_table,
            heads=attn.num_heads,
            windows=K.Windows(block.window_size, block.shift_size),
            scale=attn.scale,
        )
        x = x + block.drop_path(attn.proj_drop(attn.proj(out.flatten(1, 2))))
        return x + block.drop_path(block.mlp(block.norm2(x)))

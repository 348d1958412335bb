"""Swin2SR's block (Conde et al., arXiv 2209.11345): SwinIR's with the cosine attention of Swin V2, norms after it."""

from collections.abc import Hashable
from typing import Any, cast

import torch.nn.functional as F
from torch import Tensor, nn

from sr_engine.dropin.checks import expect_heads, expect_index, has, takes
from sr_engine.dropin.families.cosine import bias_table, excite_cosine, logit_scale, qkv_bias
from sr_engine.dropin.families.masks import expect_own_masks
from sr_engine.dropin.families.swinir import SwinIRBlock
from sr_engine.dropin.sites import Site
from sr_kernels import functional as K


class Swin2SRBlock(SwinIRBlock):
    """Shifted windows, norm, residual, MLP, norm, residual on tokens (B, H * W, C)."""

    family = "Swin2SR block"

    @classmethod
    def recognises(cls, module: Any) -> bool:
        return (
            has(module, attn__qkv=nn.Linear, attn__proj=nn.Module, attn__proj_drop=nn.Module)
            and has(module, attn__logit_scale=Tensor, attn__cpb_mlp=nn.Sequential, attn__relative_coords_table=Tensor)
            and has(module, attn__relative_position_index=Tensor, attn__attn_drop=nn.Module, attn__softmax=nn.Module)
            and has(module, norm1=nn.Module, norm2=nn.Module, mlp=nn.Module, drop_path=nn.Module)
            and has(module, window_size=int, shift_size=int, input_resolution=(tuple, list))
            and hasattr(module.attn, "q_bias")
            and callable(getattr(module, "calculate_mask", None))
            and takes(module, "x", "x_size")
        )

    @classmethod
    def check(cls, site: Site) -> None:
        block, attn = site.module, site.module.attn
        windows = K.Windows(block.window_size, block.shift_size)
        expect_heads(attn.dim, attn.num_heads)
        expect_index(windows, attn.relative_position_index, attn.relative_coords_table.shape[:-1].numel())
        expect_own_masks(block, windows, windows)

    @classmethod
    def key(cls, site: Site) -> Hashable:
        block = site.module
        return block.window_size, block.shift_size, block.attn.dim, block.attn.num_heads, block.attn.q_bias is None

    @classmethod
    def excite(cls, module: Any) -> None:
        excite_cosine(module.attn)

    def fused(self, x: Tensor, x_size: tuple[int, int]) -> Tensor:
        block = cast(Any, self)
        attn = block.attn
        x = x.contiguous()  # rows of channels, as SwinIRBlock says
        out = K.window_attention(
            F.linear(x.unflatten(1, x_size), attn.qkv.weight, qkv_bias(attn)),
            bias_table(attn),
            heads=attn.num_heads,
            windows=K.Windows(block.window_size, block.shift_size),
            logit_scale=logit_scale(attn),
        )
        x = x + block.drop_path(block.norm1(attn.proj_drop(attn.proj(out.flatten(1, 2)))))
        return x + block.drop_path(block.norm2(block.mlp(x)))

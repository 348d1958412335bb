"""HAT's hybrid block and the mask the network builds for it (Chen et al., arXiv 2205.04437)."""

from collections.abc import Hashable, Sequence
from typing import Any, cast

from torch import Tensor, nn

from sr_engine.dropin.checks import has, scale_logits, seam_mask, takes, tokens
from sr_engine.dropin.families.hat_overlap import CROSS_INDEX
from sr_engine.dropin.families.masks import (
    NetworkMasks,
    expect_shared_rule,
    left_out,
    network_mask,
    network_of,
    two_by_three,
)
from sr_engine.dropin.fused import Fused
from sr_engine.dropin.sites import Site
from sr_kernels import functional as K

SELF_INDEX = "relative_position_index_SA"


class HybridBlock(Fused):
    """HAB: shifted windows beside convolutions with a gate over channels, residual, MLP, residual."""

    family = "HAT block"
    bypassed = ("attn", "attn.softmax", "attn.attn_drop")
    dropouts = ("attn.attn_drop",)

    @classmethod
    def recognises(cls, module: Any) -> bool:
        return (
            has(module, attn__qkv=nn.Module, attn__proj=nn.Module, attn__relative_position_bias_table=Tensor)
            and has(module, attn__attn_drop=nn.Module, attn__proj_drop=nn.Module, attn__softmax=nn.Module)
            and has(module, norm1=nn.Module, norm2=nn.Module, mlp=nn.Module, drop_path=nn.Module)
            and has(module, conv_block=nn.Module, conv_scale=(int, float), window_size=int, shift_size=int)
            and takes(module, "x", "x_size", "rpi_sa", "attn_mask")
        )

    @classmethod
    def check(cls, site: Site) -> None:
        expect_shared_rule(site, SELF_INDEX, site.module.attn)

    @classmethod
    def key(cls, site: Site) -> Hashable:
        block = site.module
        attn = block.attn
        return block.window_size, block.shift_size, block.conv_scale, attn.dim, attn.num_heads, attn.scale

    @classmethod
    def trials(cls, site: Site) -> Sequence[tuple[Any, ...]]:
        size, network = two_by_three(site.module), network_of(site, SELF_INDEX)
        x = tokens(site.device, 1, *size, site.module.attn.dim)
        return [(x, size, getattr(network, SELF_INDEX), network_mask(network, size, site.device))]

    @classmethod
    def excite(cls, module: Any) -> None:
        scale_logits(module.attn.qkv)

    def original_arguments(
        self, x: Tensor, x_size: tuple[int, int], rpi_sa: Tensor, attn_mask: Tensor | None
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        block = cast(Any, self)
        if left_out(attn_mask) and block.shift_size:
            attn_mask = seam_mask(K.Windows(block.window_size, block.shift_size), *x_size).to(x)
        return (x, x_size, rpi_sa, attn_mask), {}

    def fused(self, x: Tensor, x_size: tuple[int, int], rpi_sa: Tensor, attn_mask: Tensor | None) -> Tensor:
        block = cast(Any, self)
        del rpi_sa  # by rule: see check
        x = x.contiguous()  # rows of channels, as SwinIRBlock says
        attn, penalty = block.attn, 0.0 if attn_mask is None else -100.0
        y = block.norm1(x).unflatten(1, x_size)
        local = block.conv_block(y.permute(0, 3, 1, 2)).permute(0, 2, 3, 1).flatten(1, 2)
        out = K.window_attention(
            attn.qkv(y),
            attn.relative_position_bias_table,
            heads=attn.num_heads,
            windows=K.Windows(block.window_size, block.shift_size, penalty=penalty),
            scale=attn.scale,
        )
        attended = attn.proj_drop(attn.proj(out.flatten(1, 2)))
        x = x + block.drop_path(attended) + local * block.conv_scale
        return x + block.drop_path(block.mlp(block.norm2(x)))


class HATMasks(NetworkMasks):
    """The network, which builds a mask for its shifted blocks."""

    family = "HAT masks"
    consumers = (HybridBlock,)
    indices = (SELF_INDEX, CROSS_INDEX)

"""HAT's two blocks and the mask it builds for them (Chen et al., arXiv 2205.04437)."""

from collections.abc import Hashable, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from sr_engine.dropin.checks import (
    expect,
    expect_heads,
    expect_index,
    expect_mask,
    has,
    scale_logits,
    seam_mask,
    takes,
    tokens,
)
from sr_engine.dropin.families.masks import NetworkMasks, left_out, network_mask, two_by_three
from sr_engine.dropin.fused import Fused
from sr_engine.dropin.sites import Site
from sr_kernels import functional as K

SELF_INDEX, CROSS_INDEX = "relative_position_index_SA", "relative_position_index_OCA"


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
        block, size = site.module, two_by_three(site.module)
        network = _network(site, SELF_INDEX)
        expect_heads(block.attn.dim, block.attn.num_heads)
        windows = K.Windows(block.window_size, block.shift_size)
        expect_index(windows, getattr(network, SELF_INDEX), len(block.attn.relative_position_bias_table))
        if block.shift_size:
            expect_mask(windows, network_mask(network, size, site.device), *size)

    @classmethod
    def key(cls, site: Site) -> Hashable:
        block = site.module
        attn = block.attn
        return block.window_size, block.shift_size, block.conv_scale, attn.dim, attn.num_heads, attn.scale

    @classmethod
    def trials(cls, site: Site) -> Sequence[tuple[Any, ...]]:
        size, network = two_by_three(site.module), _network(site, SELF_INDEX)
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


class OverlappingBlock(Fused):
    """OCAB: each window attends to a larger one around it; beyond the map keys and values are zero."""

    family = "HAT overlapping block"
    bypassed = ("unfold", "softmax")

    @classmethod
    def recognises(cls, module: Any) -> bool:
        return (
            has(module, qkv=nn.Module, proj=nn.Module, softmax=nn.Module, relative_position_bias_table=Tensor)
            and has(module, norm1=nn.Module, norm2=nn.Module, mlp=nn.Module, unfold=nn.Unfold)
            and has(module, dim=int, num_heads=int, scale=float, window_size=int, overlap_win_size=int)
            and takes(module, "x", "x_size", "rpi")
        )

    @classmethod
    def check(cls, site: Site) -> None:
        block, network = site.module, _network(site, CROSS_INDEX)
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
        size, index = two_by_three(site.module), getattr(_network(site, CROSS_INDEX), CROSS_INDEX)
        return [(tokens(site.device, 1, *size, site.module.dim), size, index)]

    @classmethod
    def excite(cls, module: Any) -> None:
        scale_logits(module.qkv)

    def fused(self, x: Tensor, x_size: tuple[int, int], rpi: Tensor) -> Tensor:
        block = cast(Any, self)
        del rpi  # by rule: see check
        out = K.window_attention(
            block.qkv(block.norm1(x).unflatten(1, x_size)),
            _in_order(block.relative_position_bias_table, block),
            heads=block.num_heads,
            windows=_windows(block),
            scale=block.scale,
        )
        x = block.proj(out.flatten(1, 2)) + x
        return x + block.mlp(block.norm2(x))


class HATMasks(NetworkMasks):
    """The network, which builds a mask for its shifted blocks."""

    family = "HAT masks"
    consumers = (HybridBlock,)
    indices = (SELF_INDEX, CROSS_INDEX)


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


def _network(site: Site, index: str) -> Any:
    network = site.owner(index)
    expect(callable(getattr(network, "calculate_mask", None)), f"no network around it has {index} and calculate_mask")
    return network


def _pair(value: Any) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else tuple(value)

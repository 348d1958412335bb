"""Restormer's transposed attention (Zamir et al., arXiv 2111.09881), which KBNet and M3SNet use as it is, and its form
with queries from another map (HVI-CIDNet, CRAFT)."""

from collections.abc import Hashable, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from sr_engine.dropin.checks import has, takes
from sr_engine.dropin.families.channels import TRIAL_SIZES, expect_channels, sharpen_cosines
from sr_engine.dropin.fused import Fused
from sr_engine.dropin.sites import Site
from sr_kernels import functional as K


class Transposed(Fused):
    """What the layers with attention between the channels of maps (B,C,H,W) share."""

    @classmethod
    def check(cls, site: Site) -> None:
        layer = site.module
        expect_channels(layer.project_out.in_channels, layer.num_heads, layer.temperature)

    @classmethod
    def key(cls, site: Site) -> Hashable:
        return site.module.project_out.in_channels, site.module.num_heads

    @classmethod
    def trials(cls, site: Site) -> Sequence[tuple[Any, ...]]:
        generator = torch.Generator().manual_seed(0)
        shapes = [(1, site.module.project_out.in_channels, *size) for size in TRIAL_SIZES]
        return [(torch.randn(shape, generator=generator).to(site.device),) for shape in shapes]

    @classmethod
    def excite(cls, module: Any) -> None:
        sharpen_cosines(module.temperature)


class TransposedAttention(Transposed):
    """MDTA: queries, keys and values from one map."""

    family = "transposed attention"

    @classmethod
    def recognises(cls, module: Any) -> bool:
        return (
            has(module, qkv=nn.Module, qkv_dwconv=nn.Module, project_out__in_channels=int)
            and has(module, temperature=Tensor, num_heads=int)
            and takes(module, "x")
        )

    def fused(self, x: Tensor) -> Tensor:
        layer = cast(Any, self)
        qkv = layer.qkv_dwconv(layer.qkv(x))
        out = K.channel_attention(qkv, heads=layer.num_heads, temperature=layer.temperature, layout="nchw")
        return layer.project_out(out)


class CrossTransposed(Transposed):
    """Queries from one map, keys and values from another of the same shape."""

    @classmethod
    def recognises(cls, module: Any) -> bool:
        parts = {"q": nn.Module, "q_dwconv": nn.Module, "kv": nn.Module, "kv_dwconv": nn.Module}
        return has(module, **parts, project_out__in_channels=int, temperature=Tensor, num_heads=int)

    @classmethod
    def trials(cls, site: Site) -> Sequence[tuple[Any, ...]]:
        return [(x, x.flip(3) + 0.5 * x.roll(1, 1)) for (x,) in super().trials(site)]


class CIDNetCross(CrossTransposed):
    """HVI-CIDNet's CAB (Yan et al., arXiv 2402.05809): queries from x, keys and values from y."""

    family = "CIDNet cross attention"

    @classmethod
    def recognises(cls, module: Any) -> bool:
        return super().recognises(module) and takes(module, "x", "y")

    def fused(self, x: Tensor, y: Tensor) -> Tensor:
        return cross(cast(Any, self), x, y)


def cross(layer: Any, queries: Tensor, keys: Tensor) -> Tensor:
    """Transposed attention of a map (B,C,H,W) to another of the same shape -> (B,C,H,W)."""
    q = layer.q_dwconv(layer.q(queries))
    k, v = layer.kv_dwconv(layer.kv(keys)).chunk(2, 1)
    heads = layer.num_heads
    qkv = (q.unflatten(1, (heads, -1)), k.unflatten(1, (heads, -1)), v.unflatten(1, (heads, -1)))
    return layer.project_out(K.channel_attention(qkv, heads=heads, temperature=layer.temperature, layout="nchw"))

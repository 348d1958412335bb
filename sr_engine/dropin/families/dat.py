"""The spatial attention of DAT (Chen et al., arXiv 2308.03364), beside a depthwise convolution of its values."""

from collections.abc import Hashable, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from sr_engine.dropin.checks import expect, expect_index, expect_mask, has, scale_logits, takes, tokens
from sr_engine.dropin.families.rectangles import attend, cuts, expect_branches, free_tables
from sr_engine.dropin.fused import Fused
from sr_engine.dropin.sites import Site
from sr_kernels import functional as K


class RectangleLayer(Fused):
    """What the spatial layers of DAT and RGT share: two branches, zeros where the map is padded, tables from offsets.

    A layer shifts its windows if it stores masks; they are compared with the kernel's rule and not read afterwards.
    """

    bypassed = ("attns.0", "attns.1", "attns.0.attn_drop", "attns.1.attn_drop")
    dropouts = ("attns.0.attn_drop", "attns.1.attn_drop")

    @classmethod
    def recognises(cls, module: Any) -> bool:
        return (
            has(module, qkv=nn.Module, proj=nn.Module, proj_drop=nn.Module, dim=int)
            and has(module, split_size=(list, tuple), shift_size=(list, tuple), patches_resolution=int)
            and has(module, attns=nn.ModuleList)
            and all(_is_branch(branch) for branch in module.attns)
            and all(hasattr(module, mask) for mask in ("attn_mask_0", "attn_mask_1"))
            and takes(module, "x", "H", "W")
        )

    @classmethod
    def check(cls, site: Site) -> None:
        layer = site.module
        expect_branches(layer.dim, layer.attns, layer.split_size, layer.shift_size)
        windows = layer_cuts(layer)
        for branch, cut, mask in zip(layer.attns, windows, (layer.attn_mask_0, layer.attn_mask_1), strict=True):
            expect_index(cut, branch.relative_position_index, len(branch.rpe_biases))
            if any(cut.shift):
                expect(mask is not None, "it has a mask for one branch only")
                expect_mask(cut, mask, layer.patches_resolution, layer.patches_resolution)

    @classmethod
    def key(cls, site: Site) -> Hashable:
        layer = site.module
        branches = tuple((branch.num_heads, branch.scale) for branch in layer.attns)
        return layer.dim, layer_cuts(layer), branches

    @classmethod
    def trials(cls, site: Site) -> Sequence[tuple[Any, ...]]:
        longer = max(site.module.split_size)
        sizes = [(2 * longer, 3 * longer), (longer + 3, longer - 1)]
        return [(tokens(site.device, 1, *size, site.module.dim), *size) for size in sizes]

    @classmethod
    def excite(cls, module: Any) -> None:
        scale_logits(module.qkv)
        free_tables(module.attns)


class DATSpatial(RectangleLayer):
    """Adaptive_Spatial_Attention on tokens (B, H * W, C)."""

    family = "DAT spatial attention"

    @classmethod
    def recognises(cls, module: Any) -> bool:
        return super().recognises(module) and has(
            module, dwconv=nn.Module, channel_interaction=nn.Module, spatial_interaction=nn.Module
        )

    def fused(self, x: Tensor, H: int, W: int) -> Tensor:
        layer = cast(Any, self)
        qkv = layer.qkv(x).unflatten(1, (H, W))
        attended = attend_layer(layer, qkv).permute(0, 3, 1, 2)
        local = layer.dwconv(values(qkv))
        attended_gate = layer.channel_interaction(local).sigmoid()
        local_gate = layer.spatial_interaction(attended).sigmoid()
        return interact(layer, attended, attended_gate, local, local_gate)


def layer_cuts(layer: Any) -> tuple[K.Windows, K.Windows]:
    """The windows of both branches of a spatial layer."""
    shift = (0, 0) if layer.attn_mask_0 is None else layer.shift_size
    return cuts(layer.split_size, shift, outside="zero", order="pad_roll", multiple=max(layer.split_size))


def attend_layer(layer: Any, qkv: Tensor) -> Tensor:
    """qkv (B,H,W,3C) -> (B,H,W,C) by both branches of a spatial layer."""
    tables = [branch.pos(branch.rpe_biases) for branch in layer.attns]
    return attend(qkv, layer.attns, tables, layer_cuts(layer))


def values(qkv: Tensor) -> Tensor:
    """The values (B,C,H,W) of qkv (B,H,W,3C), for a convolution."""
    return qkv.chunk(3, -1)[2].permute(0, 3, 1, 2)


def interact(layer: Any, attended: Tensor, attended_gate: Tensor, local: Tensor, local_gate: Tensor) -> Tensor:
    """The gated sum of two maps (B,C,H,W), projected: tokens (B, H * W, C)."""
    mixed = torch.addcmul(attended * attended_gate, local, local_gate)
    return layer.proj_drop(layer.proj(mixed.permute(0, 2, 3, 1).flatten(1, 2)))


def _is_branch(module: Any) -> bool:
    return has(
        module,
        pos=nn.Module,
        rpe_biases=Tensor,
        relative_position_index=Tensor,
        attn_drop=nn.Module,
        scale=float,
        dim=int,
        num_heads=int,
        H_sp=int,
        W_sp=int,
    )

"""OmniSR's block (Wang et al., arXiv 2304.10244): attention among adjacent pixels, then among pixels of a grid.

Both sit between modules that cut the map (B, C, H, W) and put it together, so the block is swapped as a whole and
its other modules are called as they are, channel attention among them: that attends in every window by itself.
"""

from collections.abc import Hashable, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from sr_engine.dropin.checks import expect_heads, expect_index, has, scale_logits, takes
from sr_engine.dropin.fused import Fused
from sr_engine.dropin.sites import Site
from sr_kernels import functional as K

ATTENTION = ("layer.2", "layer.8")


class OmniSRBlock(Fused):
    """Convolutions, windows, MLP, channels, MLP, grid, MLP, channels, MLP; all after the first with norm, residual."""

    family = "OmniSR block"
    bypassed = (
        *("layer", "layer.1", "layer.2", "layer.2.fn", "layer.2.fn.attend"),
        *("layer.3", "layer.7", "layer.8", "layer.8.fn", "layer.8.fn.attend", "layer.9"),
    )
    dropouts = ("layer.2.fn.attend.1", "layer.8.fn.attend.1")

    @classmethod
    def recognises(cls, module: Any) -> bool:
        return (
            has(module, layer=nn.Sequential, layer__5__fn__ps=int)
            and len(module.layer) == 13
            and has(module, layer__2__fn__attend__1=nn.Module, layer__8__fn__attend__1=nn.Module)
            and takes(module, "x")
            and all(_is_attention(module.get_submodule(place)) for place in ATTENTION)
        )

    @classmethod
    def check(cls, site: Site) -> None:
        for place in ATTENTION:
            attn = site.module.get_submodule(place).fn
            expect_heads(attn.to_qkv.in_features, attn.heads)
            if attn.with_pe:
                windows = K.Windows(site.module.layer[5].fn.ps)
                expect_index(windows, attn.rel_pos_indices, attn.rel_pos_bias.num_embeddings)

    @classmethod
    def key(cls, site: Site) -> Hashable:
        attn = [site.module.get_submodule(place).fn for place in ATTENTION]
        return site.module.layer[5].fn.ps, *((a.to_qkv.in_features, a.heads, a.scale, a.with_pe) for a in attn)

    @classmethod
    def trials(cls, site: Site) -> Sequence[tuple[Any, ...]]:
        window, channels = site.module.layer[5].fn.ps, site.module.layer[2].fn.to_qkv.in_features
        generator = torch.Generator().manual_seed(0)
        return [(torch.randn(1, channels, 2 * window, 3 * window, generator=generator).to(site.device),)]

    @classmethod
    def excite(cls, module: Any) -> None:
        for place in ATTENTION:
            attn = module.get_submodule(place).fn
            scale_logits(attn.to_qkv)
            if attn.with_pe:
                attn.rel_pos_bias.weight.normal_(0, 1.5)

    def fused(self, x: Tensor) -> Tensor:
        block = cast(Any, self)
        size = block.layer[5].fn.ps
        x = _attend(block.layer[2], block.layer[0](x), K.Windows(size))
        for i in (4, 5, 6):
            x = block.layer[i](x)
        x = _attend(block.layer[8], x, K.Windows(size, layout="grid"))
        for i in (10, 11, 12):
            x = block.layer[i](x)
        return x


def _is_attention(residual: Any) -> bool:
    return has(
        residual,
        norm=nn.Module,
        fn__to_qkv=nn.Linear,
        fn__to_out=nn.Module,
        fn__attend=nn.Sequential,
        fn__heads=int,
        fn__scale=float,
        fn__with_pe=bool,
    )


def _attend(residual: Any, x: Tensor, windows: K.Windows) -> Tensor:
    """norm, attention, residual on a map (B,C,H,W)."""
    attn, y = residual.fn, x.permute(0, 2, 3, 1)
    out = K.window_attention(
        attn.to_qkv(residual.norm(y)),
        attn.rel_pos_bias.weight if attn.with_pe else None,
        heads=attn.heads,
        windows=windows,
        scale=attn.scale,
    )
    return attn.to_out(out).permute(0, 3, 1, 2) + x

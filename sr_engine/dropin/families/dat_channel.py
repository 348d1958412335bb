"""The channel attention of DAT (Chen et al., arXiv 2308.03364), beside a depthwise convolution of its values."""

from collections.abc import Hashable, Sequence
from typing import Any, cast

from torch import Tensor, nn

from sr_engine.dropin.checks import has, takes, tokens
from sr_engine.dropin.families.channels import TRIAL_SIZES, expect_channels, sharpen_cosines
from sr_engine.dropin.families.dat import interact, values
from sr_engine.dropin.fused import Fused
from sr_engine.dropin.sites import Site
from sr_kernels import functional as K


class DATChannel(Fused):
    """Adaptive_Channel_Attention on tokens (B, H * W, C)."""

    family = "DAT channel attention"
    bypassed = dropouts = ("attn_drop",)

    @classmethod
    def recognises(cls, module: Any) -> bool:
        return (
            has(module, qkv=nn.Module, proj__out_features=int, proj_drop=nn.Module, attn_drop=nn.Module)
            and has(module, temperature=Tensor, num_heads=int)
            and has(module, dwconv=nn.Module, channel_interaction=nn.Module, spatial_interaction=nn.Module)
            and takes(module, "x", "H", "W")
        )

    @classmethod
    def check(cls, site: Site) -> None:
        layer = site.module
        expect_channels(layer.proj.out_features, layer.num_heads, layer.temperature)

    @classmethod
    def key(cls, site: Site) -> Hashable:
        return site.module.proj.out_features, site.module.num_heads

    @classmethod
    def trials(cls, site: Site) -> Sequence[tuple[Any, ...]]:
        return [(tokens(site.device, 1, *size, site.module.proj.out_features), *size) for size in TRIAL_SIZES]

    @classmethod
    def excite(cls, module: Any) -> None:
        sharpen_cosines(module.temperature)

    def fused(self, x: Tensor, H: int, W: int) -> Tensor:
        layer = cast(Any, self)
        qkv = layer.qkv(x).unflatten(1, (H, W))
        attended = K.channel_attention(qkv, heads=layer.num_heads, temperature=layer.temperature).permute(0, 3, 1, 2)
        local = layer.dwconv(values(qkv))
        attended_gate = layer.spatial_interaction(local).sigmoid()
        local_gate = layer.channel_interaction(attended).sigmoid()
        return interact(layer, attended, attended_gate, local, local_gate)

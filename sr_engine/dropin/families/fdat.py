"""FDAT's layers (github.com/stinkybread/fdat): windows with a whole bias for every head, and attention of channels.

The map is padded with zeros before the projection to q, k and v, so the padding carries the projection's bias.
"""

from collections.abc import Hashable, Sequence
from typing import Any, cast

from torch import Tensor, nn

from sr_engine.dropin.checks import expect, expect_heads, has, scale_logits, takes, tokens
from sr_engine.dropin.fused import Fused
from sr_engine.dropin.sites import Site
from sr_kernels import functional as K


class FDATSpatial(Fused):
    """Unshifted windows on tokens (B, H * W, C), with the projections and without norm and residual."""

    family = "FDAT spatial layer"

    @classmethod
    def recognises(cls, module: Any) -> bool:
        return (
            has(module, qkv=nn.Module, proj=nn.Module, bias=Tensor, dim=int, ws=int, nh=int, scale=float)
            and takes(module, "x", "H", "W")
            and module.bias.dim() == 3
        )

    @classmethod
    def check(cls, site: Site) -> None:
        layer = site.module
        expect_heads(layer.dim, layer.nh)
        wanted = (layer.nh, layer.ws**2, layer.ws**2)
        expect(tuple(layer.bias.shape) == wanted, f"its bias measures {tuple(layer.bias.shape)} instead of {wanted}")

    @classmethod
    def key(cls, site: Site) -> Hashable:
        layer = site.module
        return layer.ws, layer.dim, layer.nh, layer.scale

    @classmethod
    def trials(cls, site: Site) -> Sequence[tuple[Any, ...]]:
        window = site.module.ws
        sizes = [(2 * window, 3 * window), (2 * window - 1, 2 * window + 1)]
        return [(tokens(site.device, 1, h, w, site.module.dim), h, w) for h, w in sizes]

    @classmethod
    def excite(cls, module: Any) -> None:
        module.bias.normal_(0, 1.5)
        scale_logits(module.qkv)

    def fused(self, x: Tensor, H: int, W: int) -> Tensor:
        layer = cast(Any, self)
        outside = "zero" if layer.qkv.bias is None else "token"
        out = K.window_attention(
            layer.qkv(x).unflatten(1, (H, W)),
            layer.bias,
            heads=layer.nh,
            windows=K.Windows(layer.ws, outside=outside),
            scale=layer.scale,
            pad_token=layer.qkv.bias,
        )
        return layer.proj(out.flatten(1, 2))


class FDATChannel(Fused):
    """Transposed attention over all tokens (B, H * W, C), with the projections and without norm and residual."""

    family = "FDAT channel layer"

    @classmethod
    def recognises(cls, module: Any) -> bool:
        return has(module, qkv=nn.Module, proj=nn.Module, temp=Tensor, nh=int) and takes(module, "x", "H", "W")

    @classmethod
    def check(cls, site: Site) -> None:
        expect_heads(site.module.proj.in_features, site.module.nh)

    @classmethod
    def key(cls, site: Site) -> Hashable:
        return site.module.proj.in_features, site.module.nh

    @classmethod
    def trials(cls, site: Site) -> Sequence[tuple[Any, ...]]:
        return [(tokens(site.device, 2, 6, 7, site.module.proj.in_features), 6, 7)]

    @classmethod
    def excite(cls, module: Any) -> None:
        module.temp.normal_(5, 1)

    def fused(self, x: Tensor, H: int, W: int) -> Tensor:
        layer = cast(Any, self)
        out = K.channel_attention(layer.qkv(x).unflatten(1, (H, W)), heads=layer.nh, temperature=layer.temp)
        return layer.proj(out.flatten(1, 2))

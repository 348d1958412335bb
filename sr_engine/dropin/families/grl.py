"""The window attention of GRL (Li et al., arXiv 2303.00748): Swin V2's cosines on windows of half the channels.

The network hands its coordinates, bias index and mask to every layer. Stripe attention, which goes through anchors,
stays as it is, and with it the network's building of masks, nearly all of which are for stripes.
"""

from collections.abc import Hashable, Sequence
from typing import Any, cast

from torch import Tensor, nn

from sr_engine.dropin.checks import expect, expect_heads, expect_index, expect_mask, has, seam_mask, takes, tokens
from sr_engine.dropin.families.cosine import LARGEST, logit_scale
from sr_engine.dropin.families.rectangles import FreeTable
from sr_engine.dropin.fused import Fused
from sr_engine.dropin.sites import Site
from sr_kernels import functional as K


class GRLWindows(Fused):
    """WindowAttention on queries, keys and values (B, H * W, 3C)."""

    family = "GRL window attention"
    bypassed = ("attn_transform", "softmax", "attn_drop")
    dropouts = ("attn_drop",)

    @classmethod
    def recognises(cls, module: Any) -> bool:
        return (
            has(module, attn_transform__logit_scale=Tensor, attn_transform__cpb_mlp=nn.Module)
            and has(module, softmax=nn.Module, attn_drop=nn.Module, euclidean_dist=bool)
            and has(module, window_size=(list, tuple), shift_size=int, num_heads=int)
            and takes(module, "qkv", "x_size", "table", "index", "mask")
        )

    @classmethod
    def check(cls, site: Site) -> None:
        layer, network = site.module, site.owner("mask_w")
        expect(not layer.euclidean_dist, "it compares by distances, not by cosines")
        expect(network is not None, "no network around it holds its bias index and mask")
        expect(layer.shift_size < min(layer.window_size), "its shift exceeds its windows")
        expect_heads(_channels(site), layer.num_heads)
        windows = layer_windows(layer)
        expect_index(windows, network.index_w, network.table_w.shape[:-1].numel())
        if layer.shift_size:
            expect_mask(windows, network.mask_w, *network.input_resolution)

    @classmethod
    def key(cls, site: Site) -> Hashable:
        layer = site.module
        return tuple(layer.window_size), layer.shift_size, layer.num_heads, _channels(site)

    @classmethod
    def trials(cls, site: Site) -> Sequence[tuple[Any, ...]]:
        layer, network = site.module, site.owner("mask_w")
        size = (2 * layer.window_size[0], 3 * layer.window_size[1])
        mask = seam_mask(layer_windows(layer), *size).to(site.device) if layer.shift_size else None
        qkv = tokens(site.device, 1, *size, 3 * _channels(site))
        _part_first_head(qkv, layer.num_heads)
        return [(qkv, size, network.table_w.float(), network.index_w, mask)]

    @classmethod
    def excite(cls, module: Any) -> None:
        transform, (height, width) = module.attn_transform, module.window_size
        rows = (2 * height - 1) * (2 * width - 1)
        transform.cpb_mlp = FreeTable(rows, module.num_heads, transform.logit_scale.device)
        transform.logit_scale[0] = LARGEST + 1

    def fused(self, qkv: Tensor, x_size: tuple[int, int], table: Tensor, index: Tensor, mask: Tensor | None) -> Tensor:
        layer = cast(Any, self)
        del index  # by rule: see check
        transform = layer.attn_transform
        bias = 16 * transform.cpb_mlp(table.to(transform.logit_scale.dtype)).flatten(0, -2).sigmoid()
        out = K.window_attention(
            qkv.unflatten(1, x_size),
            bias,
            heads=layer.num_heads,
            windows=layer_windows(layer, 0.0 if mask is None else -100.0),
            logit_scale=logit_scale(transform),
        )
        return out.flatten(1, 2)


def layer_windows(layer: Any, penalty: float = -100.0) -> K.Windows:
    return K.Windows(tuple(layer.window_size), layer.shift_size, penalty=penalty)


def _part_first_head(qkv: Tensor, heads: int) -> None:
    """Turn queries and keys of the head with the largest factor apart, in place.

    At a factor of 100 the rounding of ordinary cosines alone comes near the difference that is allowed.
    """
    q, k, _ = qkv.unflatten(-1, (3, heads, -1)).unbind(2)
    half = q.shape[-1] // 2
    q[:, :, 0, half:] *= 0.1
    k[:, :, 0, :half] *= 0.1


def _channels(site: Site) -> int:
    """Of the layer: the half of what its owner, which also has stripes, works on."""
    return site.owner("window_attn").dim // 2

"""The window attention of ATD's layers, and the mask the network builds for it (Zhang et al., arXiv 2401.08209).

The attention to the token dictionary (`attn_atd`) and inside categories (`attn_aca`) stay what they are. Both choose
tokens by the largest of many similarities, so a difference in rounding may send a token elsewhere in a later layer.
"""

from collections.abc import Hashable, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from sr_engine.dropin.checks import has, scale_logits, seam_mask, takes, tokens
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

INDEX = "relative_position_index_SA"


class DictionaryLayer(Fused):
    """Three attentions on tokens (B, H * W, C), residual, MLP, residual; returns the tokens and the dictionary."""

    family = "ATD layer"
    bypassed = ("attn_win", "attn_win.softmax")

    @classmethod
    def recognises(cls, module: Any) -> bool:
        return (
            has(module, wqkv=nn.Module, attn_win__proj=nn.Module, attn_win__relative_position_bias_table=Tensor)
            and has(module, attn_win__scale=float, attn_win__softmax=nn.Module, attn_win__num_heads=int)
            and has(module, attn_atd=nn.Module, attn_aca=nn.Module, convffn=nn.Module, norm1=nn.Module)
            and has(module, norm2=nn.Module, is_last=bool, window_size=int, shift_size=int, num_tokens=int)
            and (module.is_last or has(module, norm3=nn.Module, sigma=Tensor, softmax=nn.Module, sigmoid=nn.Module))
            and takes(module, "x", "td", "x_size", "params")
        )

    @classmethod
    def check(cls, site: Site) -> None:
        expect_shared_rule(site, INDEX, site.module.attn_win)

    @classmethod
    def key(cls, site: Site) -> Hashable:
        layer = site.module
        attn = layer.attn_win
        return (
            layer.window_size,
            layer.shift_size,
            layer.is_last,
            layer.num_tokens,
            attn.dim,
            attn.num_heads,
            attn.scale,
        )

    @classmethod
    def trials(cls, site: Site) -> Sequence[tuple[Any, ...]]:
        layer, network, size = site.module, network_of(site, INDEX), two_by_three(site.module)
        dim, mask = layer.attn_win.dim, network_mask(network, size, site.device)
        dictionary = tokens(site.device, 1, layer.num_tokens, 1, dim)
        params = {"attn_mask": mask, "rpi_sa": getattr(network, INDEX)}
        return [(tokens(site.device, 1, *size, dim), dictionary, size, params)]

    @classmethod
    def excite(cls, module: Any) -> None:
        scale_logits(module.wqkv)

    def original_arguments(
        self, x: Tensor, td: Tensor, x_size: tuple[int, int], params: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        layer = cast(Any, self)
        if left_out(params["attn_mask"]) and layer.shift_size:
            mask = seam_mask(K.Windows(layer.window_size, layer.shift_size), *x_size).to(x)
            params = {**params, "attn_mask": mask}
        return (x, td, x_size, params), {}

    def fused(self, x: Tensor, td: Tensor, x_size: tuple[int, int], params: dict[str, Any]) -> tuple[Tensor, Tensor]:
        layer = cast(Any, self)
        attn, penalty = layer.attn_win, 0.0 if params["attn_mask"] is None else -100.0
        y = layer.norm1(x)
        qkv = layer.wqkv(y)
        from_dictionary, similarity = layer.attn_atd(y, td, x_size)
        from_category = layer.attn_aca(qkv, similarity, x_size)
        out = K.window_attention(
            qkv.unflatten(1, x_size),
            attn.relative_position_bias_table,
            heads=attn.num_heads,
            windows=K.Windows(layer.window_size, layer.shift_size, penalty=penalty),
            scale=attn.scale,
        )
        x = x + attn.proj(out.flatten(1, 2)) + from_dictionary + from_category
        x = x + layer.convffn(layer.norm2(x), x_size)
        if not layer.is_last:
            shares = layer.softmax(layer.norm3(similarity.transpose(-1, -2)))
            kept = layer.sigmoid(layer.sigma)
            td = kept * td + (1 - kept) * torch.einsum("btn,bnc->btc", shares, x)
        return x, td


class ATDMasks(NetworkMasks):
    """The network, which builds a mask for its shifted layers."""

    family = "ATD masks"
    consumers = (DictionaryLayer,)
    indices = (INDEX,)

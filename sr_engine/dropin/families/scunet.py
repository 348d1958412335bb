"""SCUNet's window attention (Zhang et al., arXiv 2203.13278): pairs across the seam are forbidden, not discouraged."""

import copy
import math
from collections.abc import Hashable, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from sr_engine.dropin.checks import expect, expect_heads, expect_index, has, scale_logits, takes, tokens
from sr_engine.dropin.fused import Fused, NotExactError
from sr_engine.dropin.sites import Site
from sr_kernels import functional as K


class SCUNetAttention(Fused):
    """The layer on maps (B, H, W, C) of whole windows, with its projections."""

    family = "SCUNet window attention"

    @classmethod
    def recognises(cls, module: Any) -> bool:
        return (
            has(module, embedding_layer=nn.Module, linear=nn.Module, relative_position_params=Tensor)
            and has(module, window_size=int, n_heads=int, head_dim=int, scale=float, type=str)
            and callable(getattr(module, "relative_embedding", None))
            and takes(module, "x")
        )

    @classmethod
    def check(cls, site: Site) -> None:
        layer = site.module
        expect(layer.type in ("W", "SW"), f"its windows are of the unknown type '{layer.type}'")
        expect_heads(layer.head_dim * layer.n_heads, layer.n_heads)
        side = 2 * layer.window_size - 1
        shape, wanted = tuple(layer.relative_position_params.shape), (layer.n_heads, side, side)
        expect(shape == wanted, f"its relative_position_params measure {shape} instead of {wanted}")
        expect_index(K.Windows(layer.window_size), _index(layer), side**2)

    @classmethod
    def key(cls, site: Site) -> Hashable:
        layer = site.module
        return layer.window_size, layer.type, layer.n_heads, layer.head_dim, layer.scale, layer.linear.out_features

    @classmethod
    def trials(cls, site: Site) -> Sequence[tuple[Any, ...]]:
        size = 2 * site.module.window_size, 3 * site.module.window_size
        return [(tokens(site.device, 1, *size, site.module.embedding_layer.in_features).unflatten(1, size),)]

    @classmethod
    def excite(cls, module: Any) -> None:
        module.relative_position_params.normal_(0, 1.5)
        scale_logits(module.embedding_layer)

    def fused(self, x: Tensor) -> Tensor:
        layer = cast(Any, self)
        shift = 0 if layer.type == "W" else layer.window_size // 2
        out = K.window_attention(
            layer.embedding_layer(x),
            layer.relative_position_params.flatten(1).t(),
            heads=layer.n_heads,
            windows=K.Windows(layer.window_size, shift, penalty=-math.inf),
            scale=layer.scale,
        )
        return layer.linear(out)


def _index(layer: Any) -> Tensor:
    """The table row that the layer reads for each query and key: it looks them up anew on every call."""
    twin = copy.deepcopy(layer)
    table = twin.relative_position_params
    rows = torch.arange(table[0].numel(), dtype=torch.float64, device=table.device).view(1, *table.shape[1:])
    twin.relative_position_params = nn.Parameter(rows)
    try:
        return twin.relative_embedding().detach().round().long()
    except Exception as error:  # whatever a third-party method raises, the layer stays as it is
        raise NotExactError(f"its relative_embedding fails: {type(error).__name__}: {error}") from error

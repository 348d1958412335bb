"""torchvision's shifted window attention on maps (B, H, W, C): pad first, then roll, both before the projection.

The padding carries the projection's bias, and an axis that one window covers is not shifted. The original reads the
weights of its projections and never calls them as modules; so does this. Its dropouts are numbers, not modules.
"""

from collections.abc import Hashable, Sequence
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sr_engine.dropin.checks import expect, expect_heads, expect_index, has, scale_logits, takes, tokens
from sr_engine.dropin.families.cosine import bias_table, excite_cosine, logit_scale
from sr_engine.dropin.fused import Fused
from sr_engine.dropin.sites import Site
from sr_kernels import functional as K


class TorchvisionSwin(Fused):
    """The layer, without norms and residuals."""

    family = "torchvision Swin layer"

    @classmethod
    def recognises(cls, module: Any) -> bool:
        return (
            has(module, window_size=(list, tuple), shift_size=(list, tuple), num_heads=int)
            and has(module, qkv=nn.Linear, proj=nn.Linear, relative_position_index=Tensor)
            and has(module, attention_dropout=(int, float), dropout=(int, float))
            and len(module.window_size) == len(module.shift_size) == 2
            and takes(module, "x")
            and cls._has_bias(module)
        )

    @classmethod
    def _has_bias(cls, layer: Any) -> bool:
        return has(layer, relative_position_bias_table=Tensor) and not hasattr(layer, "logit_scale")

    @classmethod
    def check(cls, site: Site) -> None:
        layer = site.module
        expect(not _drops(layer), "dropout is active in its attention (attention_dropout); call .eval() or set it to 0")
        expect_heads(layer.proj.in_features, layer.num_heads)
        expect_index(K.Windows(tuple(layer.window_size)), layer.relative_position_index, cls._rows(layer))

    @classmethod
    def _rows(cls, layer: Any) -> int:
        return len(layer.relative_position_bias_table)

    @classmethod
    def key(cls, site: Site) -> Hashable:
        layer = site.module
        return tuple(layer.window_size), tuple(layer.shift_size), layer.proj.in_features, layer.num_heads

    @classmethod
    def trials(cls, site: Site) -> Sequence[tuple[Any, ...]]:
        rows, columns = site.module.window_size
        sizes = [(2 * rows, 3 * columns), (2 * rows - 1, 2 * columns + 1), (max(1, rows - 1), 2 * columns)]
        dim = site.module.qkv.in_features
        return [(tokens(site.device, 1, h, w, dim).unflatten(1, (h, w)),) for h, w in sizes]

    @classmethod
    def excite(cls, module: Any) -> None:
        scale_logits(module.qkv)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        if _drops(self):
            return super(Fused, self).forward(*args, **kwargs)  # type: ignore[misc]
        return super().forward(*args, **kwargs)

    def fused(self, x: Tensor) -> Tensor:
        layer = cast(Any, self)
        rows, columns = layer.window_size
        shift = (layer.shift_size[0] if rows < x.shape[1] else 0, layer.shift_size[1] if columns < x.shape[2] else 0)
        bias, table, factor = self._parts()
        out = K.window_attention(
            F.linear(x, layer.qkv.weight, bias),
            table,
            heads=layer.num_heads,
            windows=K.Windows((rows, columns), shift, outside="zero" if bias is None else "token", order="pad_roll"),
            logit_scale=factor,
            pad_token=bias,
        )
        return F.dropout(F.linear(out, layer.proj.weight, layer.proj.bias), layer.dropout, layer.training)

    def _parts(self) -> tuple[Tensor | None, Tensor, Tensor | None]:
        """The bias of q, k and v, the bias table, and the factors of cosine attention."""
        layer = cast(Any, self)
        return layer.qkv.bias, layer.relative_position_bias_table, None


class TorchvisionSwinV2(TorchvisionSwin):
    """Cosine attention; the keys' part of the projection's bias is taken as zero whatever it holds."""

    family = "torchvision Swin V2 layer"

    @classmethod
    def _has_bias(cls, layer: Any) -> bool:
        return has(layer, logit_scale=Tensor, cpb_mlp=nn.Sequential, relative_coords_table=Tensor)

    @classmethod
    def _rows(cls, layer: Any) -> int:
        return layer.relative_coords_table.shape[:-1].numel()

    @classmethod
    def excite(cls, module: Any) -> None:
        excite_cosine(module)

    def _parts(self) -> tuple[Tensor | None, Tensor, Tensor | None]:
        layer = cast(Any, self)
        bias = layer.qkv.bias
        if bias is not None:
            query, key, value = bias.chunk(3)
            bias = torch.cat([query, torch.zeros_like(key), value])
        return bias, bias_table(layer), logit_scale(layer)


def _drops(layer: Any) -> bool:
    return layer.training and layer.attention_dropout > 0

"""The local attention of RGT (Chen et al., arXiv 2303.06373): DAT's windows, plus a convolution of the values.

RG_SA, which attends to a few tokens of a recursively shrunken map, stays as it is.
"""

from typing import Any, cast

from torch import Tensor, nn

from sr_engine.dropin.checks import has
from sr_engine.dropin.families.dat import RectangleLayer, attend_layer, values


class RGTLocal(RectangleLayer):
    """L_SA on tokens (B, H * W, C)."""

    family = "RGT local attention"

    @classmethod
    def recognises(cls, module: Any) -> bool:
        return super().recognises(module) and has(module, get_v=nn.Module) and not hasattr(module, "dwconv")

    def fused(self, x: Tensor, H: int, W: int) -> Tensor:
        layer = cast(Any, self)
        qkv = layer.qkv(x).unflatten(1, (H, W))
        mixed = attend_layer(layer, qkv) + layer.get_v(values(qkv)).permute(0, 2, 3, 1)
        return layer.proj_drop(layer.proj(mixed.flatten(1, 2)))

"""How q, k and v lie in memory, and every view of them that the implementations take. Nothing here copies."""

from typing import Literal

import torch
from torch import Tensor

Layout = Literal["nhwc", "nchw"]


def unpack(maps: list[Tensor], heads: int, layout: str) -> list[Tensor]:
    """q, k, v as views (B, heads, d, H, W), from one packed map or from three maps with the heads apart."""
    if len(maps) == 1:
        axis = 3 if layout == "nhwc" else 1
        maps = list(maps[0].unflatten(axis, (3, heads, -1)).unbind(axis))
    return [m.permute(0, 3, 4, 1, 2) for m in maps] if layout == "nhwc" else maps


def by_head(x: Tensor, heads: int, layout: str) -> Tensor:
    """(B,H,W,C) or (B,C,H,W) -> view (B, heads, d, H, W)."""
    return x.unflatten(3, (heads, -1)).permute(0, 3, 4, 1, 2) if layout == "nhwc" else x.unflatten(1, (heads, -1))


def joined(x: Tensor, layout: str) -> Tensor:
    """(B, heads, d, H, W) -> (B,H,W,C) or (B,C,H,W)."""
    return x.permute(0, 3, 4, 1, 2).flatten(3) if layout == "nhwc" else x.flatten(1, 2)


def empty_output(maps: list[Tensor], layout: str) -> Tensor:
    """Memory for the result (B,H,W,C) or (B,C,H,W): contiguous, or channels-last where a packed NCHW map is."""
    shape = list(maps[0].shape)
    if len(maps) == 1:
        shape[3 if layout == "nhwc" else 1] //= 3
    else:
        shape = [*shape[:3], shape[3] * shape[4]] if layout == "nhwc" else [shape[0], shape[1] * shape[2], *shape[3:]]
    form = {"dtype": maps[0].dtype, "device": maps[0].device, "memory_format": _format(maps, layout)}
    return torch.empty(shape, **form)


def empty_gradients(maps: list[Tensor], layout: str) -> list[Tensor]:
    """Memory for the gradients of the maps; those of q, k and v have the same strides."""
    return [torch.empty_like(m, memory_format=_format(maps, layout)) for m in maps]


def _format(maps: list[Tensor], layout: str) -> torch.memory_format:
    if layout == "nchw" and len(maps) == 1 and not maps[0].is_contiguous():
        channels_last = maps[0].is_contiguous(memory_format=torch.channels_last)
        return torch.channels_last if channels_last else torch.contiguous_format
    return torch.contiguous_format

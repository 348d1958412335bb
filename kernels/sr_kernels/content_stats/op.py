"""Registration of the content statistics with torch.library: forward and backward are one opaque operator each.

The backward operator has no derivative of its own; second derivatives need impl="reference".
"""

from typing import Any

import torch
from torch import Tensor

from sr_kernels import launch
from sr_kernels.content_stats import fast, fast_backward


@torch.library.custom_op("sr_kernels::content_stats", mutates_args=())
def content_stats(x: Tensor, window: int, impl: str) -> tuple[Tensor, Tensor, Tensor]:
    """Fine, coarse, difficulty; `impl` chooses the implementation."""
    if impl == "triton":
        # Triton exists for Linux alone: what needs it is imported where it is chosen.
        from sr_kernels.content_stats.forward import forward
        from sr_kernels.content_stats.tiling import Picture

        return launch.run(forward(Picture(x), window), x.device)
    with torch.autocast(x.device.type, enabled=False):
        return fast.content_stats(x, window)


@content_stats.register_fake
def _(x: Tensor, window: int, impl: str) -> tuple[Tensor, Tensor, Tensor]:
    B, _, H, W = x.shape
    return (
        x.new_empty(B, 8, H, W),
        x.new_empty(B, 8, (H + 1) // 2, (W + 1) // 2),
        x.new_empty(B, 2, (H + window - 1) // window, (W + window - 1) // window),
    )


@torch.library.custom_op("sr_kernels::content_stats_backward", mutates_args=())
def content_stats_backward(
    d_fine: Tensor, d_coarse: Tensor, d_difficulty: Tensor, x: Tensor, window: int, impl: str
) -> Tensor:
    """Gradient of the picture."""
    if impl == "triton":
        from sr_kernels.content_stats.backward import backward
        from sr_kernels.content_stats.tiling import Picture

        return launch.run(backward(d_fine, d_coarse, d_difficulty, Picture(x), window), x.device)
    with torch.autocast(x.device.type, enabled=False):
        return fast_backward.backward(d_fine, d_coarse, d_difficulty, x, window)


@content_stats_backward.register_fake
def _(d_fine: Tensor, d_coarse: Tensor, d_difficulty: Tensor, x: Tensor, window: int, impl: str) -> Tensor:
    return torch.empty_like(x, memory_format=torch.contiguous_format)


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    x, ctx.window, ctx.impl = inputs
    ctx.save_for_backward(x)


def _autograd(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
    return content_stats_backward(*grads, *ctx.saved_tensors, ctx.window, ctx.impl), None, None


content_stats.register_autograd(_autograd, setup_context=_setup_context)

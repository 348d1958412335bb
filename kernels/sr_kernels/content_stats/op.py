"""Registration: forward and backward each one custom op, which torch.compile takes as they are."""

from typing import Any

import torch
from torch import Tensor

from sr_kernels.content_stats import fast


@torch.library.custom_op("sr_kernels::content_stats", mutates_args=())
def content_stats(x: Tensor, window: int) -> tuple[Tensor, Tensor, Tensor]:
    """Fine, coarse and difficulty of `x` [B C H W]."""
    return fast.content_stats(x, window)


@content_stats.register_fake
def _(x: Tensor, window: int) -> tuple[Tensor, Tensor, Tensor]:
    B, _, H, W = x.shape
    like = torch.promote_types(x.dtype, torch.float32)
    fine = torch.empty((B, 8, H, W), dtype=like, device=x.device)
    coarse = torch.empty((B, 8, (H + 1) // 2, (W + 1) // 2), dtype=like, device=x.device)
    cells = (B, 2, (H + window - 1) // window, (W + window - 1) // window)
    return fine, coarse, torch.empty(cells, dtype=like, device=x.device)


@torch.library.custom_op("sr_kernels::content_stats_backward", mutates_args=())
def content_stats_backward(
    fine_grad: Tensor, coarse_grad: Tensor, difficulty_grad: Tensor, x: Tensor, window: int
) -> Tensor:
    """Gradient of `x`; the statistics are computed again rather than stored."""
    with torch.enable_grad():
        leaf = x.detach().requires_grad_()
        outputs = fast.content_stats(leaf, window)
        (gradient,) = torch.autograd.grad(outputs, leaf, (fine_grad, coarse_grad, difficulty_grad))
    return gradient.contiguous()


@content_stats_backward.register_fake
def _(fine_grad: Tensor, coarse_grad: Tensor, difficulty_grad: Tensor, x: Tensor, window: int) -> Tensor:
    return torch.empty(x.shape, dtype=x.dtype, device=x.device)


def _save(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    x, ctx.window = inputs
    ctx.save_for_backward(x)


def _backward(ctx: Any, fine: Tensor, coarse: Tensor, difficulty: Tensor) -> tuple[Tensor, None]:
    (x,) = ctx.saved_tensors
    return content_stats_backward(fine, coarse, difficulty, x, ctx.window), None


content_stats.register_autograd(_backward, setup_context=_save)

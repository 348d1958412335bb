"""Registration of window attention with torch.library: forward and backward are one opaque operator each.

The backward operator has no derivative of its own; second derivatives need impl="reference".
"""

from typing import Any

import torch
from torch import Tensor

from sr_kernels.window_attention import fast
from sr_kernels.window_attention.windows import decode


@torch.library.custom_op("sr_kernels::window_attention", mutates_args=())
def window_attention(
    qkv: list[Tensor],
    bias: Tensor | None,
    logit_scale: Tensor | None,
    pad_token: Tensor | None,
    heads: int,
    scale: float,
    numbers: list[int],
    words: str,
    penalty: float,
    precision: str,
    impl: str,
) -> Tensor:
    """`numbers`, `words` and `penalty` are an encoded `Windows`; `precision` and `impl` choose the implementation."""
    windows = decode(numbers, words, penalty)
    # Under autocast the products inside would be cast down although the caller chose the dtype of qkv.
    with torch.autocast(qkv[0].device.type, enabled=False):
        return fast.forward(qkv, bias, logit_scale, pad_token, heads, scale, windows)


@window_attention.register_fake
def _(qkv: list[Tensor], *args: Any) -> Tensor:
    B, H, W = qkv[0].shape[:3]
    channels = qkv[0].shape[3] // 3 if len(qkv) == 1 else qkv[0].shape[3] * qkv[0].shape[4]
    return qkv[0].new_empty(B, H, W, channels)


@torch.library.custom_op("sr_kernels::window_attention_backward", mutates_args=())
def window_attention_backward(
    grad: Tensor,
    qkv: list[Tensor],
    bias: Tensor | None,
    logit_scale: Tensor | None,
    pad_token: Tensor | None,
    heads: int,
    scale: float,
    numbers: list[int],
    words: str,
    penalty: float,
    precision: str,
    impl: str,
) -> list[Tensor]:
    """Gradients of qkv, then of those of bias, logit_scale and pad_token that were given."""
    windows = decode(numbers, words, penalty)
    with torch.autocast(grad.device.type, enabled=False):
        grads = fast.backward(grad, qkv, bias, logit_scale, pad_token, heads, scale, windows)
    return [*grads.qkv, *(g for g in grads[1:] if g is not None)]


@window_attention_backward.register_fake
def _(
    grad: Tensor,
    qkv: list[Tensor],
    bias: Tensor | None,
    logit_scale: Tensor | None,
    pad_token: Tensor | None,
    *args: Any,
) -> list[Tensor]:
    given = [*qkv, *(t for t in (bias, logit_scale, pad_token) if t is not None)]
    return [torch.empty_like(t, memory_format=torch.contiguous_format) for t in given]


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    qkv, bias, logit_scale, pad_token, *ctx.settings = inputs
    ctx.maps = len(qkv)
    ctx.save_for_backward(*qkv, bias, logit_scale, pad_token)


def _autograd(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
    *qkv, bias, logit_scale, pad_token = ctx.saved_tensors
    grads = window_attention_backward(grad, qkv, bias, logit_scale, pad_token, *ctx.settings)
    rest = iter(grads[ctx.maps :])
    extra = [next(rest) if t is not None else None for t in (bias, logit_scale, pad_token)]
    return grads[: ctx.maps], *extra, *(None for _ in ctx.settings)


window_attention.register_autograd(_autograd, setup_context=_setup_context)

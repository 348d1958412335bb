"""Registration of channel attention with torch.library: forward and backward are one opaque operator each.

The backward operator has no derivative of its own; second derivatives need impl="reference".
"""

from typing import Any

import torch
from torch import Tensor

from sr_kernels.channel_attention import fast
from sr_kernels.channel_attention.layout import empty_gradients, empty_output, unpack


@torch.library.custom_op("sr_kernels::channel_attention", mutates_args=())
def channel_attention(
    qkv: list[Tensor], temperature: Tensor, heads: int, layout: str, precision: str, impl: str
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The result, then what backward needs and is small: A and S (B, heads, d, d), |q|, |k| (B, heads, 2, d)."""
    # Under autocast the products inside would be cast down although the caller chose the dtype of qkv.
    with torch.autocast(qkv[0].device.type, enabled=False):
        if impl == "triton":
            from sr_kernels.channel_attention import forward

            return forward.forward(qkv, temperature, heads, layout, precision)
        return fast.forward(qkv, temperature, heads, layout)


@channel_attention.register_fake
def _(qkv: list[Tensor], temperature: Tensor, heads: int, layout: str, *args: Any) -> tuple[Tensor, ...]:
    out = empty_output(qkv, layout)
    B, _, d = unpack(qkv, heads, layout)[0].shape[:3]
    dtype = torch.float64 if out.dtype == torch.float64 else torch.float32
    attention, cosines = (out.new_empty(B, heads, d, d, dtype=dtype) for _ in range(2))
    return out, attention, cosines, out.new_empty(B, heads, 2, d, dtype=dtype)


@torch.library.custom_op("sr_kernels::channel_attention_backward", mutates_args=())
def channel_attention_backward(
    grad: Tensor,
    qkv: list[Tensor],
    temperature: Tensor,
    attention: Tensor,
    cosines: Tensor,
    norms: Tensor,
    heads: int,
    layout: str,
    precision: str,
    impl: str,
) -> list[Tensor]:
    """Gradients of qkv, then of temperature."""
    with torch.autocast(grad.device.type, enabled=False):
        if impl == "triton":
            from sr_kernels.channel_attention import backward

            return backward.backward(grad, qkv, temperature, attention, cosines, norms, heads, layout, precision)
        return fast.backward(grad, qkv, temperature, attention, cosines, norms, heads, layout)


@channel_attention_backward.register_fake
def _(
    grad: Tensor,
    qkv: list[Tensor],
    temperature: Tensor,
    attention: Tensor,
    cosines: Tensor,
    norms: Tensor,
    heads: int,
    layout: str,
    *args: Any,
) -> list[Tensor]:
    return [*empty_gradients(qkv, layout), torch.empty_like(temperature, memory_format=torch.contiguous_format)]


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    qkv, temperature, *ctx.settings = inputs
    ctx.maps = len(qkv)
    ctx.mark_non_differentiable(*output[1:])
    ctx.save_for_backward(*qkv, temperature, *output[1:])


def _autograd(ctx: Any, grad: Tensor, *unused: Tensor | None) -> tuple[Any, ...]:
    qkv, (temperature, *small) = list(ctx.saved_tensors[: ctx.maps]), ctx.saved_tensors[ctx.maps :]
    grads = channel_attention_backward(grad, qkv, temperature, *small, *ctx.settings)
    return grads[: ctx.maps], grads[ctx.maps], *(None for _ in ctx.settings)


channel_attention.register_autograd(_autograd, setup_context=_setup_context)

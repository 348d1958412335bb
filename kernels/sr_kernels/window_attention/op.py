"""Registration of window attention with torch.library: forward and backward are one opaque operator each.

The backward operator has no derivative of its own; second derivatives need impl="reference".
"""

from typing import Any

import torch
from torch import Tensor

from sr_kernels import launch
from sr_kernels.window_attention import arguments, fast, fast_backward
from sr_kernels.window_attention.windows import Windows, decode


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
    save: bool,
) -> tuple[Tensor, Tensor]:
    """The output, and log sum exp of the logits where the backward of a Triton kernel will want it.

    `numbers`, `words` and `penalty` are an encoded `Windows`; `precision` and `impl` choose the implementation; `save`
    says that a backward pass may follow.
    """
    windows = decode(numbers, words, penalty)
    if not qkv[0].shape[0]:
        return _empty(qkv, heads, windows, impl, save)
    if impl == "triton":
        # Triton exists for Linux alone: what needs it is imported where it is chosen.
        from sr_kernels.window_attention.forward import forward

        given = (bias, logit_scale, pad_token, scale, windows, precision)
        problem = arguments.Problem.of(qkv, heads, *given, training=save)
        return launch.run(forward(problem), qkv[0].device)
    # Under autocast the products inside would be cast down although the caller chose the dtype of qkv.
    with torch.autocast(qkv[0].device.type, enabled=False):
        out = fast.forward(qkv, bias, logit_scale, pad_token, heads, scale, windows)
    return out, out.new_empty(0, dtype=torch.float32)


@window_attention.register_fake
def _(qkv: list[Tensor], *args: Any) -> tuple[Tensor, Tensor]:
    _, _, _, heads, _, numbers, words, penalty, _, impl, save = args
    return _empty(qkv, heads, decode(numbers, words, penalty), impl, save)


@torch.library.custom_op("sr_kernels::window_attention_backward", mutates_args=())
def window_attention_backward(
    grad: Tensor,
    out: Tensor | None,
    lse: Tensor | None,
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
    need_bias: bool,
) -> list[Tensor]:
    """Gradients of qkv, then of those of bias (if needed), logit_scale and pad_token that were given.

    `out` and `lse` are the results of the forward operator where that saved the second.
    """
    windows = decode(numbers, words, penalty)
    if not grad.shape[0]:
        return [torch.zeros_like(t) for t in _wanted(qkv, bias, logit_scale, pad_token, need_bias)]
    if impl == "triton":
        from sr_kernels.window_attention.backward import backward

        given = (bias, logit_scale, pad_token, scale, windows, precision)
        problem = arguments.Problem.of(qkv, heads, *given, training=True)
        steps = backward(problem, grad, out, lse, packed=len(qkv) == 1, need_bias=need_bias)
        grads = launch.run(steps, grad.device)
    else:
        with torch.autocast(grad.device.type, enabled=False):
            grads = fast_backward.backward(grad, qkv, bias, logit_scale, pad_token, heads, scale, windows)
        grads = grads if need_bias else grads._replace(bias=None)
    return [*grads.qkv, *(g for g in grads[1:] if g is not None)]


@window_attention_backward.register_fake
def _(grad: Tensor, out: Tensor | None, lse: Tensor | None, qkv: list[Tensor], *args: Any) -> list[Tensor]:
    bias, logit_scale, pad_token, *_, need_bias = args
    given = _wanted(qkv, bias, logit_scale, pad_token, need_bias)
    return [torch.empty_like(t, memory_format=torch.contiguous_format) for t in given]


def saves(qkv: list[Tensor], heads: int, windows: Windows, impl: str) -> bool:
    """Whether the backward pass reads the output and log sum exp of the forward pass."""
    head_dim = qkv[0].shape[3] // (3 * heads) if len(qkv) == 1 else qkv[0].shape[4]
    arch = arguments.architecture(qkv[0].device)
    return impl == "triton" and not arguments.whole(windows, head_dim, qkv[0].dtype, arch, training=True)


def _wanted(
    qkv: list[Tensor], bias: Tensor | None, logit_scale: Tensor | None, pad_token: Tensor | None, need_bias: bool
) -> list[Tensor]:
    """The inputs that get a gradient."""
    return [*qkv, *(t for t in (bias if need_bias else None, logit_scale, pad_token) if t is not None)]


def _empty(qkv: list[Tensor], heads: int, windows: Windows, impl: str, save: bool) -> tuple[Tensor, Tensor]:
    """Memory of the shapes that the forward operator returns."""
    B, H, W = qkv[0].shape[:3]
    channels = qkv[0].shape[3] // 3 if len(qkv) == 1 else qkv[0].shape[3] * qkv[0].shape[4]
    out = qkv[0].new_empty(B, H, W, channels)
    if not (save and saves(qkv, heads, windows, impl)):
        return out, out.new_empty(0, dtype=torch.float32)
    rows, columns = windows.axes(H, W)
    return out, out.new_empty(B * rows.count * columns.count, heads, windows.tokens[0], dtype=torch.float32)


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    qkv, bias, logit_scale, pad_token, *ctx.settings, _ = inputs
    ctx.maps = len(qkv)
    heads, _, numbers, words, penalty, _, impl = ctx.settings
    kept = output if saves(qkv, heads, decode(numbers, words, penalty), impl) else (None, None)
    ctx.save_for_backward(*qkv, bias, logit_scale, pad_token, *kept)
    ctx.mark_non_differentiable(output[1])


def _autograd(ctx: Any, grad: Tensor, _: Tensor | None) -> tuple[Any, ...]:
    *qkv, bias, logit_scale, pad_token, out, lse = ctx.saved_tensors
    need_bias = bias is not None and ctx.needs_input_grad[1]
    grads = window_attention_backward(
        grad, out, lse, qkv, bias, logit_scale, pad_token, *ctx.settings, need_bias=need_bias
    )
    rest = iter(grads[ctx.maps :])
    wanted = (need_bias, logit_scale is not None, pad_token is not None)
    return grads[: ctx.maps], *(next(rest) if w else None for w in wanted), *(None for _ in ctx.settings), None


window_attention.register_autograd(_autograd, setup_context=_setup_context)

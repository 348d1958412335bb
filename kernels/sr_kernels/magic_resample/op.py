"""Registration: forward and backward each one custom op, which torch.compile takes as they are."""

from typing import Any

import torch
from torch import Tensor

from sr_kernels import launch
from sr_kernels.magic_resample import fast
from sr_kernels.magic_resample.reference import memory_format
from sr_kernels.magic_resample.steering import correction


@torch.library.custom_op("sr_kernels::magic_resample", mutates_args=())
def magic_resample(
    x: Tensor, gains: Tensor | None, basis: Tensor | None, size: list[int], kernel: str, impl: str = "torch"
) -> Tensor:
    """`x` [B C H W] resampled to `size`, in the memory format of `x`; `impl` is "triton" or "torch"."""
    height, width = size
    if impl == "triton":
        # Triton exists for Linux alone: what needs it is imported where it is chosen.
        from sr_kernels.magic_resample.forward import forward

        return launch.run(forward(x, gains, basis, (height, width), kernel), x.device)
    return fast.magic_resample(x, (height, width), kernel, gains, basis)


@magic_resample.register_fake
def _(x: Tensor, _gains: Tensor | None, _basis: Tensor | None, size: list[int], *_: str) -> Tensor:
    return torch.empty(*x.shape[:2], *size, dtype=x.dtype, device=x.device, memory_format=memory_format(x))


@torch.library.custom_op("sr_kernels::magic_resample_backward", mutates_args=())
def magic_resample_backward(
    grad: Tensor, x: Tensor, gains: Tensor | None, basis: Tensor | None, kernel: str, impl: str = "torch"
) -> tuple[Tensor, Tensor]:
    """Gradients of `x`, in the memory format of `grad`, and of `gains` (empty without gains)."""
    if impl == "triton":
        from sr_kernels.magic_resample.backward import backward

        dx, dgains = launch.run(backward(grad, x, gains, basis, kernel), grad.device)
    else:
        dx, dgains = fast.gradients(grad, x, gains, kernel, basis)
    return dx.contiguous(memory_format=memory_format(grad)), x.new_empty(0) if dgains is None else dgains.contiguous()


@magic_resample_backward.register_fake
def _(grad: Tensor, x: Tensor, gains: Tensor | None, _basis: Tensor | None, *_: str) -> tuple[Tensor, Tensor]:
    dx = torch.empty(x.shape, dtype=x.dtype, device=x.device, memory_format=memory_format(grad))
    return dx, x.new_empty(0) if gains is None else torch.empty(gains.shape, dtype=gains.dtype, device=gains.device)


def _save(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    x, gains, basis, _, *ctx.settings = inputs
    ctx.save_for_backward(x, gains, basis)


def _backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    x, gains, basis = ctx.saved_tensors
    dx, dgains = magic_resample_backward(grad, x, gains, basis, *ctx.settings)
    return dx, None if gains is None else dgains, None, None, None, None


def _save_backward(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    grad, x, gains, basis, *ctx.settings = inputs
    ctx.save_for_backward(grad, x, gains, basis)


def _double_backward(ctx: Any, ddx: Tensor, ddgains: Tensor) -> tuple[Tensor | None, ...]:
    """Eager only: torch.compile refuses double backward. Differentiates  classical(x) + U(correction(x, gains))."""
    grad, x, gains, basis = ctx.saved_tensors
    kernel, impl = ctx.settings
    size = list(grad.shape[2:])
    if gains is None:
        return magic_resample(ddx, None, None, size, kernel, impl), *(None,) * 5
    with torch.enable_grad():
        leaves = [t.detach().requires_grad_() for t in (grad, x, gains)]
        wide = leaves[1].to(torch.promote_types(x.dtype, torch.float32))
        bend = magic_resample(correction(wide, leaves[2], kernel, basis), None, None, size, "magic", impl)
        out = magic_resample(leaves[1], None, None, size, kernel, impl) + bend.to(x.dtype)
        first = torch.autograd.grad(out, leaves[1:], leaves[0], create_graph=True)
        second = torch.autograd.grad(first, leaves, (ddx, ddgains), allow_unused=True)
    return *second, None, None, None


magic_resample.register_autograd(_backward, setup_context=_save)
magic_resample_backward.register_autograd(_double_backward, setup_context=_save_backward)

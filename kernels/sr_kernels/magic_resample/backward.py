"""The gradients in Triton: gathers over the outputs that an input reached. No atomics, and the same bits each time."""

import torch
from torch import Tensor

from sr_kernels.launch import Steps
from sr_kernels.magic_resample import banded, fused
from sr_kernels.magic_resample.bands import Map
from sr_kernels.magic_resample.reference import memory_format


def backward(
    grad: Tensor, x: Tensor, gains: Tensor | None, basis: Tensor | None, kernel: str
) -> Steps[tuple[Tensor, Tensor | None]]:
    """Gradients of `x`, in its dtype and the memory format of `grad`, and of `gains` where given."""
    layout, source, size = memory_format(grad), (x.shape[2], x.shape[3]), (grad.shape[2], grad.shape[3])

    kind = x.dtype if gains is None else torch.float32
    dx = torch.empty(x.shape, dtype=kind, device=grad.device, memory_format=layout)
    dbend = None if gains is None else torch.empty_like(dx)
    if fused.gathers(source, size) and fused.regular(layout, grad):
        yield fused.transposed(grad, dx, dbend, kernel, layout)
    else:
        for name, result in ((kernel, dx), ("magic", dbend)):
            if result is not None:
                term = banded.Term(grad, Map(name, source, size, transposed=True))
                yield from banded.resample([term], result, layout)
    if gains is None or dbend is None:
        return dx, None
    from sr_kernels.magic_resample.bend_backward import gradients

    dgains = yield from gradients(dbend, x, gains, kernel, basis, dx)
    return dx.to(x.dtype), dgains

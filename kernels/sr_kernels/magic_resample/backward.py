"""The gradients in Triton: gathers over the outputs that an input reached, so no atomics and the same bits each time."""

import torch
from torch import Tensor

from sr_kernels.launch import Steps
from sr_kernels.magic_resample import banded
from sr_kernels.magic_resample.bands import Map
from sr_kernels.magic_resample.reference import memory_format


def backward(
    grad: Tensor, x: Tensor, gains: Tensor | None, basis: Tensor | None, kernel: str
) -> Steps[tuple[Tensor, Tensor | None]]:
    """Gradients of `x`, in its dtype and the memory format of `grad`, and of `gains` where given."""
    layout, source, size = memory_format(grad), (x.shape[2], x.shape[3]), (grad.shape[2], grad.shape[3])

    def transposed(name: str, dtype: torch.dtype) -> Steps[Tensor]:
        out = torch.empty(x.shape, dtype=dtype, device=grad.device, memory_format=layout)
        yield from banded.resample([banded.Term(grad, Map(name, source, size, transposed=True))], out, layout)
        return out

    if gains is None:
        return (yield from transposed(kernel, x.dtype)), None
    from sr_kernels.magic_resample.bend_backward import gradients

    dx = yield from transposed(kernel, torch.float32)
    dbend = yield from transposed("magic", torch.float32)
    dgains = yield from gradients(dbend, x, gains, kernel, basis, dx)
    return dx.to(x.dtype), dgains

"""The forward pass in Triton."""

import torch
from torch import Tensor

from sr_kernels.launch import Steps
from sr_kernels.magic_resample import banded, fused
from sr_kernels.magic_resample.bands import Map
from sr_kernels.magic_resample.reference import memory_format


def forward(x: Tensor, gains: Tensor | None, basis: Tensor | None, size: tuple[int, int], kernel: str) -> Steps[Tensor]:
    """`x` [B C H W] resampled to `size`, in its dtype and memory format; meaning as in `api.magic_resample`."""
    layout, source = memory_format(x), (x.shape[2], x.shape[3])
    bend = None
    if gains is not None:
        from sr_kernels.magic_resample.bend import correction

        bend = yield from correction(x, gains, kernel, basis)
    out = torch.empty(*x.shape[:2], *size, dtype=x.dtype, device=x.device, memory_format=layout)
    if fused.grows(source, size) and fused.regular(layout, x, bend):
        yield fused.upscaled(x, bend, out, kernel, layout)
        return out
    terms = [banded.Term(x, Map(kernel, source, size))]
    if bend is not None:
        terms.append(banded.Term(bend, Map("magic", source, size)))
    yield from banded.resample(terms, out, layout)
    return out

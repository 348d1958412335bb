"""The form for torch.export and ONNX: a few static operators, height and width free.

An integer upscale is one convolution a axis, to the phases of the output, and one pixel shuffle.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from sr_kernels.check import fail
from sr_kernels.magic_resample.filters import phase_weights
from sr_kernels.magic_resample.reference import resample
from sr_kernels.magic_resample.steering import correction


def magic_resample(
    x: Tensor, size: tuple[int, int], factor: int | None, kernel: str, gains: Tensor | None, basis: Tensor | None
) -> Tensor:
    """As `api.magic_resample`. `factor` is the integer upscale that `size` amounts to; without one, sizes are fixed.

    Raises:
        ValueError: no integer factor, and a size of the picture is dynamic.
    """
    wide = x.to(torch.promote_types(x.dtype, torch.float32))
    bend = None if gains is None else correction(wide, gains, kernel, basis)
    if factor is not None:
        phases = _phases(wide, factor, kernel)
        if bend is not None:
            phases = phases + _phases(bend, factor, "magic")
        out = F.pixel_shuffle(phases, factor)
    elif all(type(n) is int for n in (*x.shape[2:], *size)):
        out = resample(wide, size, kernel)
        if bend is not None:
            out = out + resample(bend, size, "magic")
    else:
        fail("magic_resample", "export with dynamic sizes needs an integer scale: fix the sizes or the scale")
    if x.dtype == torch.uint8:
        out = out.round().clamp(0, 255)
    return out.to(x.dtype)


def _phases(x: Tensor, scale: int, kernel: str) -> Tensor:
    """[B C H W] -> [B, C * scale * scale, H, W]: the outputs that lie in each input pixel, row by row."""
    if scale == 1:
        return x
    B, C, H, W = x.shape
    taps = _taps(kernel, scale).to(x)
    radius = taps.shape[1] // 2

    def normalised(planes: Tensor, taps: Tensor, padding: tuple[int, int], line: Tensor) -> Tensor:
        return F.conv2d(planes, taps, padding=padding) / F.conv2d(torch.ones_like(line), taps, padding=padding)

    planes = x.reshape(B * C, 1, H, W)
    rows = normalised(planes, taps[:, None, :, None], (radius, 0), planes[:1, :, :, :1])
    rows = rows.view(B * C * scale, 1, H, W)
    columns = normalised(rows, taps[:, None, None, :], (0, radius), planes[:1, :, :1, :])
    return columns.view(B, C * scale * scale, H, W)


@torch.compiler.assume_constant_result
def _taps(kernel: str, scale: int) -> Tensor:
    return torch.from_numpy(phase_weights(kernel, scale))

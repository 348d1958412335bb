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
    terms = [(wide, kernel)]
    if gains is not None:
        terms.append((correction(wide, gains, kernel, basis), "magic"))
    if factor == 1:
        out = sum(term for term, _ in terms)
    elif factor is not None:
        B, C, H, W = x.shape
        phases = sum(_phases(term.reshape(B * C, 1, H, W), factor, name) for term, name in terms)
        out = F.pixel_shuffle(phases.view(B, C * factor * factor, H, W), factor)
    elif all(type(n) is int for n in (*x.shape[2:], *size)):
        out = sum(resample(term, size, name) for term, name in terms)
    else:
        fail(
            "magic_resample", "export with dynamic height or width needs an integer scale: fix the sizes, or the scale"
        )
    if x.dtype == torch.uint8:
        out = out.round().clamp(0, 255)
    return out.to(x.dtype)


def _phases(planes: Tensor, scale: int, kernel: str) -> Tensor:
    """[N 1 H W] -> [N, scale * scale, H, W]: the outputs that lie in each input pixel, row by row."""
    taps = torch.tensor(phase_weights(kernel, scale).tolist(), dtype=planes.dtype, device=planes.device)
    N, _, H, W = planes.shape
    radius = taps.shape[1] // 2
    vertical, horizontal = taps[:, None, :, None], taps[:, None, None, :]

    def normalised(x: Tensor, taps: Tensor, padding: tuple[int, int], line: Tensor) -> Tensor:
        return F.conv2d(x, taps, padding=padding) / F.conv2d(torch.ones_like(line), taps, padding=padding)

    rows = normalised(planes, vertical, (radius, 0), planes[:1, :, :, :1])
    columns = normalised(rows.view(N * scale, 1, H, W), horizontal, (0, radius), planes[:1, :, :1, :])
    return columns.view(N, scale * scale, H, W)

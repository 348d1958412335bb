"""The fast PyTorch path, which is also what goes into exported files: three convolutions a scale, static operators.

One 3x3 convolution on the colour channels gives centred luma, both derivatives and the Laplacian; two one-dimensional
depthwise ones blur the six products. Padding is constant, so H and W may be dynamic.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from sr_kernels.content_stats.constants import (
    BLUR,
    COHERENCE_FLOOR,
    GREY,
    LAPLACIAN,
    LOG_SCALE,
    LUMA,
    RADIUS,
    SCHARR,
    SCHARR_NORM,
    TRACE_FLOOR,
)

CENTRE = 0.5  # luma is centred before it is squared: <y^2> - <y>^2 then loses two bits less


class Local(NamedTuple):
    """Stencil outputs (B,4,H+6,W+6) and blurred products (B,6,H,W) of one scale."""

    stencils: Tensor
    blurred: Tensor


def content_stats(x: Tensor, window: int) -> tuple[Tensor, Tensor, Tensor]:
    """Fine, coarse and difficulty of a picture (B, 1 or 3, H, W); arguments as in api.py."""
    picture = x.to(compute_dtype(x))
    fine = statistics(local(picture).blurred)
    coarse = statistics(local(halve(picture)).blurred)
    return fine.to(x.dtype), coarse.to(x.dtype), difficulty(fine[:, :1], window).to(x.dtype)


def local(x: Tensor) -> Local:
    """Everything of a picture that needs neighbours."""
    extended = F.pad(x, (RADIUS,) * 4, mode="replicate")
    stencils = F.conv2d(extended, stencil_weights(x), stencil_bias(x))
    y, gx, gy, lap = stencils.split(1, 1)
    products = torch.cat([lap.abs(), gx * gx, gx * gy, gy * gy, y, y * y], 1)
    columns, rows = blur_weights(x)
    return Local(stencils, F.conv2d(F.conv2d(products, columns, groups=6), rows, groups=6))


def statistics(blurred: Tensor) -> Tensor:
    """(B,6,H,W) -> (B,8,H,W), pointwise; the formulas are in reference.py."""
    abs_lap, J11, J12, J22, mean, square = blurred.split(1, 1)
    trace = J11 + J22
    a, b = (J11 - J22) / (trace + TRACE_FLOOR), 2 * J12 / (trace + TRACE_FLOOR)
    coherence = (a * a + b * b + COHERENCE_FLOOR**2).sqrt()
    variance = (square - mean * mean).clamp_min(0)
    return torch.cat(
        [
            LOG_SCALE * torch.log1p(GREY * abs_lap),
            LOG_SCALE / 2 * torch.log1p(GREY**2 * variance),
            LOG_SCALE / 2 * torch.log1p(GREY**2 * trace),
            a,
            b,
            (a * a - b * b) / coherence,
            2 * a * b / coherence,
            mean + CENTRE,
        ],
        1,
    )


def halve(x: Tensor) -> Tensor:
    """Mean of 2x2 pixels; repeating the edge pixel makes that the mean of those there are."""
    return F.avg_pool2d(F.pad(x, (0, 1, 0, 1), mode="replicate"), 2)


def difficulty(log_laplacian: Tensor, window: int) -> Tensor:
    """(B,1,H,W) -> (B, 2, ceil(H/window), ceil(W/window)). Values are >= 0, so zeros around change no maximum."""
    padded = pad_to_windows(log_laplacian, window)
    return torch.cat(
        [F.avg_pool2d(padded, window) / window_share(log_laplacian, window), F.max_pool2d(padded, window)], 1
    )


def pad_to_windows(x: Tensor, window: int) -> Tensor:
    """Zeros below and to the right, enough for the last window whatever the size."""
    return F.pad(x, (0, window - 1, 0, window - 1))


def window_share(x: Tensor, window: int) -> Tensor:
    """(1, 1, windows, windows): the share of each window's pixels that the picture has."""
    return F.avg_pool2d(pad_to_windows(torch.ones_like(x[:1, :1]), window), window)


def stencil_weights(x: Tensor) -> Tensor:
    """(4, channels, 3, 3): luma, its derivatives along columns and rows, its Laplacian."""
    scharr = x.new_tensor(SCHARR) / SCHARR_NORM
    identity = x.new_tensor(((0.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 0.0)))
    stencils = torch.stack([identity, scharr, scharr.t(), x.new_tensor(LAPLACIAN)])
    colours = x.new_tensor(LUMA if x.shape[1] == 3 else (1.0,))
    return stencils[:, None] * colours[:, None, None]


def stencil_bias(x: Tensor) -> Tensor:
    return x.new_tensor((-CENTRE, 0.0, 0.0, 0.0))


def blur_weights(x: Tensor) -> tuple[Tensor, Tensor]:
    """Depthwise (6, 1, 7, 1) and (6, 1, 1, 7)."""
    blur = x.new_tensor(BLUR)
    return blur.view(1, 1, 7, 1).expand(6, 1, 7, 1), blur.view(1, 1, 1, 7).expand(6, 1, 1, 7)


def compute_dtype(x: Tensor) -> torch.dtype:
    return torch.float64 if x.dtype == torch.float64 else torch.float32

"""The specification of the content statistics, each 9x9 neighbourhood written out. Differentiable to any order.

With y the luma continued by its edge pixels, <.> the 7x7 binomial mean, gx, gy the Scharr derivatives along columns and
rows, L the 5-point Laplacian, J11 = <gx gx>, J12 = <gx gy>, J22 = <gy gy>, T = J11 + J22::

    0  log Laplacian   s log(1 + 255 <|L|>)
    1  log deviation   s/2 log(1 + 255^2 <(y - <y>)^2>)
    2  log energy      s/2 log(1 + 255^2 T)
    3  coherence c2    a = (J11 - J22) / (T + 1/255^2)                 c2, s2 = cos, sin of twice the gradient's angle
    4  coherence s2    b = 2 J12 / (T + 1/255^2)
    5  coherence c4    (a a - b b) / sqrt(a a + b b + 1e-4)            the same of four times the angle
    6  coherence s4    2 a b / sqrt(a a + b b + 1e-4)
    7  mean            <y>

s = 1/4. Coherence (l1 - l2) / (l1 + l2) of the structure tensor's eigenvalues is sqrt(a a + b b): Bigun and Granlund,
"Optimal orientation detection of linear symmetry", ICCV 1987. Difficulty is the mean and the maximum of statistic 0
over a window: <|L|> orders windows by the error of bicubic upscaling nearly as well as a fit of seven statistics does.
"""

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


def content_stats(x: Tensor, window: int) -> tuple[Tensor, Tensor, Tensor]:
    """Fine, coarse and difficulty of a picture (B, 1 or 3, H, W); arguments as in api.py, checked there."""
    y = luma(x.to(torch.float64 if x.dtype == torch.float64 else torch.float32))
    fine = _statistics(y)
    coarse = _statistics(_halve(y))
    return fine.to(x.dtype), coarse.to(x.dtype), _difficulty(fine[:, 0], window).to(x.dtype)


def luma(x: Tensor) -> Tensor:
    """(B, 1 or 3, H, W) -> (B, 1, H, W)."""
    return x if x.shape[1] == 1 else (x * x.new_tensor(LUMA).view(3, 1, 1)).sum(1, keepdim=True)


def _statistics(y: Tensor) -> Tensor:
    """(B,1,H,W) -> (B,8,H,W)."""
    H, W = y.shape[2:]
    extended = F.pad(y, (RADIUS,) * 4, mode="replicate")
    scharr, laplacian = y.new_tensor(SCHARR) / SCHARR_NORM, y.new_tensor(LAPLACIAN)
    gx, gy, lap = (F.conv2d(extended, stencil[None, None]) for stencil in (scharr, scharr.t(), laplacian))
    blur = y.new_tensor(BLUR)
    weights = torch.outer(blur, blur).flatten()[:, None]

    def neighbours(map_: Tensor) -> Tensor:
        return F.unfold(map_, 7).unflatten(2, (H, W))

    def mean(map_: Tensor) -> Tensor:
        return (neighbours(map_) * weights[..., None]).sum(1)

    J11, J12, J22 = mean(gx * gx), mean(gx * gy), mean(gy * gy)
    patches = neighbours(extended[:, :, 1:-1, 1:-1])
    average = (patches * weights[..., None]).sum(1)
    variance = ((patches - average[:, None]).square() * weights[..., None]).sum(1)
    a = (J11 - J22) / (J11 + J22 + TRACE_FLOOR)
    b = 2 * J12 / (J11 + J22 + TRACE_FLOOR)
    coherence = (a * a + b * b + COHERENCE_FLOOR**2).sqrt()
    return torch.stack(
        [
            LOG_SCALE * torch.log1p(GREY * mean(lap.abs())),
            LOG_SCALE / 2 * torch.log1p(GREY**2 * variance),
            LOG_SCALE / 2 * torch.log1p(GREY**2 * (J11 + J22)),
            a,
            b,
            (a * a - b * b) / coherence,
            2 * a * b / coherence,
            average,
        ],
        1,
    )


def _halve(y: Tensor) -> Tensor:
    """Mean of 2x2 pixels; at an odd edge of the pixels there are."""
    H, W = y.shape[2:]
    rows = [y[:, :, i : i + 2].mean(2) for i in range(0, H, 2)]
    return torch.stack([torch.stack([row[..., j : j + 2].mean(-1) for j in range(0, W, 2)], -1) for row in rows], 2)


def _difficulty(log_laplacian: Tensor, window: int) -> Tensor:
    """(B,H,W) -> (B, 2, ceil(H/window), ceil(W/window)): mean and maximum over the pixels a window has."""
    H, W = log_laplacian.shape[1:]
    cells = [
        [log_laplacian[:, i : i + window, j : j + window].flatten(1) for j in range(0, W, window)]
        for i in range(0, H, window)
    ]
    mean = torch.stack([torch.stack([cell.mean(1) for cell in row], -1) for row in cells], -2)
    maximum = torch.stack([torch.stack([cell.max(1).values for cell in row], -1) for row in cells], -2)
    return torch.stack([mean, maximum], 1)

"""Specification of `content_stats`, in plain PyTorch.

With y the luma and B the 7x7 binomial blur (1, 6, 15, 20, 15, 6, 1) / 64 per axis, all borders replicated:

    gx, gy   Scharr derivatives, (3, 10, 3) / 32 across (-1, 0, 1): unit response to a ramp of slope 1
    L        5-point Laplacian
    J        structure tensor: J11 = B gx^2, J12 = B gx gy, J22 = B gy^2; trace t = J11 + J22
    a, b     (J11 - J22) / (t + e), 2 J12 / (t + e): coherence times cos, sin of twice the gradient's angle
    k        sqrt(a^2 + b^2 + f^2): the coherence, bounded away from 0

    fine = [ l(B |L|), l(std), l2(t), a, b, (a^2 - b^2) / k, 2 a b / k, B y ]
    std = sqrt(max(B y^2 - (B y)^2, 0) + f^2) - f
    l(v) = log(1 + 255 v) / log(256),  l2(v) = log(1 + 255^2 v) / log(1 + 255^2)

e = 1e-5 is the trace of the rounding noise of 8-bit pictures, f = 1e-3 a quarter of a grey level: both keep values and
gradients finite on flat ground. Products of angles avoid atan2, which ONNX lacks. `coarse` is the same on 2x2 means.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

LUMA = (0.299, 0.587, 0.114)
BINOMIAL = (1 / 64, 6 / 64, 15 / 64, 20 / 64, 15 / 64, 6 / 64, 1 / 64)
TRACE_NOISE = 1e-5
FLOOR = 1e-3
LEVELS = 255.0


def content_stats(x: Tensor, window: int) -> tuple[Tensor, Tensor, Tensor]:
    """`api.content_stats` without checks: fine, coarse, difficulty."""
    y = luma(x)
    fine, coarse = statistics(y), statistics(half(y))
    hard = fine[:, :1]
    cells = [
        [torch.cat((cell.mean((2, 3)), cell.amax((2, 3))), dim=1) for cell in rows.split(window, dim=3)]
        for rows in hard.split(window, dim=2)
    ]
    return fine, coarse, torch.stack([torch.stack(row, dim=-1) for row in cells], dim=-2)


def luma(x: Tensor) -> Tensor:
    """[B 1 H W] brightness in at least fp32: BT.601 weights of RGB, or the one channel there is."""
    x = x.to(torch.promote_types(x.dtype, torch.float32))
    if x.shape[1] == 1:
        return x
    return sum(weight * x[:, i : i + 1] for i, weight in enumerate(LUMA))  # pyright: ignore[reportReturnType]


def half(y: Tensor) -> Tensor:
    """[B 1 ceil(H/2) ceil(W/2)]: means of 2x2 cells; a cell cut by the border is the mean of what it has."""
    bottom, right = y.shape[2] % 2, y.shape[3] % 2
    return F.avg_pool2d(F.pad(y, (0, right, 0, bottom), mode="replicate"), 2)


def statistics(y: Tensor) -> Tensor:
    """[B 1 H W] -> the eight channels [B 8 H W]."""
    across = y.new_tensor([[-3.0, 0.0, 3.0], [-10.0, 0.0, 10.0], [-3.0, 0.0, 3.0]]) / 32
    laplacian = y.new_tensor([[0.0, 1.0, 0.0], [1.0, -4.0, 1.0], [0.0, 1.0, 0.0]])
    taps = y.new_tensor(BINOMIAL)
    gx, gy, edge = (_filtered(y, kernel) for kernel in (across, across.T, laplacian))
    edge, j11, j12, j22, mean, square = (
        _filtered(term, torch.outer(taps, taps)) for term in (edge.abs(), gx * gx, gx * gy, gy * gy, y, y * y)
    )
    return channels(edge, j11, j12, j22, mean, square)


def channels(edge: Tensor, j11: Tensor, j12: Tensor, j22: Tensor, mean: Tensor, square: Tensor) -> Tensor:
    """The pointwise half of the specification: blurred terms [B 1 H W] -> [B 8 H W]."""
    std = ((square - mean * mean).clamp_min(0) + FLOOR * FLOOR).sqrt() - FLOOR
    trace = j11 + j22
    a, b = (j11 - j22) / (trace + TRACE_NOISE), 2 * j12 / (trace + TRACE_NOISE)
    k = (a * a + b * b + FLOOR * FLOOR).sqrt()
    terms = (_log(edge, LEVELS), _log(std, LEVELS), _log(trace, LEVELS**2), a, b, (a * a - b * b) / k, 2 * a * b / k)
    return torch.cat((*terms, mean), dim=1)


def _log(value: Tensor, levels: float) -> Tensor:
    return torch.log1p(levels * value) / math.log1p(levels)


def _filtered(y: Tensor, kernel: Tensor) -> Tensor:
    radius = kernel.shape[-1] // 2
    return F.conv2d(F.pad(y, (radius,) * 4, mode="replicate"), kernel[None, None])

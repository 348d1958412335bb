"""Gradient of the content statistics by hand: everything is computed again from the picture, nothing else is kept."""

import torch
import torch.nn.functional as F
from torch import Tensor

from sr_kernels.content_stats import fast
from sr_kernels.content_stats.constants import COHERENCE_FLOOR, GREY, LOG_SCALE, RADIUS, TRACE_FLOOR


def backward(d_fine: Tensor, d_coarse: Tensor, d_difficulty: Tensor, x: Tensor, window: int) -> Tensor:
    """Gradient of the picture from those of the three outputs. Zero, never NaN, where the picture is constant."""
    dtype = fast.compute_dtype(x)
    picture, d_fine, d_coarse, d_difficulty = (t.to(dtype) for t in (x, d_fine, d_coarse, d_difficulty))
    found = fast.local(picture)
    log_laplacian = fast.statistics(found.blurred)[:, :1]
    through_windows = _difficulty(d_difficulty, log_laplacian, window)
    d_fine = torch.cat([d_fine[:, :1] + through_windows, d_fine[:, 1:]], 1)
    half = fast.halve(picture)
    d_half = _local(_statistics(d_coarse, (small := fast.local(half)).blurred), small.stencils, half)
    return (_local(_statistics(d_fine, found.blurred), found.stencils, picture) + _halve(d_half, picture)).to(x.dtype)


def _difficulty(grad: Tensor, log_laplacian: Tensor, window: int) -> Tensor:
    """Gradient (B,1,H,W) of the window means and maxima (B,2,h,w)."""
    H, W = log_laplacian.shape[2:]
    padded = fast.pad_to_windows(log_laplacian, window)
    share = fast.window_share(log_laplacian, window)
    spread = (grad[:, :1] / share / window**2).repeat_interleave(window, 2).repeat_interleave(window, 3)[..., :H, :W]
    where = F.max_pool2d(padded, window, return_indices=True)[1]
    peaks = torch.zeros_like(padded).flatten(2).scatter_(2, where.flatten(2), grad[:, 1:].flatten(2))
    return spread + peaks.view_as(padded)[..., :H, :W]


def _statistics(grad: Tensor, blurred: Tensor) -> Tensor:
    """Gradient (B,6,H,W) of the pointwise formulas."""
    abs_lap, J11, J12, J22, mean, square = blurred.split(1, 1)
    d_log_lap, d_log_std, d_log_trace, d_c2, d_s2, d_c4, d_s4, d_mean = grad.split(1, 1)
    trace = J11 + J22
    a, b = (J11 - J22) / (trace + TRACE_FLOOR), 2 * J12 / (trace + TRACE_FLOOR)
    coherence = (a * a + b * b + COHERENCE_FLOOR**2).sqrt()
    cosine, sine = (a * a - b * b) / coherence, 2 * a * b / coherence
    radial = (d_c4 * cosine + d_s4 * sine) / coherence**2
    d_a = d_c2 + 2 * (d_c4 * a + d_s4 * b) / coherence - radial * a
    d_b = d_s2 + 2 * (d_s4 * a - d_c4 * b) / coherence - radial * b

    variance = square - mean * mean
    d_variance = d_log_std * (LOG_SCALE / 2 * GREY**2) / (1 + GREY**2 * variance.clamp_min(0)) * (variance > 0)
    d_trace = d_log_trace * (LOG_SCALE / 2 * GREY**2) / (1 + GREY**2 * trace)
    d_trace = d_trace - (d_a * a + d_b * b) / (trace + TRACE_FLOOR)
    d_difference, d_J12 = d_a / (trace + TRACE_FLOOR), 2 * d_b / (trace + TRACE_FLOOR)
    return torch.cat(
        [
            d_log_lap * (LOG_SCALE * GREY) / (1 + GREY * abs_lap),
            d_trace + d_difference,
            d_J12,
            d_trace - d_difference,
            d_mean - 2 * mean * d_variance,
            d_variance,
        ],
        1,
    )


def _local(grad: Tensor, stencils: Tensor, x: Tensor) -> Tensor:
    """Gradient of the picture from that of the blurred products."""
    columns, rows = fast.blur_weights(x)
    grad = F.conv_transpose2d(F.conv_transpose2d(grad, rows, groups=6), columns, groups=6)
    d_abs, d_J11, d_J12, d_J22, d_mean, d_square = grad.split(1, 1)
    y, gx, gy, lap = stencils.split(1, 1)
    d_stencils = torch.cat(
        [d_mean + 2 * y * d_square, 2 * gx * d_J11 + gy * d_J12, 2 * gy * d_J22 + gx * d_J12, lap.sign() * d_abs], 1
    )
    d_extended = F.conv_transpose2d(d_stencils, fast.stencil_weights(x))
    return torch.ops.aten.replication_pad2d_backward(d_extended, x, [RADIUS] * 4)


def _halve(grad: Tensor, x: Tensor) -> Tensor:
    """Gradient of the picture from that of its 2x2 means."""
    H, W = x.shape[2:]
    spread = (grad / 4).repeat_interleave(2, 2).repeat_interleave(2, 3)
    padded = F.pad(spread, (0, W + 1 - spread.shape[3], 0, H + 1 - spread.shape[2]))
    return torch.ops.aten.replication_pad2d_backward(padded, x, [0, 1, 0, 1])

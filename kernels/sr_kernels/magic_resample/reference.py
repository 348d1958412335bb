"""The specification of `magic_resample` in plain PyTorch: differentiable any number of times, any device.

Classical:  C x = A_h x A_w^T with the rows of `filters.axis_weights`.
Learned:    C x + U (z(gains) - z(1)), z on the input grid, U the plain magic kernel to the output size. Neutral
            gains (all 1) are therefore exactly classical, edges included.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from sr_kernels.magic_resample.filters import FILTERS, axis_weights


def magic_resample(x: Tensor, size: tuple[int, int], kernel: str, gains: Tensor | None, basis: Tensor | None) -> Tensor:
    """Resample float `x` [B C H W] to `size`; shapes and meaning as in `api.magic_resample`."""
    wide = x.to(torch.promote_types(x.dtype, torch.float32))
    with torch.autocast(x.device.type, enabled=False):
        out = resample(wide, size, kernel)
        if gains is not None:
            gains = gains.to(wide.dtype)
            neutral = torch.ones_like(gains)
            out = out + resample(
                sharpened(wide, gains, kernel, basis) - sharpened(wide, neutral, kernel, basis), size, "magic"
            )
    if x.dtype == torch.uint8:
        out = out.round().clamp(0, 255)
    return out.to(x.dtype, memory_format=memory_format(x))


def memory_format(x: Tensor) -> torch.memory_format:
    """channels_last if `x` is and is not contiguous as well (as pictures of one channel or one pixel are)."""
    last = x.is_contiguous(memory_format=torch.channels_last) and not x.is_contiguous()
    return torch.channels_last if last else torch.contiguous_format


def resample(x: Tensor, size: tuple[int, int], kernel: str) -> Tensor:
    """A_h x A_w^T of float32 or float64 `x` [B C H W]."""
    rows = dense_weights(kernel, x.shape[2], size[0]).to(x)
    columns = dense_weights(kernel, x.shape[3], size[1]).to(x)
    return torch.einsum("oh,bchw,pw->bcop", rows, x, columns)


def dense_weights(kernel: str, n_in: int, n_out: int) -> Tensor:
    """The matrix [n_out, n_in] of one axis, float64."""
    start, weights = (torch.from_numpy(a) for a in axis_weights(kernel, n_in, n_out))
    columns = start[:, None] + torch.arange(weights.shape[1])
    return torch.zeros(n_out, n_in, dtype=torch.float64).scatter_(1, columns, weights)


def sharpened(x: Tensor, gains: Tensor, kernel: str, basis: Tensor | None) -> Tensor:
    """z(gains) on the input grid; replicated border, so that every stencil sums to zero at the edges too."""
    if basis is not None:
        terms = [gains[:, g : g + 1] * stencil(x, taps) for g, taps in enumerate(basis.to(x))]
        return x + sum(terms)
    lags = FILTERS[kernel].lags
    for axis, axis_gains in ((2, gains[:, : len(lags)]), (3, gains[:, len(lags) :])):
        x = x + sum(c * axis_gains[:, k : k + 1] * lag(x, axis, k + 1) for k, c in enumerate(lags))
    return x


def lag(x: Tensor, axis: int, k: int) -> Tensor:
    """(x[i-k] + x[i+k]) / 2 - x[i] along `axis`."""
    n = x.shape[axis]
    i = torch.arange(n, device=x.device)
    before, after = x.index_select(axis, (i - k).clamp(min=0)), x.index_select(axis, (i + k).clamp(max=n - 1))
    return (before + after) / 2 - x


def stencil(x: Tensor, taps: Tensor) -> Tensor:
    """sum_j taps_j (x[i+j] - x[i]) for taps [k k]: zero-sum whatever the centre tap holds."""
    k = taps.shape[0]
    padded = F.pad(x, (k // 2,) * 4, mode="replicate")
    H, W = x.shape[2:]
    moved = [taps[i, j] * (padded[:, :, i : i + H, j : j + W] - x) for i in range(k) for j in range(k)]
    return torch.stack(moved).sum(0)

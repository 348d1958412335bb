"""The learned form on the input grid: how far gains bend the sharpening, and the gradients of that.

z(gains) - z(1), written so that it is exactly zero at neutral gains: sharpening along an axis 1 + E (E = sum_k c_k D_k)
becomes 1 + E + e with e = sum_k (gains_k - 1) c_k D_k, hence z(g) - z(1) = (1 + Ex) ey x + ex (1 + Ey + ey) x.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from sr_kernels.magic_resample.filters import FILTERS


def correction(x: Tensor, gains: Tensor, kernel: str, basis: Tensor | None) -> Tensor:
    """z(gains) - z(1) of float32 or float64 `x` [B C H W], in its shape; differentiable."""
    planes, excess = _planes(x), _excess(gains, x)
    if basis is not None:
        taps = zero_sum(basis.to(x))
        if excess.numel() == len(taps):  # the same for every pixel: the stencils add up to one
            stencil = (excess.view(-1, 1, 1) * taps).sum(0)
            # Channels as groups: with planes as a batch oneDNN takes more than twice as long.
            padded = F.pad(x, _border(taps), mode="replicate")
            return F.conv2d(padded, stencil.expand(x.shape[1], 1, -1, -1), groups=x.shape[1])
        return _weighted(_correlate(planes, taps), excess).view_as(x)
    lags, sharpening = lag_taps(kernel, x)
    n = len(lags)
    vertical = _correlate(planes, torch.cat([lags, sharpening]).unsqueeze(2))
    bent = _weighted(vertical[:, :n], excess[:, :, :n])
    horizontal = _correlate(vertical[:, n:] + bent, lags.unsqueeze(1))
    return (_correlate(bent, sharpening.unsqueeze(1)) + _weighted(horizontal, excess[:, :, n:])).view_as(x)


def correction_gradients(
    grad: Tensor, x: Tensor, gains: Tensor, kernel: str, basis: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Gradients of `x` and `gains` for the gradient `grad` of their correction, without autograd."""
    planes, excess, z = _planes(x), _excess(gains, x), _planes(grad)
    if basis is not None:
        taps = zero_sum(basis.to(x))
        dx = _correlate_transposed(_spread(z, excess), taps)
        dgains = _collect(_correlate(planes, taps), z, x, gains)
        return dx.view_as(x), dgains.to(gains.dtype)
    lags, sharpening = lag_taps(kernel, x)
    n = len(lags)
    rows, columns = torch.cat([lags, sharpening]).unsqueeze(2), lags.unsqueeze(1)
    vertical = _correlate(planes, rows)
    sharpened = vertical[:, n:] + _weighted(vertical[:, :n], excess[:, :, :n])
    dgains_x = _collect(_correlate(sharpened, columns), z, x, gains[:, n:])
    dsharpened = _correlate_transposed(_spread(z, excess[:, :, n:]), columns)
    dbent = dsharpened + _correlate_transposed(z, sharpening.unsqueeze(1))
    dgains_y = _collect(vertical[:, :n], dbent, x, gains[:, :n])
    dx = _correlate_transposed(torch.cat([_spread(dbent, excess[:, :, :n]), dsharpened], 1), rows)
    return dx.view_as(x), torch.cat([dgains_y, dgains_x], 1).to(gains.dtype)


def zero_sum(basis: Tensor) -> Tensor:
    """The stencils [G k k] with minus the sum of the other taps in the centre."""
    centre = torch.zeros_like(basis[0])
    centre[basis.shape[1] // 2, basis.shape[2] // 2] = 1
    return basis - centre * basis.sum((1, 2), keepdim=True)


def lag_taps(kernel: str, like: Tensor) -> tuple[Tensor, Tensor]:
    """c_k D_k as taps [n, 2n + 1], and the whole sharpening 1 + sum_k c_k D_k as taps [1, 2n + 1]."""
    filter_ = FILTERS[kernel]
    n = len(filter_.lags)
    lags = [[0.0] * (2 * n + 1) for _ in range(n)]
    for k, c in enumerate(filter_.lags, start=1):
        lags[k - 1][n - k] = lags[k - 1][n + k] = c / 2
        lags[k - 1][n] = -c
    taps = torch.tensor([*lags, list(filter_.sharpening)], dtype=like.dtype, device=like.device)
    return taps[:n], taps[n:]


def _planes(x: Tensor) -> Tensor:
    """[B C H W] -> [N 1 H W] with N = B * C."""
    return x.reshape(x.shape[0] * x.shape[1], 1, *x.shape[2:])


def _excess(gains: Tensor, x: Tensor) -> Tensor:
    """gains - 1 as [B|1, 1, G, H|1, W|1]."""
    return (gains.to(x.dtype) - 1).unsqueeze(1)


def _weighted(terms: Tensor, excess: Tensor) -> Tensor:
    """sum_g excess_g * terms_g: [N G H W] -> [N 1 H W]."""
    N, G, H, W = terms.shape
    B = excess.shape[0]
    return (terms.view(B, N // B, G, H, W) * excess).sum(2).view(N, 1, H, W)


def _spread(z: Tensor, excess: Tensor) -> Tensor:
    """The transpose of `_weighted`: [N 1 H W] -> [N G H W]."""
    N, _, H, W = z.shape
    B = excess.shape[0]
    return (z.view(B, N // B, 1, H, W) * excess).view(N, -1, H, W)


def _collect(terms: Tensor, z: Tensor, x: Tensor, gains: Tensor) -> Tensor:
    """Gradient of the gains: terms [N G H W] times z [N 1 H W], summed over whatever a gain is shared by."""
    B, C, H, W = x.shape
    product = (terms * z).view(B, C, -1, H, W).sum(1)
    return product.sum_to_size(gains.shape)


def _correlate(planes: Tensor, taps: Tensor) -> Tensor:
    """[N 1 H W] with each of the taps [G kh kw], replicated border -> [N G H W]."""
    return F.conv2d(F.pad(planes, _border(taps), mode="replicate"), taps.unsqueeze(1))


def _correlate_transposed(terms: Tensor, taps: Tensor) -> Tensor:
    """The transpose of `_correlate`: [N G H W] -> [N 1 H W]."""
    spread = F.conv_transpose2d(terms, taps.unsqueeze(1))
    border = _border(taps)
    return torch.ops.aten.replication_pad2d_backward(spread, terms[:, :1], border) if any(border) else spread


def _border(taps: Tensor) -> list[int]:
    """Left, right, top, bottom."""
    kh, kw = taps.shape[1:]
    return [kw // 2, kw // 2, kh // 2, kh // 2]

"""The fast PyTorch path: one convolution for the derivatives, one separable blur of all terms together.

Everything is static for export: no atan2, no shape that depends on values.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from sr_kernels.content_stats.reference import BINOMIAL, channels, half, luma


def content_stats(x: Tensor, window: int) -> tuple[Tensor, Tensor, Tensor]:
    """`api.content_stats` without checks: fine, coarse, difficulty."""
    y = luma(x)
    fine, coarse = _statistics(y), _statistics(half(y))
    return fine, coarse, _difficulty(fine[:, :1], window)


def _statistics(y: Tensor) -> Tensor:
    B, _, H, W = y.shape
    stencils = y.new_tensor(
        [
            [[-3 / 32, 0, 3 / 32], [-10 / 32, 0, 10 / 32], [-3 / 32, 0, 3 / 32]],
            [[-3 / 32, -10 / 32, -3 / 32], [0, 0, 0], [3 / 32, 10 / 32, 3 / 32]],
            [[0, 1, 0], [1, -4, 1], [0, 1, 0]],
        ]
    )
    derivatives = F.conv2d(F.pad(y, (1, 1, 1, 1), mode="replicate"), stencils[:, None])
    gx, gy, edge = derivatives.split(1, dim=1)
    terms = torch.cat((edge.abs(), gx * gx, gx * gy, gy * gy, y, y * y), dim=1)
    # As planes of their own: a depthwise convolution of few channels is the slow path of most libraries.
    planes = F.pad(terms, (3, 3, 3, 3), mode="replicate").reshape(B * 6, 1, H + 6, W + 6)
    taps = y.new_tensor(BINOMIAL)
    blurred = F.conv2d(F.conv2d(planes, taps.view(1, 1, 7, 1)), taps.view(1, 1, 1, 7)).view(B, 6, H, W)
    return channels(*blurred.split(1, dim=1))


def _difficulty(hard: Tensor, window: int) -> Tensor:
    """[B 1 H W] of values >= 0 -> mean and maximum [B 2 ceil(H/window) ceil(W/window)] over the pixels there are."""
    H, W = hard.shape[2:]
    border = (0, -W % window, 0, -H % window)
    padded = F.pad(hard, border)
    present = F.avg_pool2d(F.pad(torch.ones_like(hard[:1]), border), window)
    return torch.cat((F.avg_pool2d(padded, window) / present, F.max_pool2d(padded, window)), dim=1)

"""The learned Magic Kernel: a classical upsampler that training and content can bend, never break."""

from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sr_engine.layers.content import STATISTICS, Content
from sr_kernels import functional as K

# Output pixels of an input pixel reach 4 pixels with mks2021 (3 taps of sharpening, 1 of the magic kernel).
KERNEL_REACH = 4


def directional_lags(reach: int = 2) -> Tensor:
    """(n, k, k) stencils (x[i+d] + x[i-d]) / 2 - x[i], one for each of the n = (k^2 - 1) / 2 directions d of a
    neighbourhood of k = 2 * reach + 1 pixels a side: 12 of 5x5, 24 of 7x7.

    They span every point-symmetric filter of that size and zero sum: any mix leaves constants and linear ramps alone.
    """
    # Before the offsets, which are a list: what cannot be in memory fails here.
    stencils = torch.zeros(2 * reach * (reach + 1), 2 * reach + 1, 2 * reach + 1)
    sides = range(-reach, reach + 1)
    offsets = [(dy, dx) for dy in range(reach + 1) for dx in sides if (dy, dx) > (0, 0)]
    for stencil, (dy, dx) in zip(stencils, offsets, strict=True):
        stencil[reach + dy, reach + dx] = stencil[reach - dy, reach - dx] = 0.5
        stencil[reach, reach] = -1.0
    return stencils


class MagicUpsampler(nn.Module):
    """Magic Kernel Sharp 2021 by an integer scale, plus directional stencils on the input grid with learned gains.

    Gains are g = 1 + tanh(.), bounded to (0, 2) around the neutral 1, where the result is MKS2021 exactly; it is that
    when new. The stencils sum to zero, so constants and linear ramps are kept whatever the gains.

    Args:
        scale: 1 to 4; at 1 the classical part is the identity.
        features: hidden channels of the two 1x1 convolutions that set the gains of each pixel by its content; 0 for one
            gain a stencil.
    """

    basis: Tensor
    along_axes: Tensor

    def __init__(self, scale: int, features: int = 0, reach: int = 2):
        super().__init__()
        self.scale = scale
        self.register_buffer("basis", directional_lags(reach), persistent=False)
        # 1 for the stencils of d = (0, 1) and (1, 0): -1/2 of each is {-1, 2, -1} / 4 along its axis.
        nearest = self.basis[:, [reach - 1, reach], [reach, reach - 1]].sum(1) > 0
        self.register_buffer("along_axes", nearest.float().view(1, -1, 1, 1), persistent=False)
        count = len(self.basis)
        self.level = nn.Parameter(torch.zeros(1, count, 1, 1))
        self.steer = None
        if features:
            head = nn.Conv2d(features, count, 1, bias=False)
            nn.init.zeros_(head.weight)
            self.steer = nn.Sequential(nn.Conv2d(STATISTICS, features, 1), nn.LeakyReLU(0.1, inplace=True), head)

    def forward(self, x: Tensor, content: Content | None = None, sharpness: float = 1.0) -> Tensor:
        """(B, C, H, W) in 0..1 -> (B, C, H * scale, W * scale), always fp32, not clamped; `content` is of `x`.

        `sharpness` s adds s - 1 times the first-order sharpening of Magic Kernel Sharp (I - D / 2 per axis, taps
        {-1, 6, -1} / 4) on the input grid, by shifting the gains of the two stencils along the axes: 1 is as learned.
        """
        with torch.autocast(x.device.type, enabled=False):
            if self.steer is not None and content is not None:
                bend = self._levels(self.steer, content.fine.to(self.level.dtype)).tanh_()
            else:
                bend = torch.tanh(self.level)
            neutral = 1.0 if sharpness == 1 else 1 - (sharpness - 1) / 2 * self.along_axes
            return K.magic_resample(x.float(), scale=self.scale, gains=neutral + bend, basis=self.basis)

    def _levels(self, steer: nn.Sequential, fine: Tensor) -> Tensor:
        """`level` plus what content says, (B, count, H, W): the level goes in as the bias that the head lacks."""
        first, activation, head = steer
        return F.conv2d(activation(first(fine)), cast(Tensor, head.weight), self.level.flatten())

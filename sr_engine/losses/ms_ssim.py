"""Multi-scale structural similarity (Wang, Simoncelli and Bovik 2003)."""

import math
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sr_engine.config import registry
from sr_engine.losses.inputs import LossInputs

SCALE_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)  # section 3.2, of scales 1 to 5
WINDOW, SIGMA = 11, 1.5
C1, C2 = 0.01**2, 0.03**2  # K1 and K2 for a peak of 1


@registry.register("loss", "ms_ssim")
class MSSSIMLoss(nn.Module):
    """1 - MS-SSIM of the RGB channels, each on its own; 0 for equal pictures, in fp32 also under autocast.

    A picture whose shorter side is below 176 pixels has fewer than five scales, as each needs a whole 11x11 window; the
    weights of those it has are divided by their sum. Below 11 pixels the window shrinks to the picture.
    """

    needs: ClassVar[frozenset[str]] = frozenset()

    def forward(self, inputs: LossInputs) -> Tensor:
        with torch.autocast(inputs.sr.device.type, enabled=False):
            return 1 - ms_ssim(inputs.sr.float(), inputs.hr.float()).mean()


def ms_ssim(a: Tensor, b: Tensor) -> Tensor:
    """(B,C) MS-SSIM of two (B,C,H,W) tensors with a peak of 1, in their precision and differentiable."""
    side = min(a.shape[-2:])
    scales = max(1, min(len(SCALE_WEIGHTS), 1 + int(math.log2(max(1, side // WINDOW)))))
    weights = [w / sum(SCALE_WEIGHTS[:scales]) for w in SCALE_WEIGHTS[:scales]]
    taps = _gaussian(min(WINDOW, side - 1 + side % 2), a)
    product = torch.ones_like(a[:, :, 0, 0])
    for scale, weight in enumerate(weights):
        if scale > 0:
            a, b = F.avg_pool2d(a, 2), F.avg_pool2d(b, 2)
        luminance, contrast = _ssim_terms(a, b, taps)
        term = contrast if scale < scales - 1 else luminance * contrast
        # A negative mean (anti-correlated pictures) has no real power, and a power below 1 no finite slope at 0.
        product = product * term.mean(dim=(2, 3)).clamp_min(1e-4) ** weight
    return product


def _ssim_terms(a: Tensor, b: Tensor, taps: Tensor) -> tuple[Tensor, Tensor]:
    """Luminance term and contrast-structure term of SSIM at every whole window."""
    channels = a.shape[1]
    moments = torch.cat([a, b, a * a, b * b, a * b], dim=1)
    kernel = taps.expand(5 * channels, 1, -1)
    moments = F.conv2d(moments, kernel.unsqueeze(3), groups=5 * channels)
    moments = F.conv2d(moments, kernel.unsqueeze(2), groups=5 * channels)
    mean_a, mean_b, mean_aa, mean_bb, mean_ab = moments.chunk(5, dim=1)
    variances = (mean_aa - mean_a.square()) + (mean_bb - mean_b.square())
    covariance = mean_ab - mean_a * mean_b
    luminance = (2 * mean_a * mean_b + C1) / (mean_a.square() + mean_b.square() + C1)
    return luminance, (2 * covariance + C2) / (variances + C2)


def _gaussian(window: int, like: Tensor) -> Tensor:
    at = torch.arange(window, device=like.device, dtype=like.dtype) - (window - 1) / 2
    taps = torch.exp(-at.square() / (2 * SIGMA * SIGMA))
    return taps / taps.sum()

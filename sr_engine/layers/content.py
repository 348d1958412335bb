"""What the picture looks like around each pixel, and how that modulates a network."""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sr_kernels import functional as K

# Reach of a statistic in pixels: one for the derivative, three for the 7x7 blur; the coarse ones see pairs of pixels.
STATISTICS_REACH = 2 * 4 + 1


class Content(NamedTuple):
    """Read once per picture, used by every content-aware part.

    features: (B, C, H, W) fp32, a learned mix of the statistics at both scales.
    difficulty: (B, 2, ceil(H / window), ceil(W / window)) fp32, mean and maximum of log |Laplacian| per window.
    """

    features: Tensor
    difficulty: Tensor


class ContentAnalyzer(nn.Module):
    """Content statistics of a picture (B, 3 or 1, H, W) in 0..1, and one learned non-linear 1x1 mix of them.

    Nothing is normalised per picture, so a tile whose origin is a multiple of 2 and of `window` gives what the whole
    picture gives.

    Args:
        width: channels of the features.
        window: side of the windows of the difficulty, in pixels.
    """

    def __init__(self, width: int = 16, window: int = 8):
        super().__init__()
        self.window = window
        self.mix = nn.Conv2d(16, width, 1)

    def forward(self, x: Tensor) -> Content:
        height, width = x.shape[-2:]
        with torch.autocast(x.device.type, enabled=False):
            fine, coarse, difficulty = K.content_stats(x.float(), window=self.window)
            coarse = F.interpolate(coarse, scale_factor=2.0, mode="nearest")[..., :height, :width]
            dtype = self.mix.weight.dtype
            both = torch.cat((fine, coarse), dim=1).to(dtype, memory_format=torch.channels_last)
            return Content(F.leaky_relu(self.mix(both), 0.1, inplace=True), difficulty.to(dtype))


class FiLM(nn.Module):
    """Per-pixel scale and shift of a feature map, predicted from content features; the identity when new.

    `(B, channels, H, W), (B, features, H, W) -> (B, channels, H, W)`; Perez et al. 2018, with a map for the vector.
    """

    def __init__(self, channels: int, features: int):
        super().__init__()
        self.project = nn.Conv2d(features, 2 * channels, 1)
        nn.init.zeros_(self.project.weight)
        with torch.no_grad():
            # Scale 1 lives in the bias: one fused multiply-add instead of x * (1 + scale) + shift.
            self.project.bias.copy_(torch.tensor([1.0, 0.0]).repeat_interleave(channels))  # pyright: ignore[reportOptionalMemberAccess]

    def forward(self, x: Tensor, features: Tensor) -> Tensor:
        scale, shift = self.project(features).to(x.dtype).chunk(2, dim=1)
        return torch.addcmul(shift, scale, x)

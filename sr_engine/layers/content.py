"""What the picture looks like around each pixel, and how that modulates a network."""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sr_kernels import functional as K

# Channels of both maps of `Content`: eight statistics at each of two scales.
STATISTICS = 16
# Reach of a statistic in pixels: one for the derivative, three for the 7x7 blur; the coarse ones see pairs of pixels.
STATISTICS_REACH = 2 * 4 + 1


class Content(NamedTuple):
    """Statistics of a picture, computed once and read by every content-aware part; all fp32 and of the order of 1.

    fine: (B, 16, H, W), for every pixel those of both scales.
    coarse: (B, 16, ceil(H / 2), ceil(W / 2)), the same for every cell of 2x2 pixels.
    difficulty: (B, 2, ceil(H / window), ceil(W / window)), mean and maximum of log |Laplacian| per window.
    """

    fine: Tensor
    coarse: Tensor
    difficulty: Tensor


class ContentAnalyzer(nn.Module):
    """Content statistics of a picture (B, 3 or 1, H, W) in 0..1.

    Nothing is normalised per picture, so a tile whose origin is a multiple of 2 and of `window` gives what the whole
    picture gives. There is nothing to learn here: each reader has its own 1x1 convolution of the statistics.

    Args:
        window: side of the windows of the difficulty, in pixels.
    """

    def __init__(self, window: int = 8):
        super().__init__()
        self.window = window

    def forward(self, x: Tensor) -> Content:
        with torch.autocast(x.device.type, enabled=False):
            fine, coarse, difficulty = K.content_stats(x.float(), window=self.window)
            cells = torch.cat((F.avg_pool2d(fine, 2, ceil_mode=True), coarse), dim=1)
            pixels = torch.cat((fine, double(coarse, like=fine)), dim=1)
            last = torch.channels_last
            return Content(pixels.contiguous(memory_format=last), cells.contiguous(memory_format=last), difficulty)


class FiLM(nn.Module):
    """Scale and shift of a feature map by the statistics of each 2x2 cell; the identity when new.

    `(B, channels, H, W), Content -> (B, channels, H, W)`; Perez et al. 2018, with a map for the vector. Cells in place
    of pixels halve what it costs to train a small network: a quarter of the projections and their gradients.
    """

    def __init__(self, channels: int):
        super().__init__()
        self.scale = nn.Conv2d(STATISTICS, channels, 1)
        self.shift = nn.Conv2d(STATISTICS, channels, 1)
        for parameter in self.parameters():
            nn.init.zeros_(parameter)
        nn.init.ones_(self.scale.bias)  # pyright: ignore[reportArgumentType]

    def forward(self, x: Tensor, content: Content) -> Tensor:
        cells = content.coarse.to(self.scale.weight.dtype)
        return x * double(self.scale(cells), like=x) + double(self.shift(cells), like=x)


def double(cells: Tensor, like: Tensor) -> Tensor:
    """(B, C, ceil(H / 2), ceil(W / 2)) -> (B, C, H, W), the size of `like`: each cell to its four pixels."""
    return F.interpolate(cells, scale_factor=2.0, mode="nearest")[..., : like.shape[-2], : like.shape[-1]]

"""Smooth, edge or texture: what kind of content each pixel of a picture belongs to."""

import torch
from torch import Tensor

from sr_engine.layers.content import STATISTICS, ContentAnalyzer
from sr_kernels.content_stats.constants import LOG_SCALE

REGIONS = ("smooth", "edge", "texture")

# Around this mean |Laplacian|, in grey levels of 8 bits, ground stops to look smooth; chosen by eye on photographs.
_SMOOTH_LEVEL = 5.0
_SLOPE = 4.0


def region_map(x: Tensor) -> Tensor:
    """The class of each pixel of a picture (B, 3 or 1, H, W) in 0..1: (B, H, W) int64, indices into `REGIONS`."""
    return region_classes(ContentAnalyzer()(x).fine)


def region_classes(statistics: Tensor) -> Tensor:
    """`region_map` from the statistics (B, 16, H, W) of both scales, `Content.fine`.

    The class with the largest weight, where with l = log(1 + 255 <|Laplacian|>), its threshold t, and the coherence c
    of `direction`::

        smooth = sigmoid(4 (t - l))    edge = (1 - smooth) c    texture = (1 - smooth) (1 - c)

    Nothing is normalised per picture.
    """
    level = statistics[:, 0] / LOG_SCALE
    smooth = torch.sigmoid(_SLOPE * (torch.log1p(level.new_tensor(_SMOOTH_LEVEL)) - level))
    coherence = direction(statistics).norm(dim=1)
    return torch.stack((smooth, (1 - smooth) * coherence, (1 - smooth) * (1 - coherence)), 1).argmax(1)


def direction(statistics: Tensor) -> Tensor:
    """(B, 2, H, W): coherence times cosine and sine of twice the gradient's angle, from `Content.fine`.

    The mean of both scales: noise has a direction by chance in one small neighbourhood, but not the same at two scales.
    """
    coarse = STATISTICS // 2
    return (statistics[:, 3:5] + statistics[:, coarse + 3 : coarse + 5]) / 2

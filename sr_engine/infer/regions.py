"""Smooth, edge or texture: what kind of content each pixel of a picture belongs to."""

import torch
from torch import Tensor

from sr_engine.layers.content import double
from sr_kernels import functional as K
from sr_kernels.content_stats.constants import LOG_SCALE

REGIONS = ("smooth", "edge", "texture")

# Around this mean |Laplacian|, in grey levels of 8 bits, ground stops to look smooth; chosen by eye on photographs.
_SMOOTH_LEVEL = 5.0
_SLOPE = 4.0


def region_map(x: Tensor) -> Tensor:
    """The class of each pixel of a picture (B, 3 or 1, H, W) in 0..1: (B, H, W) int64, indices into `REGIONS`.

    The class with the largest weight, where with l = log(1 + 255 <|Laplacian|>), its threshold t, and the coherence c
    of the direction::

        smooth = sigmoid(4 (t - l))    edge = (1 - smooth) c    texture = (1 - smooth) (1 - c)

    Coherence is the length of the mean of both scales' double-angle vectors: noise has a direction by chance in one
    small neighbourhood, but not the same one at two scales. Nothing is normalised per picture. The statistics and
    their reach are those of `sr_kernels.functional.content_stats`.
    """
    fine, coarse, _ = K.content_stats(x.float())
    return region_classes(fine, coarse)


def region_classes(fine: Tensor, coarse: Tensor) -> Tensor:
    """`region_map` from the two maps of `content_stats`."""
    level = fine[:, 0] / LOG_SCALE
    smooth = torch.sigmoid(_SLOPE * (torch.log1p(level.new_tensor(_SMOOTH_LEVEL)) - level))
    coherence = coherence_map(fine, coarse)
    return torch.stack((smooth, (1 - smooth) * coherence, (1 - smooth) * (1 - coherence)), 1).argmax(1)


def coherence_map(fine: Tensor, coarse: Tensor) -> Tensor:
    """(B, H, W) in 0..1: how sure a direction is at both scales together."""
    return direction(fine, coarse).norm(dim=1)


def direction(fine: Tensor, coarse: Tensor) -> Tensor:
    """(B, 2, H, W): coherence times cosine and sine of twice the gradient's angle, the mean of both scales."""
    return (fine[:, 3:5] + double(coarse[:, 3:5], like=fine)) / 2

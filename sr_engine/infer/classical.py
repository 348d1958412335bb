"""Upsamplers without training, behind the interface of a network: what every network must beat."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sr_engine.errors import EngineError
from sr_engine.models.spec import ModelSpec
from sr_kernels import functional as K

CLASSICAL = ("bicubic", "mks2021")

# Radius in low-resolution pixels: the cubic's 2, and the 4.5 of Magic Kernel Sharp 2021, rounded up.
_RADIUS = {"bicubic": 2, "mks2021": 5}


class ClassicalUpsampler(nn.Module):
    """Upsampling by an integer with a fixed kernel: (B, C, H, W) float -> (B, C, H*scale, W*scale) float, any C.

    `bicubic` is the a = -0.5 cubic of MATLAB's imresize and Pillow (published "bicubic" scores use it);
    `mks2021` is Magic Kernel Sharp 2021 (`K.magic_resample`).

    Raises:
        EngineError: unknown name, or a scale that is not a positive integer.
    """

    def __init__(self, name: str, scale: int) -> None:
        super().__init__()
        if name not in CLASSICAL:
            raise EngineError(f"classical upsampler '{name}' is unknown: expected {' or '.join(CLASSICAL)}.")
        if scale < 1:
            raise EngineError(f"scale {scale} is impossible: expected 1 or more.")
        self.name, self.scale = name, scale
        self.spec = ModelSpec(
            architecture=name,
            arguments={},
            scale=scale,
            receptive_field=_RADIUS[name],
            parameters=0,
            training={},
            licence="Apache-2.0",
        )

    def forward(self, x: Tensor) -> Tensor:
        if self.name == "mks2021":
            return K.magic_resample(x, scale=self.scale, kernel="mks2021")
        # With antialias=True torch takes a = -0.5 and Pillow's borders; without it a = -0.75, which no paper scores.
        return F.interpolate(x, scale_factor=self.scale, mode="bicubic", antialias=True)


def fill_transparent(colour: Tensor, alpha: Tensor) -> Tensor:
    """Colour with everything fully transparent replaced by its visible surroundings, so that it cannot bleed.

    What lies under alpha 0 is arbitrary (often black), but a network sees it and darkens or rings the visible edge.
    Here it becomes the alpha-weighted mean of ever larger neighbourhoods (the push-pull pyramid of Gortler et al. 1996,
    "The Lumigraph", section 3.4); visible pixels stay as they are. A picture without any visible pixel becomes grey.

    Args:
        colour: (B, C, H, W) float, not premultiplied.
        alpha: (B, 1, H, W) float in 0..1.
    """
    visible = alpha > 0
    if visible.all():
        return colour
    if max(colour.shape[-2:]) == 1:
        return torch.where(visible, colour, torch.full_like(colour, 0.5))
    weight = F.avg_pool2d(alpha, 2, ceil_mode=True)
    mean = F.avg_pool2d(colour * alpha, 2, ceil_mode=True) / weight.clamp_min(torch.finfo(weight.dtype).tiny)
    around = F.interpolate(fill_transparent(mean, weight), size=colour.shape[-2:], mode="bilinear")
    return torch.where(visible, colour, around)

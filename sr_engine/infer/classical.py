"""Upsamplers without training, behind the interface of a network: what every network must beat."""

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

"""Losses on pixels and on their spectrum, reduced in fp32."""

from typing import ClassVar, Literal

import torch
from pydantic import PositiveFloat
from torch import Tensor, nn
from torch.nn import functional as F

from sr_engine.config import registry
from sr_engine.losses.inputs import LossInputs

Criterion = Literal["l1", "l2", "charbonnier"]


def distance(a: Tensor, b: Tensor, criterion: Criterion, eps: float = 1e-3) -> Tensor:
    """Mean distance of two tensors of one shape, as an fp32 scalar; `eps` is in the unit of the tensors."""
    a, b = a.float(), b.float()
    if criterion == "l1":
        return F.l1_loss(a, b)
    if criterion == "l2":
        return F.mse_loss(a, b)
    return charbonnier(a, b, eps)


def charbonnier(a: Tensor, b: Tensor, eps: float) -> Tensor:
    """mean(sqrt((a - b)^2 + eps^2)): L1 with a parabola of width eps at its tip (Charbonnier et al. 1994)."""
    return torch.sqrt((a - b).square() + eps * eps).mean()


@registry.register("loss", "l1")
class L1Loss(nn.Module):
    """Mean absolute error of the pixels."""

    needs: ClassVar[frozenset[str]] = frozenset()

    def forward(self, inputs: LossInputs) -> Tensor:
        return distance(inputs.sr, inputs.hr, "l1")


@registry.register("loss", "l2")
class L2Loss(nn.Module):
    """Mean squared error of the pixels: what PSNR measures."""

    needs: ClassVar[frozenset[str]] = frozenset()

    def forward(self, inputs: LossInputs) -> Tensor:
        return distance(inputs.sr, inputs.hr, "l2")


@registry.register("loss", "charbonnier")
class CharbonnierLoss(nn.Module):
    """Smooth L1 of the pixels; `eps` in units of [0,1] is where it turns from a parabola into a line."""

    needs: ClassVar[frozenset[str]] = frozenset()

    def __init__(self, *, eps: PositiveFloat = 1e-3) -> None:
        super().__init__()
        self.eps = eps

    def forward(self, inputs: LossInputs) -> Tensor:
        return distance(inputs.sr, inputs.hr, "charbonnier", self.eps)


@registry.register("loss", "fft")
class FFTLoss(nn.Module):
    """L1 of the real and imaginary parts of the 2-D spectrum (as MIMO-UNet and SMFANet use it, weight about 0.05).

    `norm` is that of torch.fft: "backward" is the published form, whose value grows with the side of the patch;
    "ortho" doesn't depend on it.
    """

    needs: ClassVar[frozenset[str]] = frozenset()

    def __init__(self, *, norm: Literal["backward", "ortho"] = "backward") -> None:
        super().__init__()
        self.norm = norm

    def forward(self, inputs: LossInputs) -> Tensor:
        error = torch.fft.rfft2(inputs.sr.float() - inputs.hr.float(), norm=self.norm)  # the transform is linear
        return torch.view_as_real(error).abs().mean()

"""What a loss may look at: pictures, and what the discriminator said about them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Protocol

from torch import Tensor

from sr_engine.errors import TrainingError


@dataclass(frozen=True, slots=True)
class LossInputs:
    """One batch as the losses of the generator see it.

    Args:
        sr: (B,3,H,W) output of the generator, carrying its graph; around [0,1], not clamped.
        hr: (B,3,H,W) the original pictures in [0,1].
        lr: (B,3,h,w) what the generator was given, in [0,1].
        teacher: (B,3,H,W) what the teacher makes of `lr`, in [0,1], where it was computed beforehand.
        fake_logits, fake_features: the discriminator on `sr`, when a loss `needs` "fake".
        real_logits, real_features: the discriminator on `hr` without a graph, when a loss `needs` "real".

    Raises:
        TrainingError: `sr` and `hr` differ in shape; broadcasting would hide a wrong scale.
    """

    sr: Tensor
    hr: Tensor
    lr: Tensor
    teacher: Tensor | None = None
    fake_logits: Tensor | None = None
    real_logits: Tensor | None = None
    fake_features: Mapping[str, Tensor] | None = None
    real_features: Mapping[str, Tensor] | None = None

    def __post_init__(self) -> None:
        if self.sr.shape != self.hr.shape:
            raise TrainingError(
                f"the network's output has shape {tuple(self.sr.shape)} but the originals have {tuple(self.hr.shape)}: "
                f"its scale must be that of the data."
            )


class Loss(Protocol):
    """What is registered as a loss: a module from LossInputs to one fp32 number.

    `needs` says which passes of the discriminator it looks at: a subset of {"fake", "real"}. The class attribute tells
    a configuration whether a discriminator is needed at all; an instance may need more than its class.
    """

    needs: ClassVar[frozenset[str]]

    def __call__(self, inputs: LossInputs) -> Tensor: ...

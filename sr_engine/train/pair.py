"""What an iteration takes and what it gives."""

from dataclasses import dataclass
from typing import Self

from torch import Tensor


@dataclass(frozen=True)
class Pair:
    """Patches on the device: lr (B, 3, h, w) and hr (B, 3, h*scale, w*scale), float in [0, 1], channels_last."""

    lr: Tensor
    hr: Tensor


@dataclass(frozen=True)
class StepReport:
    """Unweighted losses of an iteration (means over its parts, not yet read) and the weights of the generator's."""

    values: dict[str, Tensor]
    weights: dict[str, float]

    def settle(self) -> Self:
        """Itself: this iteration has ended (see `sr_engine.train.plain.Launched`)."""
        return self

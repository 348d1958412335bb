"""What an iteration takes and what it gives."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Self

from torch import Tensor


@dataclass(frozen=True)
class Pair:
    """Patches on the device: lr (B, 3, h, w) and hr (B, 3, h*scale, w*scale), float in [0, 1], channels_last; teacher,
    as hr, is what a teacher makes of lr, where that is kept."""

    lr: Tensor
    hr: Tensor
    teacher: Tensor | None = None

    def parts(self, count: int) -> Iterator[Self]:
        """The same in equal parts."""
        fields = self.lr, self.hr, self.teacher
        yield from map(type(self), *([x] * count if x is None else x.chunk(count) for x in fields))


@dataclass(frozen=True)
class StepReport:
    """Unweighted losses of an iteration (means over its parts, not yet read) and the weights of the generator's."""

    values: dict[str, Tensor]
    weights: dict[str, float]

    def settle(self) -> Self:
        """Itself: this iteration has ended (see `sr_engine.train.plain.Launched`)."""
        return self

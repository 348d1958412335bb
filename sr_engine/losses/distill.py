"""Losses of distillation: the generator's output, and layers inside it, shall look like those of a teacher.

They are no types of `losses` in a configuration: `distill` makes them, with a teacher and layers at hand.
"""

from collections.abc import Callable, Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sr_engine.errors import TrainingError
from sr_engine.losses.inputs import LossInputs
from sr_engine.losses.pixel import Criterion, distance

_LEAST_CONFIDENCE = 0.1
_EPS = 1e-3  # of Charbonnier


class DistillLoss(nn.Module):
    """Mean distance of the output to the teacher's, as an fp32 scalar.

    Args:
        target: (B,3,H,W) of the teacher from LossInputs, without a graph; not asked where LossInputs has it already.
        criterion: distance of two pixels.
        confidence: k; each distance is multiplied by max(exp(-k |teacher - original|), 0.1). None multiplies by 1.

    Raises (when called):
        TrainingError: the teacher's output is of another size than the generator's.
    """

    needs: ClassVar[frozenset[str]] = frozenset()

    def __init__(
        self, target: Callable[[LossInputs], Tensor], *, criterion: Criterion = "l1", confidence: float | None = None
    ) -> None:
        super().__init__()
        self._target: Callable[[LossInputs], Tensor] = target
        self.criterion: Criterion = criterion
        self.confidence = confidence

    def forward(self, inputs: LossInputs) -> Tensor:
        target = (self._target(inputs) if inputs.teacher is None else inputs.teacher).float()
        if target.shape != inputs.sr.shape:
            raise TrainingError(
                f"the teacher's output has shape {tuple(target.shape)}, but the generator's has "
                f"{tuple(inputs.sr.shape)}: both must be of the same scale."
            )
        if self.confidence is None:
            return distance(inputs.sr, target, self.criterion, _EPS)
        wrong = (target - inputs.hr.float()).abs()
        trust = torch.exp(-self.confidence * wrong).clamp_min(_LEAST_CONFIDENCE)
        return (trust * _distances(inputs.sr.float(), target, self.criterion)).mean()


class DistillFeaturesLoss(nn.Module):
    """Mean over pairs of layers of the distance between projected features and the teacher's, as an fp32 scalar.

    Both are divided by the mean magnitude of the teacher's feature; where sizes differ, that one is resized.

    Args:
        features: those of the generator, with their graph, and those of the teacher, (B,C,h,w) each.
        projections: from channels of the generator to channels of the teacher, one for each pair.
        criterion: distance of two features.
    """

    needs: ClassVar[frozenset[str]] = frozenset()

    def __init__(
        self,
        features: Callable[[LossInputs], tuple[Sequence[Tensor], Sequence[Tensor]]],
        projections: Sequence[nn.Module],
        *,
        criterion: Criterion = "l1",
    ) -> None:
        super().__init__()
        self._features: Callable[[LossInputs], tuple[Sequence[Tensor], Sequence[Tensor]]] = features
        self.projections = nn.ModuleList(projections)
        self.criterion: Criterion = criterion

    def forward(self, inputs: LossInputs) -> Tensor:
        mine, theirs = self._features(inputs)
        terms = [self._pair(*three) for three in zip(self.projections, mine, theirs, strict=True)]
        return torch.stack(terms).mean()

    def _pair(self, projection: nn.Module, mine: Tensor, theirs: Tensor) -> Tensor:
        theirs = theirs.float()
        if theirs.shape[2:] != mine.shape[2:]:
            theirs = F.interpolate(theirs, size=mine.shape[2:], mode="bilinear", antialias=True)
        size = theirs.abs().mean().clamp_min(1e-6)
        return distance(projection(mine.float()) / size, theirs / size, self.criterion, _EPS)


def _distances(a: Tensor, b: Tensor, criterion: Criterion) -> Tensor:
    """Element by element, as `sr_engine.losses.pixel.distance` averages them."""
    if criterion == "l1":
        return (a - b).abs()
    square = (a - b).square()
    return square if criterion == "l2" else torch.sqrt(square + _EPS * _EPS)

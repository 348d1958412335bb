"""What a configuration says about pruning a network while it is trained, and when that happens."""

from collections.abc import Iterator
from typing import Annotated, Literal, NamedTuple

from pydantic import Field, NonNegativeInt, PositiveInt

from sr_engine.config.entries import Section
from sr_engine.config.problems import Problem

Criterion = Literal["taylor", "l1", "l2"]


class Turn(NamedTuple):
    """Once cutting the network.

    iteration: the first one that trains the smaller network, counted from 0.
    ratio: share of the parameters at the start of the run that are gone afterwards.
    """

    iteration: int
    ratio: float


class Prune(Section):
    """Makes the network smaller while it is trained, by whole channels, so that what is left is an ordinary smaller
    network; its average and the moments of its optimiser are cut along. What goes is what matters least to patches of
    the training, in one turn or in several with training in between. Start from a trained network (`load_from`); with
    `distill` the unpruned one may be the teacher. Not together with `training.curriculum` and `distill.features`."""

    ratio: Annotated[float, Field(gt=0, le=0.9)]
    """Share of the parameters at the start of the run that goes, counted as folded for inference."""
    start_iter: NonNegativeInt = 0
    """Iteration of the first turn."""
    end_iter: PositiveInt | None = None
    """Iteration of the last of several turns, which are evenly spaced."""
    steps: PositiveInt = 1
    """Number of turns. After turn k of n, `ratio * (1 - (1 - k/n)^3)` is gone: much at first, little at last (Zhu and
    Gupta 2017, eq. 1, from a sparsity of 0)."""
    regularise: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Pull on what the next turn will take: the share by which an iteration shrinks these weights just before the
    turn. It grows linearly from 0 over the second half of the iterations before the turn (growing regularisation, Wang
    et al. 2021, on the weights themselves instead of through the gradient, which Adam would rescale). 0 is none."""
    criterion: Criterion = "taylor"
    """How much a channel matters: `taylor`, how much the loss would change without it, to first order (Molchanov et al.
    2019), or the norm of its weights, `l1` or `l2`."""
    batches: PositiveInt = 16
    """Batches of the training that `taylor` looks at in a turn; they are not trained on."""

    def turns(self) -> list[Turn]:
        """All turns, in order."""
        span = 0 if self.end_iter is None else self.end_iter - self.start_iter
        return [
            Turn(
                self.start_iter + (k * span // (self.steps - 1) if k else 0),
                self.ratio * (1 - (1 - (k + 1) / self.steps) ** 3),
            )
            for k in range(self.steps)
        ]


def broken_turns(prune: Prune, total: int) -> Iterator[Problem]:
    """Contradictions within the section, and with the length of the training, 0 where it is not known."""
    if prune.start_iter >= total > 0:
        text = f"expected less than training.total_iter ({total}), got {prune.start_iter}"
        yield Problem(("prune", "start_iter"), text)
    end = prune.end_iter
    if prune.steps == 1:
        if end is not None:
            yield Problem(("prune", "end_iter"), f"expected steps > 1, since one turn is at start_iter, got {end}")
    elif end is None:
        text = f"expected the iteration of the last of {prune.steps} turns, got nothing"
        yield Problem(("prune", "end_iter"), text)
    elif end < (least := prune.start_iter + prune.steps - 1):
        text = f"expected at least {least}, start_iter and an iteration for each further turn, got {end}"
        yield Problem(("prune", "end_iter"), text)
    elif end >= total > 0:
        yield Problem(("prune", "end_iter"), f"expected less than training.total_iter ({total}), got {end}")

"""What happened since the last report: losses, speed, and the share of time spent waiting for data."""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

Losses = dict[str, float]


@dataclass(frozen=True)
class Interval:
    """Means over the iterations between two reports.

    Args:
        iteration: iterations done since the start of the training.
        losses: unweighted mean of each loss that was computed.
        weights: the weight each had last; values of the discriminator have none.
        lr: learning rate of the generator's last step.
        it_per_s: iterations a second, validation and saving not counted.
        data_wait: share of that time spent waiting for the next batch, 0..1.
    """

    iteration: int
    losses: dict[str, float]
    weights: dict[str, float]
    lr: float
    it_per_s: float
    data_wait: float


class Meter:
    """Collects scalars without reading them, so that a step never waits for the device on its account."""

    def __init__(self) -> None:
        self.values: dict[str, list[Tensor]] = {}
        self.weights: dict[str, float] = {}
        self.steps = 0
        self.seconds = 0.0
        self.waited = 0.0

    @contextmanager
    def step(self) -> Iterator[None]:
        """Count the enclosed time as one iteration."""
        with self.rest():
            yield
        self.steps += 1

    @contextmanager
    def rest(self) -> Iterator[None]:
        """Count the enclosed time, outside of a step, as part of the iterations before it."""
        start = time.perf_counter()
        yield
        self.seconds += time.perf_counter() - start

    @contextmanager
    def wait(self) -> Iterator[None]:
        """Count the enclosed time, which lies inside a step, as waiting for data."""
        start = time.perf_counter()
        yield
        self.waited += time.perf_counter() - start

    def add(self, values: Mapping[str, Tensor], weights: Mapping[str, float]) -> None:
        """Remember scalars of this iteration."""
        for name, value in values.items():
            self.values.setdefault(name, []).append(value.detach())
        self.weights.update(weights)

    def report(self, iteration: int, lr: float, over_ranks: Callable[[Losses], Losses] = dict) -> Interval:
        """Means since the last report; reads the scalars and starts over.

        Args:
            over_ranks: averages numbers over all processes, whose discriminators each see a part of a batch.
        """
        losses = {name: torch.stack(values).double().mean().item() for name, values in self.values.items()}
        interval = Interval(
            iteration=iteration,
            losses=over_ranks(losses),
            weights=self.weights,
            lr=lr,
            it_per_s=self.steps / self.seconds if self.seconds else 0.0,
            data_wait=self.waited / self.seconds if self.seconds else 0.0,
        )
        self.__init__()
        return interval

    def join(self) -> list[Tensor]:
        """The scalars not yet reported, those of a name in one tensor that it can be changed through."""
        joined = {name: torch.stack(values) for name, values in self.values.items()}
        self.values = {name: list(values.unbind()) for name, values in joined.items()}
        return list(joined.values())

    def state_dict(self) -> dict[str, Tensor]:
        """The scalars not yet reported, so that a resumed run reports the same means."""
        return {name: torch.stack(values).cpu() for name, values in self.values.items()}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        self.values = {name: list(values.unbind()) for name, values in state.items()}

"""Bring a step's numbers to the host in one go, and stop at those that aren't numbers."""

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, distributed

from sr_engine.errors import TrainingError


class NonFiniteLossError(TrainingError):
    """A loss is NaN or infinite; `names` are the losses that are."""

    def __init__(self, values: Mapping[str, float]) -> None:
        self.names = [name for name, value in values.items() if not math.isfinite(value)]
        listed = ", ".join(f"{name} is {values[name]}" for name in self.names)
        super().__init__(f"loss {listed}: lower the learning rate or that loss's weight, or use precision fp32.")


def fetch(scalars: Sequence[Tensor]) -> list[Tensor]:
    """Scalars as CPU scalars, averaged over all ranks: one wait for the device, however many there are.

    The average is NaN or infinite on every rank when it is on one, so ranks agree about skipping a step.
    """
    stacked = torch.stack([scalar.detach().float() for scalar in scalars])
    if distributed.is_available() and distributed.is_initialized():
        distributed.all_reduce(stacked)
        stacked /= distributed.get_world_size()
    return list(stacked.cpu().unbind())


def check_finite(values: Mapping[str, Tensor]) -> None:
    """Check fetched values.

    Raises:
        NonFiniteLossError: one of them is NaN or infinite.
    """
    numbers = {name: value.item() for name, value in values.items()}
    if not all(map(math.isfinite, numbers.values())):
        raise NonFiniteLossError(numbers)

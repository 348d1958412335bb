"""Learning rates as pure functions of the iteration, so that resuming or changing the length needs no stored state.

A schedule is called as `schedule(it, total_iter, base_lr)` with `it` counted from 0 and returns the learning rate of
that iteration. All of them rise linearly to `base_lr` during the first `warmup_iter` iterations.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from sr_engine.config import registry


class Schedule(Protocol):
    """What is registered as `scheduler`."""

    def __call__(self, it: int, total_iter: int, base_lr: float, /) -> float: ...


@registry.register("scheduler", "cosine")
@dataclass(frozen=True, kw_only=True)
class Cosine:
    """Half a cosine from the base rate down to `min_lr` at `total_iter` (Loshchilov and Hutter 2017, one period)."""

    warmup_iter: int = 0
    min_lr: float = 1e-6

    def __call__(self, it: int, total_iter: int, base_lr: float) -> float:
        if it < self.warmup_iter:
            return base_lr * _warmup(it, self.warmup_iter)
        done = min(1.0, (it - self.warmup_iter) / max(1, total_iter - self.warmup_iter))
        low = min(self.min_lr, base_lr)
        return low + (base_lr - low) * 0.5 * (1.0 + math.cos(math.pi * done))


@registry.register("scheduler", "multistep")
@dataclass(frozen=True, kw_only=True)
class MultiStep:
    """Multiply the rate by `gamma` at each of `milestones` (iterations)."""

    milestones: Sequence[int]
    gamma: float = 0.5
    warmup_iter: int = 0

    def __call__(self, it: int, _total_iter: int, base_lr: float) -> float:
        passed = sum(it >= milestone for milestone in self.milestones)
        return base_lr * _warmup(it, self.warmup_iter) * self.gamma**passed


@registry.register("scheduler", "constant")
@dataclass(frozen=True, kw_only=True)
class Constant:
    """The base rate throughout."""

    warmup_iter: int = 0

    def __call__(self, it: int, _total_iter: int, base_lr: float) -> float:
        return base_lr * _warmup(it, self.warmup_iter)


def _warmup(it: int, warmup_iter: int) -> float:
    # The first iteration already moves: a rate of 0 would waste it.
    return min(1.0, (it + 1) / (warmup_iter + 1))

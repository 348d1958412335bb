"""All losses of a run, each with its weight over the iterations."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from sr_engine.config import registry
from sr_engine.errors import TrainingError
from sr_engine.losses.balance import GradientBalance
from sr_engine.losses.finite import check_finite, fetch
from sr_engine.losses.inputs import LossInputs
from sr_engine.losses.plan import PlanRow, plan_row

if TYPE_CHECKING:
    from sr_engine.config.schema import BalanceConfig, LossConfig


@dataclass(frozen=True, slots=True)
class LossReport:
    """One evaluation of the bank.

    Args:
        total: weighted sum with its graph, fp32 scalar; what to call backward on.
        values: unweighted value of each loss computed, CPU scalars, averaged over all ranks; reading them is free.
        weights: the weight each of them had.
    """

    total: Tensor
    values: dict[str, Tensor]
    weights: dict[str, float]


class LossBank(nn.Module):
    """Weighted sum of losses; one whose weight is 0 at an iteration is not computed.

    Args:
        losses: name -> type, arguments and weight schedule.
        total_iter: length of the run, where a ramp without `ramp_iters` ends.
        balance: weigh auxiliary losses by the size of their gradients instead of by their numbers.
    """

    def __init__(
        self, losses: "Mapping[str, LossConfig]", *, total_iter: int, balance: "BalanceConfig | None" = None
    ) -> None:
        super().__init__()
        self.losses: dict[str, Any] = {n: registry.build("loss", c.type, **c.arguments) for n, c in losses.items()}
        self.modules_of_losses = nn.ModuleList(
            self.losses.values()
        )  # a ModuleDict forbids names such as "a.b" or "keys"
        self.configs = dict(losses)
        self.total_iter = total_iter
        self.balance = None if balance is None else GradientBalance(list(losses), balance)

    def add(self, name: str, loss: nn.Module, config: "LossConfig") -> None:
        """A loss that is made elsewhere, since it needs more than arguments; `balance` may not refer to it."""
        self.losses[name], self.configs[name] = loss, config
        self.modules_of_losses.append(loss)

    def weight(self, name: str, it: int) -> float:
        """Weight of a loss at iteration `it`, balance included."""
        weight = self.configs[name].loss_weight.at(it, self.total_iter)
        return weight if self.balance is None else weight * self.balance.factor(name)

    def active(self, it: int) -> list[str]:
        """Names of the losses that are computed at iteration `it`."""
        return [name for name in self.configs if self.configs[name].loss_weight.at(it, self.total_iter) != 0]

    def weights(self, it: int) -> dict[str, float]:
        """Weight of each loss that is computed at iteration `it`.

        Raises:
            TrainingError: none is.
        """
        if not (names := self.active(it)):
            raise TrainingError(f"no loss has a weight at iteration {it}: give one a loss_weight from iteration 0 on.")
        return {name: self.weight(name, it) for name in names}

    def compute(self, inputs: LossInputs, names: Sequence[str]) -> dict[str, Tensor]:
        """The losses called `names`, unweighted, with their graph and on the device of the inputs."""
        return {name: self.losses[name](inputs) for name in names}

    def needs(self, it: int) -> frozenset[str]:
        """Which discriminator passes iteration `it` needs: a subset of {"fake", "real"}."""
        return frozenset().union(*(self.losses[name].needs for name in self.active(it)))

    def check_features(self, names: Sequence[str]) -> None:
        """Check the layers that losses ask for against the features a discriminator has, before training starts.

        Raises:
            ConfigError: a loss names a layer that is not among `names`.
        """
        for loss in self.losses.values():
            if resolve := getattr(loss, "resolve", None):
                resolve(names)

    def plan(self) -> list[PlanRow]:
        """The weights over the run, a row a loss, for `train --dry-run`."""
        return [plan_row(name, config, self.total_iter) for name, config in self.configs.items()]

    def forward(self, inputs: LossInputs, it: int, last_layer: nn.Parameter | None = None) -> LossReport:
        """Compute every loss that has a weight at iteration `it`; waits for the device once.

        Args:
            last_layer: the generator's last weight, on which `balance` compares gradients.

        Raises:
            NonFiniteLossError: on all ranks when a loss is NaN or infinite on any.
            TrainingError: no loss is active, or `balance` was asked for without `last_layer`.
        """
        losses = self.compute(inputs, list(self.weights(it)))
        norms: dict[str, Tensor] = {}
        if self.balance is not None and self.balance.due(it, losses):
            norms = self.balance.measure(losses, last_layer)
        fetched = fetch([*losses.values(), *norms.values()])
        values = dict(zip(losses, fetched, strict=False))
        check_finite(values)
        if self.balance is not None and norms:
            self.balance.update(dict(zip(norms, map(float, fetched[len(losses) :]), strict=True)))
        weights = self.weights(it)  # anew: the balance has just been updated
        total = torch.stack([weights[name] * loss for name, loss in losses.items()]).sum()
        return LossReport(total, values, weights)

    def get_extra_state(self) -> dict[str, Any]:
        return {} if self.balance is None else self.balance.state()

    def set_extra_state(self, state: Mapping[str, Any]) -> None:
        # `balance` may have been switched on or off between two runs.
        if self.balance is not None and state:
            self.balance.load(state)

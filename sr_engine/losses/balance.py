"""Weights by gradient: `loss_weight` becomes a loss's share of the gradient instead of a factor on its number.

With `balance: grad_ratio` a loss with loss_weight w pulls at the generator's last layer w / w_ref times as hard as the
reference loss with w_ref, whatever the scale of its value. The idea is VQGAN's adaptive weight (Esser et al. 2021,
eq. 7); a moving average of log ratios replaces its per-step ratio, which is noisy and explodes when the discriminator's
gradient vanishes.
"""

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from sr_engine.errors import ConfigError, TrainingError, did_you_mean

if TYPE_CHECKING:
    from sr_engine.config.schema import BalanceConfig

CALIBRATION = 10  # measurements that fix the factor which `limit` is relative to


class GradientBalance:
    """Factors on the weights of all losses but the reference.

    A factor is exp of the average of log(|g_ref| / |g_loss|), g being gradients of unweighted losses at the last layer.
    The average is plain over the first 1 / (1 - momentum) measurements and exponential afterwards. Once CALIBRATION
    measurements are in, the factor stays within `limit` of its value then: a bound relative to 1 would depend on the
    scale of the loss, which is what balancing is to remove.

    Raises:
        ConfigError: `reference` isn't one of `names`.
    """

    def __init__(self, names: list[str], config: "BalanceConfig") -> None:
        self.reference = config.reference or names[0]
        if self.reference not in names:
            raise ConfigError(
                f"training.balance.reference is '{self.reference}'{did_you_mean(self.reference, names)}; "
                f"it must be one of the losses: {', '.join(names)}."
            )
        self.config = config
        self.log_ratio: dict[str, float] = {}
        self.count: dict[str, int] = {}
        self.anchor: dict[str, float] = {}

    def factor(self, name: str) -> float:
        """What the weight of a loss is multiplied by; 1 until it has been measured."""
        log_ratio = self.log_ratio.get(name, 0.0)
        if name in self.anchor:
            bound = math.log(self.config.limit)
            log_ratio = min(max(log_ratio, self.anchor[name] - bound), self.anchor[name] + bound)
        return math.exp(log_ratio)

    def due(self, it: int, active: Mapping[str, Tensor]) -> bool:
        """Whether to measure at iteration `it`: every so often, and at once for a loss that is new."""
        others = [name for name in active if name != self.reference]
        new = any(name not in self.log_ratio for name in others)
        return self.reference in active and bool(others) and (new or it % self.config.every == 0)

    def measure(self, losses: Mapping[str, Tensor], last_layer: nn.Parameter | None) -> dict[str, Tensor]:
        """Norm of each loss's gradient at `last_layer`; one short backward pass a loss, the graphs are kept."""
        if last_layer is None:
            raise TrainingError("balance needs the generator's last layer: give the network a `last_layer` parameter.")
        return {
            name: torch.autograd.grad(loss, last_layer, retain_graph=True)[0].float().norm()
            for name, loss in losses.items()
        }

    def update(self, norms: Mapping[str, float]) -> None:
        """Take in one measurement; a gradient that vanished or overflowed says nothing about scale and is left out."""
        reference = norms[self.reference]
        for name, norm in norms.items():
            if name == self.reference or not all(math.isfinite(n) and n > 0 for n in (norm, reference)):
                continue
            ratio, count = math.log(reference / norm), self.count.get(name, 0)
            keep = min(self.config.momentum, count / (count + 1))
            self.log_ratio[name] = keep * self.log_ratio.get(name, 0.0) + (1 - keep) * ratio
            self.count[name] = count + 1
            if self.count[name] == CALIBRATION:
                self.anchor[name] = self.log_ratio[name]

    def state(self) -> dict[str, Any]:
        """Everything a checkpoint needs, as plain numbers."""
        return {"log_ratio": dict(self.log_ratio), "count": dict(self.count), "anchor": dict(self.anchor)}

    def load(self, state: Mapping[str, Any]) -> None:
        """Take over `state()` of an earlier run."""
        self.log_ratio, self.count, self.anchor = (dict(state[key]) for key in ("log_ratio", "count", "anchor"))

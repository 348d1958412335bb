"""The exponential moving average of a network's weights: what is validated, saved and shipped."""

import copy
from typing import Any, Generic, TypeVar

import torch
from torch import nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

N = TypeVar("N", bound=nn.Module)


class Ema(Generic[N]):
    """A second copy of a network that follows its weights: `ema += (1 - d) (net - ema)`.

    The decay is `d = min(decay, (1 + t) / (10 + t))` after t updates, so that the average forgets the random start
    quickly. The copy is fp32, in eval mode and takes no gradients; buffers are copied, not averaged.

    Args:
        net: the network being trained.
        decay: in [0, 1); 0 makes the copy equal to the network after every update.
    """

    def __init__(self, net: N, decay: float) -> None:
        self.net: N = copy.deepcopy(net).float().eval().requires_grad_(False)
        self.decay = decay
        self.updates = 0

    @torch.no_grad()
    def update(self, net: nn.Module) -> None:
        """Take one step towards the weights of `net`; a few fused launches, no host synchronisation."""
        self.updates += 1
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        get_ema_multi_avg_fn(decay)(tuple(self.net.parameters()), tuple(net.parameters()), None)
        for mine, theirs in zip(self.net.buffers(), net.buffers(), strict=True):
            mine.copy_(theirs)

    def state_dict(self) -> dict[str, Any]:
        return {"net": self.net.state_dict(), "updates": self.updates}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.net.load_state_dict(state["net"])
        self.updates = int(state["updates"])

"""The exponential moving average of a network's weights: what is validated, saved and shipped."""

import copy
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor, nn

N = TypeVar("N", bound=nn.Module)

_lists: Any = torch  # whose operations on lists of tensors its type stubs leave out


class Ema(Generic[N]):
    """A second copy of a network that follows its weights: `ema += (1 - d) (net - ema)`.

    The decay is `d = min(decay, (1 + t) / (10 + t))` after t updates, so that the average forgets the random start
    quickly. The copy is fp32, in eval mode and takes no gradients; buffers are copied, not averaged.

    Args:
        net: the network being trained, in the memory layout it is trained in: where the layouts differ, each weight
            takes a launch of its own.
        decay: in [0, 1); 0 makes the copy equal to the network after every update.
    """

    def __init__(self, net: N, decay: float) -> None:
        self.net: N = copy.deepcopy(net).float().eval().requires_grad_(False)
        self.decay = decay
        self.updates = 0
        self._mine = list(self.net.parameters())
        self._followed: tuple[nn.Module, list[nn.Parameter]] | None = None

    def update(self, net: nn.Module) -> None:
        """Take one step towards the weights of `net`; a few fused launches, no host synchronisation."""
        self.follow(net, self.share())

    def share(self) -> float:
        """Count an update, and say how far towards the network it goes: 1 - d."""
        self.updates += 1
        return 1 - min(self.decay, (1 + self.updates) / (10 + self.updates))

    @torch.no_grad()
    def follow(self, net: nn.Module, share: float | Tensor) -> None:
        """Move by `share` of the difference to `net`; a tensor, a scalar on the device, is not read by the host.

        A copy without decay becomes equal to `net` whatever the share.
        """
        theirs = self._weights(net)
        if self.decay == 0:  # mine + 1 * (theirs - mine) is rounded
            _lists._foreach_copy_(self._mine, theirs)
        elif isinstance(share, Tensor):
            steps = _lists._foreach_sub(theirs, self._mine)
            _lists._foreach_mul_(steps, share)
            _lists._foreach_add_(self._mine, steps)
        else:
            _lists._foreach_lerp_(self._mine, theirs, share)
        self._copy_buffers(net)

    def _copy_buffers(self, net: nn.Module) -> None:
        if buffers := list(self.net.buffers()):
            _lists._foreach_copy_(buffers, list(net.buffers()))

    def _weights(self, net: nn.Module) -> list[nn.Parameter]:
        """Parameters of `net`; looking for them takes longer than averaging a small network."""
        if self._followed is None or self._followed[0] is not net:
            self._followed = net, list(net.parameters())
        return self._followed[1]

    def whole(self) -> N:
        """The averaged network."""
        return self.net

    def state_dict(self, keep: bool = True) -> dict[str, Any]:  # noqa: ARG002
        """Plain values and tensors; `keep` is whether this process needs them where they have to be gathered."""
        return {"net": self.net.state_dict(), "updates": self.updates}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.net.load_state_dict(state["net"])
        self.updates = int(state["updates"])

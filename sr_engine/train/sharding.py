"""A generator whose weights, gradients, moments and average are divided among the processes (FSDP2).

Each process keeps a part of every weight; a stage is brought together for its forward and its backward pass. Weights
travel and gradients are averaged in fp32, and autocast takes what it takes from there, as it does with one process: a
`param_dtype` of bf16 would halve the bytes and round also what is computed in fp32, such as the upsampler's gains.
"""

import copy
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import DTensor, distribute_tensor

from sr_engine.errors import ConfigError
from sr_engine.models.generator import Generator
from sr_engine.train.ema import Ema

N = TypeVar("N", bound=nn.Module)
_lists: Any = torch  # whose operations on lists of tensors its type stubs leave out


def shard(net: N, device: torch.device) -> N:
    """Divide `net` in place: each stage of a generator by itself, other networks as a whole.

    The methods of unknown networks may read the weights of their parts, which only a pass through the part brings
    together; as one unit they still divide gradients, moments and average.

    Raises:
        ConfigError: a weight of it cannot be divided.
    """
    from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard

    net.to(memory_format=torch.contiguous_format)  # pyright: ignore[reportCallIssue]  (FSDP takes no other)
    mesh = init_device_mesh(device.type, (dist.get_world_size(),))
    policy = MixedPrecisionPolicy(cast_forward_inputs=False)
    units: list[nn.Module] = []
    if isinstance(net, Generator):
        net.collapses_at_once = False  # it would read the weights of all stages outside of their passes
        units = list(net.body)
    try:
        for unit in [*units, net]:
            # The whole network's own weights are given back too: a pass without a backward one would leave them.
            fully_shard(unit, mesh=mesh, reshard_after_forward=True, mp_policy=policy)
    except (ValueError, NotImplementedError) as error:
        raise ConfigError(f"training.parallel: fsdp cannot divide this network ({error}): use ddp.") from error
    return net


def own_part(tensor: Tensor) -> Tensor:
    """This process's part of a divided tensor; any other tensor as it is."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def divided(value: Tensor, like: Tensor) -> Tensor:
    """A whole tensor as a divided one like another of its shape: nothing is sent, every process takes its part."""
    if not isinstance(like, DTensor):
        return value
    # In the memory layout of the parameters, which fused optimisers take for that of the moments.
    whole = value.to(like.device, like.dtype).contiguous()
    return distribute_tensor(whole, like.device_mesh, like.placements, src_data_rank=None)


def together(state: Any, keep: bool) -> Any:
    """A nested state with every divided tensor whole, on the CPU; call it on all processes.

    Args:
        keep: whether this process wants them; else it only helps, and gets empty tensors in their place.
    """
    if isinstance(state, Mapping):
        return {key: together(value, keep) for key, value in state.items()}
    if isinstance(state, list | tuple):
        return type(state)(together(value, keep) for value in state)
    if not isinstance(state, DTensor):
        return state
    whole = state.full_tensor()
    return whole.cpu() if keep else torch.empty(0)


def divided_norm(gradients: Sequence[Tensor], clip: float | None) -> Tensor:
    """The global L2 norm of divided gradients, the same on all processes; they are scaled down to `clip`."""
    parts = [own_part(gradient) for gradient in gradients]
    squares = torch.stack([part.square().sum() for part in parts]).sum()
    dist.all_reduce(squares)
    norm = squares.sqrt()
    if clip is not None:
        _lists._foreach_mul_(parts, (clip / (norm + 1e-6)).clamp(max=1.0))
    return norm


class DividedEma(Ema[nn.Module]):
    """An average of which each process keeps its part.

    Args:
        net: the divided network.
        blank: a copy of it from before, on the CPU: the form of what `whole` returns.
    """

    def __init__(self, net: nn.Module, blank: nn.Module, decay: float) -> None:
        super().__init__(blank, decay)
        self._trained = net
        self._mine: Any = [part.detach().float().clone() for part in self._weights(net)]

    def _weights(self, net: nn.Module) -> Any:
        return [own_part(parameter.detach()) for parameter in net.parameters()]

    def _copy_buffers(self, net: nn.Module) -> None:
        """They are looked at when they are needed."""

    def whole(self) -> nn.Module:
        """The averaged network; call it on all processes, each gets it."""
        net = copy.deepcopy(self.net)
        net.load_state_dict(self._state(keep=True))
        device = next(self._trained.parameters()).device
        return net.to(device, memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]

    def state_dict(self, keep: bool = True) -> dict[str, Any]:
        return {"net": self._state(keep), "updates": self.updates}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        for (name, parameter), mine in zip(self._trained.named_parameters(), self._mine, strict=True):
            mine.copy_(own_part(divided(state["net"][name], parameter)))
        self.updates = int(state["updates"])

    def _state(self, keep: bool) -> dict[str, Any]:
        averages = {
            name: _like(mine, parameter)
            for (name, parameter), mine in zip(self._trained.named_parameters(), self._mine, strict=True)
        }
        return together({name: averages.get(name, value) for name, value in self._trained.state_dict().items()}, keep)


def _like(part: Tensor, parameter: Tensor) -> Tensor:
    if not isinstance(parameter, DTensor):
        return part
    return DTensor.from_local(
        part,
        parameter.device_mesh,
        parameter.placements,
        run_check=False,
        shape=parameter.shape,
        stride=parameter.stride(),
    )

"""Optimisers by name, and the one place where gradients become an update."""

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from torch.optim import Optimizer

from sr_engine.config.arguments import find
from sr_engine.errors import ConfigError
from sr_engine.train.sharding import divided_norm

# One kernel for all parameters, on CUDA and on the CPU; for the small tensors of these networks the per-parameter loop
# costs more than the arithmetic.
_FUSED = (torch.optim.Adam, torch.optim.AdamW, torch.optim.SGD)


def build_optimizer(name: str, arguments: Mapping[str, Any], parameters: Iterable[nn.Parameter]) -> Optimizer:
    """The registered or `torch.optim` optimiser called `name` over the parameters that require gradients.

    Raises:
        ConfigError: there is no such optimiser, or it refuses the arguments or these parameters.
    """
    trainable = [p for p in parameters if p.requires_grad]
    optimizer = find("optimizer", name)[1]
    options: dict[str, Any] = {
        key: tuple(value) if isinstance(value, list) else value for key, value in arguments.items()
    }
    if optimizer in _FUSED and not options.get("foreach"):
        options.setdefault("fused", True)
    try:
        return optimizer(trainable, **options)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"optimizer {name} cannot be made with {dict(arguments)}: {error}") from error


def set_learning_rate(optimizer: Optimizer, lr: float) -> None:
    """Give every parameter group the rate of this iteration."""
    for group in optimizer.param_groups:
        if isinstance(group["lr"], Tensor):
            group["lr"].fill_(lr)
        else:
            group["lr"] = lr


def gradient_norm(parameters: Iterable[nn.Parameter], clip: float | None) -> Tensor:
    """The global L2 norm of the gradients, on their device; they are scaled down to `clip` if it is given.

    A non-finite norm leaves non-finite gradients: the caller must look before it steps.
    """
    with_gradient = [p for p in parameters if p.grad is not None]
    if any(isinstance(p, DTensor) for p in with_gradient):
        return divided_norm([p.grad for p in with_gradient if p.grad is not None], clip)
    norm = nn.utils.get_total_norm([p.grad for p in with_gradient if p.grad is not None])
    if clip is not None:
        nn.utils.clip_grads_with_norm_(with_gradient, clip, norm)
    return norm

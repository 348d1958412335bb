"""Optimisers by name, and the one place where gradients become an update."""

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from sr_engine.config import registry
from sr_engine.errors import ConfigError, did_you_mean

# One kernel for all parameters, on CUDA and on the CPU; for the small tensors of these networks the per-parameter loop
# costs more than the arithmetic.
_FUSED = ("Adam", "AdamW", "SGD")


def build_optimizer(name: str, arguments: Mapping[str, Any], parameters: Iterable[nn.Parameter]) -> Optimizer:
    """The registered or `torch.optim` optimiser called `name` over the parameters that require gradients.

    Raises:
        ConfigError: there is no such optimiser, or it refuses the arguments or these parameters.
    """
    trainable = [p for p in parameters if p.requires_grad]
    optimizer = _optimizer_class(name)
    options = {key: tuple(value) if isinstance(value, list) else value for key, value in arguments.items()}
    if optimizer.__module__.startswith("torch.optim") and name in _FUSED and not options.get("foreach"):
        options.setdefault("fused", True)
    try:
        return optimizer(trainable, **options)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"optimizer {name} cannot be made with {dict(arguments)}: {error}") from error


def _optimizer_class(name: str) -> Any:
    if name in registry.names("optimizer"):
        return registry.get("optimizer", name)
    found = getattr(torch.optim, name, None)
    if isinstance(found, type) and issubclass(found, Optimizer) and found not in (Optimizer, torch.optim.LBFGS):
        return found
    known = [*registry.names("optimizer"), *torch_optimizers()]
    raise ConfigError(f"unknown optimizer '{name}'{did_you_mean(name, known)}; known are: {', '.join(known)}.")


def torch_optimizers() -> list[str]:
    """Names of the `torch.optim` classes that can be used; LBFGS is not: it evaluates the loss several times a step."""
    classes = {name: value for name, value in vars(torch.optim).items() if isinstance(value, type)}
    return sorted(
        name
        for name, value in classes.items()
        if issubclass(value, Optimizer) and value not in (Optimizer, torch.optim.LBFGS)
    )


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
    norm = nn.utils.get_total_norm([p.grad for p in with_gradient if p.grad is not None])
    if clip is not None:
        nn.utils.clip_grads_with_norm_(with_gradient, clip, norm)
    return norm

"""The optimisers of torch.optim by name, in any spelling of upper and lower case."""

import torch
from torch.optim import LBFGS, Optimizer


def optimizer_names() -> list[str]:
    """Names of the classes that can be used; LBFGS is not: it evaluates the loss several times a step."""
    classes = [
        value for value in vars(torch.optim).values() if isinstance(value, type) and issubclass(value, Optimizer)
    ]
    return sorted(value.__name__ for value in classes if value not in (Optimizer, LBFGS))


def find_optimizer(name: str) -> type[Optimizer] | None:
    """The class called `name`, None when there is none."""
    by_name = {known.lower(): known for known in optimizer_names()}
    return getattr(torch.optim, by_name[name.lower()]) if name.lower() in by_name else None

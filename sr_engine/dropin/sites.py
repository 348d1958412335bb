"""Where a layer lies in its network."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn


@dataclass(frozen=True)
class Site:
    """A module, its dotted name, and the modules around it, nearest first, the network last."""

    name: str
    module: Any
    ancestors: tuple[Any, ...]

    def owner(self, attribute: str) -> Any:
        """The nearest module around it that has this attribute, or None."""
        return next((module for module in self.ancestors if hasattr(module, attribute)), None)

    @property
    def device(self) -> torch.device:
        """Of its first parameter."""
        first = next(self.module.parameters(), None)
        return torch.device("cpu") if first is None else first.device


def sites(model: nn.Module) -> Iterator[Site]:
    """Every module of the network once, outer before inner."""
    modules = dict(model.named_modules())
    for name, module in modules.items():
        parts = name.split(".") if name else []
        around = [".".join(parts[:n]) for n in range(len(parts) - 1, -1, -1)]
        yield Site(name, module, tuple(modules[outer] for outer in around if outer in modules))

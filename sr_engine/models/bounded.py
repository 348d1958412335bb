"""Networks from descriptions that may ask for anything: none takes much more memory than the weights it is for."""

import math
from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from sr_engine.errors import ModelFileError

# What networks were seen to create while they are built, as a multiple of their folded weights: at most 3.3 elements
# each and 80 operations a tensor. The additions are for networks of a few weights and fixed buffers.
_ELEMENTS, _MORE_ELEMENTS = 16, 1 << 24
_OPERATIONS, _MORE_OPERATIONS = 1000, 20_000
_LARGEST_NUMBER = 4096  # in arguments, where a file has fewer weights


def build_bounded(build: Callable[[], nn.Module], arguments: Any, weights: Mapping[str, Tensor]) -> nn.Module:
    """The network that `build` makes of `arguments`, for these weights.

    Raises:
        ModelFileError: it would be far larger than the weights; nothing of that size has been made.
    """
    held = sum(weight.numel() for weight in weights.values())
    if largest := next((n for n in _numbers(arguments) if abs(n) > max(held, _LARGEST_NUMBER)), None):
        raise ModelFileError(f"asks for {largest:g} of something, where all its weights are {held:,} numbers")
    with _Budget(held, len(weights)):
        return build()


class _Budget(TorchDispatchMode):
    """Refuses to create tensors beyond a number of elements, before their memory is taken."""

    def __init__(self, held: int, tensors: int) -> None:
        super().__init__()
        self.held = held
        self.elements = _ELEMENTS * held + _MORE_ELEMENTS
        self.operations = _OPERATIONS * tensors + _MORE_OPERATIONS

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.operations -= 1
        if not any(isinstance(argument, Tensor) for argument in args):
            # A factory: its size is a list of sides, or the number it counts to.
            sizes = [math.prod(a) if isinstance(a, list | tuple) else a for a in args if not isinstance(a, bool)]
            self.elements -= max((int(size) for size in sizes if isinstance(size, int | float)), default=0)
        if self.elements < 0 or self.operations < 0:
            raise ModelFileError(f"asks for a network much larger than its weights, which are {self.held:,} numbers")
        return func(*args, **(kwargs or {}))


def _numbers(value: Any) -> list[float]:
    if isinstance(value, Mapping):
        return [number for item in value.values() for number in _numbers(item)]
    if isinstance(value, list | tuple):
        return [number for item in value for number in _numbers(item)]
    return [value] if isinstance(value, int | float) and not isinstance(value, bool) else []

"""What the cases of several operations share: compiled rivals, calls with their gradients, sizes in bytes."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from bench.clock import Call
from bench.devices import SMOKE

KINDS = {False: "forward", True: "forward + backward"}
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "uint8": torch.uint8}

_traced: set[Callable[..., Any]] = set()


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """torch.compile for one shape. A smoke run traces each function once and generates no code: that takes too long."""
    if SMOKE and function in _traced:
        return function
    _traced.add(function)
    torch._dynamo.reset()
    return torch.compile(function, dynamic=False, fullgraph=True, backend="eager" if SMOKE else "inductor")


def finished(call: Call, inputs: Sequence[Tensor], pulls: Sequence[Tensor] | None) -> Call:
    """`call`, which returns a tensor or a tuple of them; with `pulls` the gradients of `inputs` for them instead."""
    if pulls is None:
        return call

    def backward() -> tuple[Tensor, ...]:
        out = call()
        return torch.autograd.grad((out,) if isinstance(out, Tensor) else tuple(out), inputs, pulls)

    return backward


def bytes_of(*tensors: Tensor) -> int:
    return sum(t.numel() * t.element_size() for t in tensors)


def absent(reason: str) -> Call:
    """A contestant that cannot run here: the race drops it with the reason."""

    def call() -> None:
        raise RuntimeError(reason)

    return call

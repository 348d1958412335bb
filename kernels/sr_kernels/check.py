"""Argument checks of the public operations: one sentence that names tensor, axes, value and remedy."""

from collections.abc import Sequence
from typing import Any, NoReturn

import torch
from torch import Tensor

FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


def fail(op: str, message: str, kind: type[Exception] = ValueError) -> NoReturn:
    """Raise `kind` with the operation's name in front."""
    raise kind(f"{op}: {message}")


def expect_tensor(op: str, name: str, value: Any, axes: str, dtypes: Sequence[torch.dtype] = FLOATS) -> Tensor:
    """`value`, if it is a tensor with a dimension for each name in `axes` (such as "B C H W") and an allowed dtype."""
    if not isinstance(value, Tensor):
        fail(op, f"{name} must be a tensor [{axes}], got {type(value).__name__}", TypeError)
    if value.dim() != len(axes.split()):
        fail(op, f"{name} must have {len(axes.split())} dimensions [{axes}], got shape {tuple(value.shape)}")
    if value.dtype not in dtypes:
        allowed = ", ".join(str(d).removeprefix("torch.") for d in dtypes)
        fail(op, f"{name} must be one of {allowed}, got {str(value.dtype).removeprefix('torch.')}", TypeError)
    return value


def expect_same_device(op: str, **tensors: Tensor | None) -> None:
    """All given tensors lie on one device."""
    present = {name: t.device for name, t in tensors.items() if t is not None}
    if len(set(present.values())) > 1:
        where = ", ".join(f"{name} on {device}" for name, device in present.items())
        fail(op, f"all tensors must be on one device, got {where}")

"""Which windows of a picture are worth attention: the hardest ones by their gates."""

from fractions import Fraction
from math import ceil
from typing import NamedTuple

import torch
from torch import Tensor

from sr_kernels.dispatch import exporting


class Route(NamedTuple):
    """What one stage does with each window of a picture; both (B, 1, ceil(H / window), ceil(W / window)).

    gate: factor on attention, in 0..2; 1 everywhere for a stage without a gate.
    chosen: bool, whether the window is attended to at all; the others get convolutions only.
    """

    gate: Tensor
    chosen: Tensor


def hardest(gate: Tensor, share: float) -> Tensor:
    """Numbers (B, k), ascending, of the k = ceil(share * windows) windows with the largest gate in each picture.

    Of equal gates the first ones count as larger, so the choice is the same on every run and machine.

    Args:
        gate: (B, 1, windows down, windows across).
        share: in (0, 1].
    """
    flat = gate.flatten(1)
    order = flat.argsort(dim=1, descending=True, stable=True)
    return order[:, : _kept(share, flat.shape[1])].sort(dim=1).values


def _kept(share: float, windows: int) -> int:
    """ceil(share * windows)."""
    if exporting():  # in whole numbers, which graphs of sizes to come compute exactly
        part = Fraction(share).limit_denominator(10**9)
        return (part.numerator * windows + part.denominator - 1) // part.denominator
    return ceil(share * windows - 1e-9)  # 0.07 * 100 is a little more than 7


def hardest_mask(gate: Tensor, share: float) -> Tensor:
    """`hardest` as a bool map of the shape of `gate`."""
    mask = torch.zeros_like(gate, dtype=torch.bool).flatten(1)
    return mask.scatter(1, hardest(gate, share), True).view(gate.shape)


def numbers(attend: float | Tensor, gate: Tensor | None) -> Tensor | None:
    """Window numbers (M,) counted over the whole batch, for `WindowAttention`; None = all windows.

    Args:
        attend: a share of windows, whose number depends on shapes alone, or a mask (see `Route.chosen`), whose number
            of windows has to be counted first.
        gate: (B, 1, windows down, windows across); needed for a share below 1.

    Raises:
        ValueError: a share below 1 without a gate, or a mask of another shape than the gate.
    """
    if isinstance(attend, Tensor):
        if gate is not None and attend.shape != gate.shape:
            raise ValueError(f"mask of windows must be {tuple(gate.shape)}, got {tuple(attend.shape)}")
        found = attend.flatten().nonzero()[:, 0]
        return None if len(found) == attend.numel() else found
    if attend >= 1:
        return None
    if gate is None:
        raise ValueError("a share of windows can only be chosen by a gate, and this stage has none")
    found = hardest(gate, attend)
    windows = gate[0].numel()
    if not exporting() and found.shape[1] == windows:  # a graph takes the same way whatever the size
        return None
    return (found + windows * torch.arange(gate.shape[0], device=gate.device)[:, None]).flatten()

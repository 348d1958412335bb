"""How much the output depends on each channel and head."""

import copy
from collections.abc import Iterable
from dataclasses import replace
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from sr_engine.compress.axis import Axis
from sr_engine.compress.groups import Groups, groups_of
from sr_engine.errors import CompressError, did_you_mean
from sr_engine.layers.reparam import fold_reparam
from sr_engine.models.generator import Generator

Criterion = Literal["taylor", "l1", "l2"]
EPS = 1e-3  # of the Charbonnier loss, in the range of pictures (0..1)


def importance(
    net: nn.Module, batches: Iterable[tuple[Tensor, Tensor]] = (), criterion: str = "taylor"
) -> dict[str, Tensor]:
    """Score of every index of every axis, (size,) float64 on the CPU, at least 0; larger matters more.

    `taylor` (Molchanov et al. 2019, "Importance Estimation for Neural Network Pruning", equation 8): the sum over
    batches of (sum of gradient times weight)^2 over the weights that read a channel, which is to first order the
    squared change of the loss when the channel goes. `l1` and `l2` are norms of all weights of a channel and need no
    batches. All act on the convolutions folded as for inference, in the precision of the network. `net` is unchanged.

    Args:
        batches: (lr (B, 3, h, w), hr (B, 3, h * scale, w * scale)) in 0..1, on any device; the loss is Charbonnier.

    Raises:
        CompressError: an unknown criterion, nothing to prune, `taylor` without batches, or gradients that are not
            finite.
    """
    check_criterion(criterion)
    groups = groups_of(net)
    device = next(iter(groups.parameters.values())).device
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):  # folding draws and overwrites
        twin = groups_of(_twin(net))
    return _taylor(twin, batches) if criterion == "taylor" else _norms(twin, criterion)


def check_criterion(criterion: str) -> None:
    """Raises a CompressError unless there is such a criterion."""
    known = get_args(Criterion)
    if criterion not in known:
        raise CompressError(
            f"criterion '{criterion}' is unknown{did_you_mean(criterion, known)}; known are: {', '.join(known)}."
        )


def _twin(net: nn.Module) -> nn.Module:
    """A folded copy that attends to every window and whose every weight has a gradient."""
    twin = copy.deepcopy(net).eval()
    if isinstance(twin, Generator):
        fold_reparam(twin)
        twin.layout = replace(twin.layout, routing="dense")
    return twin.requires_grad_(True)


def _taylor(groups: Groups, batches: Iterable[tuple[Tensor, Tensor]]) -> dict[str, Tensor]:
    device = next(iter(groups.parameters.values())).device
    total: dict[str, Tensor] = {}
    for lr, hr in batches:
        groups.net.zero_grad(set_to_none=True)
        with torch.enable_grad():
            error = groups.net(lr.to(device)) - hr.to(device)
            (error.square() + EPS**2).sqrt().mean().backward()
        for axis in groups.axes:
            score = _removal(groups, axis).square()
            total[axis.name] = total[axis.name] + score if axis.name in total else score
    if not total:
        raise CompressError("criterion taylor needs at least one batch of pictures; give some, or take l1 or l2.")
    if not all(score.isfinite().all() for score in total.values()):
        raise CompressError("importance is not finite: the network's output or gradients on these pictures are not.")
    return total


def _removal(groups: Groups, axis: Axis) -> Tensor:
    """First-order change of the loss when each index goes, with the sign reversed."""
    total = torch.zeros(axis.size, dtype=torch.float64)
    for place in axis.places:
        weight = groups.parameters[place.parameter]
        if place.reads and weight.grad is not None:
            total += place.summed((weight.grad * weight.detach()).double(), axis.size).cpu()
    return total


def _norms(groups: Groups, criterion: str) -> dict[str, Tensor]:
    scores = {}
    for axis in groups.axes:
        total = torch.zeros(axis.size, dtype=torch.float64)
        for place in axis.places:
            weight = groups.parameters[place.parameter].detach().double()
            total += place.summed(weight.abs() if criterion == "l1" else weight.square(), axis.size).cpu()
        scores[axis.name] = total if criterion == "l1" else total.sqrt()
    return scores

"""The smaller network, and the same cut through any tensors laid out like its weights."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, TypeVar, cast

import torch
from torch import Tensor, nn

from sr_engine.compress.choose import Cut
from sr_engine.compress.groups import Groups, groups_of, named
from sr_engine.layers.reparam import RepConv3x3
from sr_engine.models.spec import HasSpec, ModelSpec

Net = TypeVar("Net", bound=nn.Module)

# Of the provenance, what is true of the weights as they were only.
_OUTDATED = ("scores", "validation")


def cut_network(net: Net, cut: Cut) -> Net:
    """A new, smaller network of what `cut` keeps; same form (with branches or folded), mode, device and precision.

    Its output is that of `net` without the channels and heads that go; where attention normalises the width, over the
    channels that stay. Its spec says how it is built and keeps the provenance, with an entry `pruned` in place of
    scores that are no longer true.

    Raises:
        CompressError: as `axes`.
    """
    groups = groups_of(net)
    smaller = groups.smaller(cut.kept)
    smaller.load_state_dict(cut_state(net, cut, net.state_dict()))
    for (_, old), (_, new) in zip(net.named_parameters(), smaller.named_parameters(), strict=True):
        new.requires_grad_(old.requires_grad)
    described = cast(HasSpec, smaller)
    described.spec = replace(described.spec, training=_noted(groups.spec, cut))
    return cast(Net, smaller)


def cut_state(net: nn.Module, cut: Cut, tensors: Mapping[str, Tensor], *, moments: bool = False) -> dict[str, Tensor]:
    """The part of tensors laid out like the parameters of `net` that `cut` keeps, under the same keys.

    Re-parameterised convolutions lose wide channels where both their sides shrink: those of `net` that add most to the
    kernel stay, so that weights, their average and their moments stay aligned.

    Args:
        net: the network before the cut.
        tensors: by the names of `named_parameters` or of the state dict. Others, and single numbers, stay as they are.
        moments: of an optimiser: entries are taken as they are. Otherwise the tensors are weights, and what the wide
            channels that go add to the kernel is added to `weight`: the collapsed kernel is that of before, exactly.
    """
    groups = groups_of(net)
    result = _sliced(groups, cut, tensors)
    own = _sliced(groups, cut, {name: parameter.detach() for name, parameter in groups.parameters.items()})
    keys = named(tensors, groups)
    for name, conv in groups.reparameterised().items():
        keep, drop = _wide(conv, *(own[f"{name}.{part}"] for part in ("weight", "squeeze", "spread")))
        if len(drop):
            weight, squeeze, spread = (keys.get(f"{name}.{part}") for part in ("weight", "squeeze", "spread"))
            if not moments and weight and squeeze and spread:
                result[weight] = result[weight] + _kernel(result[squeeze], result[spread], drop)
            for key, dim in ((squeeze, 0), (spread, 1)):
                if key and result[key].dim():
                    result[key] = result[key].index_select(dim, keep.to(result[key].device))
    return result


def _sliced(groups: Groups, cut: Cut, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    keys, result = named(tensors, groups), dict(tensors)
    for axis in groups.axes:
        for place in axis.places:
            key = keys.get(place.parameter)
            if key is not None and result[key].dim():
                positions = place.positions(cut.kept[axis.name]).to(result[key].device)
                result[key] = result[key].index_select(place.dim, positions)
    return result


def _wide(conv: RepConv3x3, weight: Tensor, squeeze: Tensor, spread: Tensor) -> tuple[Tensor, Tensor]:
    """Wide channels that stay and that go, ascending, when the convolution has these weights left."""
    before, expand = len(conv.squeeze), len(conv.squeeze) // max(conv.weight.shape[:2])
    after = expand * max(weight.shape[:2])
    strength = squeeze.double().square().sum(1) * spread.double().square().sum((0, 2, 3))
    order = strength.argsort(descending=True, stable=True).cpu()
    return order[:after].sort().values, order[after:before].sort().values


def _kernel(squeeze: Tensor, spread: Tensor, channels: Tensor) -> Tensor:
    """What some wide channels add to the 3x3 kernel, as in `RepConv3x3.side_branches`."""
    channels = channels.to(squeeze.device)
    return torch.einsum("omhw,mi->oihw", spread.index_select(1, channels), squeeze.index_select(0, channels))


def _noted(spec: ModelSpec, cut: Cut) -> dict[str, Any]:
    """The provenance of the smaller network."""
    facts = {key: value for key, value in spec.training.items() if key not in _OUTDATED}
    earlier = facts.pop("pruned", None)
    facts["pruned"] = {
        "ratio": round(cut.ratio, 4),
        "criterion": cut.criterion,
        "parameters_before": cut.parameters_before,
        "parameters_after": cut.parameters_after,
        **({"earlier": earlier} if earlier is not None else {}),
    }
    return facts

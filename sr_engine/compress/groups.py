"""A network as pruning sees it, whichever kind it is."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, cast

import torch
from torch import Tensor, nn

from sr_engine.compress.axis import Axis, Census, Kept
from sr_engine.compress.community import community_arguments, community_axes
from sr_engine.compress.generator import generator_arguments, generator_axes
from sr_engine.errors import CompressError
from sr_engine.layers.reparam import RepConv3x3, fold_reparam
from sr_engine.models.community_network import CommunityNetwork
from sr_engine.models.files import build_model
from sr_engine.models.generator import Generator
from sr_engine.models.spec import HasSpec, ModelSpec

_SIDES = ("pointwise", "squeeze", "spread")


@dataclass(frozen=True)
class Groups:
    """Axes of a network and how a smaller one is built.

    Attributes:
        parameters: by name as in the state dict.
        arguments: kept indices -> arguments of the smaller network.
        uniform: whether all axes must keep equally many indices, since one argument says how many.
    """

    net: nn.Module
    axes: list[Axis]
    parameters: dict[str, nn.Parameter]
    arguments: Callable[[Kept], dict[str, Any]]
    uniform: bool = False

    @property
    def spec(self) -> ModelSpec:
        return spec_of(self.net)

    @property
    def whole(self) -> dict[str, tuple[int, ...]]:
        """All indices of every axis."""
        return {axis.name: tuple(range(axis.size)) for axis in self.axes}

    def reparameterised(self) -> dict[str, RepConv3x3]:
        """The convolutions that still have their branches, by name."""
        return {name: module for name, module in self.net.named_modules() if isinstance(module, RepConv3x3)}

    def census(self) -> Census:
        """Counts parameters of the network folded for inference."""
        sides = {f"{name}.{side}" for name in self.reparameterised() for side in _SIDES}
        shapes = {name: p.shape for name, p in self.parameters.items() if name not in sides}
        return Census(shapes, self.axes)

    def key(self, name: str) -> str:
        """A name of `named_parameters` as in the state dict."""
        return name.removeprefix("net.") if isinstance(self.net, CommunityNetwork) else name

    def smaller(self, kept: Kept) -> nn.Module:
        """A new network of the kept sizes, in the same form, mode, precision and place; its weights are random."""
        first = next(iter(self.parameters.values()))
        with torch.random.fork_rng(devices=[]):  # its random start is overwritten: training goes on as if undrawn
            net = build_model(self.spec.architecture, self.arguments(kept))
        if isinstance(net, Generator) and not self.reparameterised():
            fold_reparam(net)
        described = cast(HasSpec, net)
        described.spec = replace(described.spec, training=self.spec.training, licence=self.spec.licence)
        return net.to(first.device, first.dtype).train(self.net.training)


def groups_of(net: nn.Module) -> Groups:
    """The dependency groups of a network.

    Raises:
        CompressError: it has none.
    """
    if isinstance(net, Generator):
        found = generator_axes(net)
        if not found:
            raise CompressError(
                "the network has nothing that pruning can remove: it is a learned upsampler without stages."
            )
        return Groups(net, found, dict(net.named_parameters()), lambda kept: generator_arguments(net, kept))
    if isinstance(net, CommunityNetwork):
        found = community_axes(net)
        parameters = dict(net.net.named_parameters())
        return Groups(net, found, parameters, lambda kept: community_arguments(net, kept), uniform=True)
    raise CompressError(
        f"a {type(net).__name__} cannot be pruned; expected a network of type generator, or SwinIR, Swin2SR or HAT of "
        "type spandrel."
    )


def spec_of(net: nn.Module) -> ModelSpec:
    """What a network says about itself."""
    return cast(HasSpec, net).spec


def axes(net: nn.Module) -> list[Axis]:
    """The prunable axes of a network.

    Raises:
        CompressError: there are none, as in the preset resampler or in an architecture that is not known here.
    """
    return groups_of(net).axes


def named(tensors: Mapping[str, Tensor], groups: Groups) -> dict[str, str]:
    """Name in the state dict -> key of `tensors`."""
    return {groups.key(key): key for key in tensors}

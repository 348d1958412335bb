"""Features inside a network: which layers there are, and what the last pass gave there."""

from collections.abc import Sequence
from functools import partial
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from sr_engine.errors import ConfigError, did_you_mean
from sr_engine.models.community_network import CommunityNetwork

_LISTED_AT_MOST = 40


class Taps:
    """Outputs of chosen layers, from the last pass of a network after `attach`.

    Args:
        net: a network whose input is a (B,3,h,w) picture.
        layers: dotted names of modules, or numbers, which count the network's blocks (`blocks`).
        key: of the configuration that names them, for messages.

    Raises:
        ConfigError: there is no such layer.
    """

    def __init__(self, net: nn.Module, layers: Sequence[str | int], key: str) -> None:
        self.net, self.key = net, key
        self.names = [_find(own_network(net), layer, key) for layer in layers]
        self._outputs: dict[str, Any] = {}

    def attach(self) -> list[RemovableHandle]:
        """Keep outputs from now on. Copies of the network that are made afterwards keep theirs too."""
        own = own_network(self.net)
        return [
            own.get_submodule(name).register_forward_hook(partial(_keep, self._outputs, name))
            for name in dict.fromkeys(self.names)
        ]

    def maps(self, x: Tensor) -> list[Tensor]:
        """The features as (B,C,height,width), from the pass that `x` was given to.

        Raises:
            ConfigError: a layer gives something else than a map or the tokens of all pixels of `x`.
        """
        return [self._map(name, x) for name in self.names]

    def channels(self, side: int, device: torch.device) -> list[int]:
        """Channels of each layer, from a pass on a picture of this side; the network's mode stays."""
        modes, handles = {module: module.training for module in self.net.modules()}, self.attach()
        try:
            with torch.no_grad():
                x = torch.zeros(1, 3, side, side, device=device)
                self.net.eval()(x)
                return [feature.shape[1] for feature in self.maps(x)]
        finally:
            for module, training in modes.items():
                module.training = training
            for handle in handles:
                handle.remove()
            self._outputs.clear()

    def _map(self, name: str, x: Tensor) -> Tensor:
        feature = self._outputs.get(name)
        if isinstance(feature, tuple | list) and feature:
            feature = feature[0]
        batch, height, width = len(x), *x.shape[-2:]
        if isinstance(self.net, CommunityNetwork):  # pads to a size it accepts
            below, right = self.net.sizes.padding(height, width)
            height, width = height + below, width + right
        if isinstance(feature, Tensor) and len(feature) == batch:
            if feature.dim() == 4:
                last = feature.shape[1:3] == (height, width) and feature.shape[2:] != (height, width)
                return feature.permute(0, 3, 1, 2) if last else feature
            if feature.dim() == 3 and feature.shape[1] == height * width:
                return feature.transpose(1, 2).unflatten(2, (height, width))
        found = f"gives {tuple(feature.shape)}" if isinstance(feature, Tensor) else "gives no tensor in a pass"
        raise ConfigError(
            f"{self.key}: layer {name} {found} for a picture {tuple(x.shape)}: name one that gives a map (B,C,h,w) or "
            "tokens (B,h*w,C)."
        )


def own_network(net: nn.Module) -> nn.Module:
    """The network whose names of layers its makers know."""
    return net.net if isinstance(net, CommunityNetwork) else net


def blocks(net: nn.Module) -> list[str]:
    """Names of a network's blocks: items of the innermost list or sequence that holds more than half of its weights."""
    half = _weights(net) / 2
    lists = [
        (name, module)
        for name, module in net.named_modules()
        if isinstance(module, nn.ModuleList | nn.Sequential) and _weights(module) > half
    ]
    if not lists:
        return []
    name, module = lists[-1]  # named_modules lists what lies inside after what holds it
    return [f"{name}.{child}" if name else child for child, _ in module.named_children()]


def _keep(outputs: dict[str, Any], name: str, _module: nn.Module, _inputs: object, output: Any) -> None:
    outputs[name] = output


def _find(net: nn.Module, layer: str | int, key: str) -> str:
    counted = blocks(net)
    names = [name for name, _ in net.named_modules() if name]
    if isinstance(layer, int) and -len(counted) <= layer < len(counted):
        return counted[layer]
    if isinstance(layer, str) and layer in names:
        return layer
    hint = did_you_mean(layer, names) if isinstance(layer, str) else ""
    shallow = [name for name in names if name.count(".") < 2 and name not in counted][:_LISTED_AT_MOST]
    numbered = (f"{number}: {name}" for number, name in enumerate(counted))
    raise ConfigError(f"{key}: there is no layer {layer!r}{hint}; known are {', '.join(chain(numbered, shallow))}.")


def _weights(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())

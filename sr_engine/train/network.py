"""The generator of a run where it is a network of another project."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from sr_engine.config import arguments
from sr_engine.config.load import parse_config
from sr_engine.config.schema import Config, Typed
from sr_engine.errors import ConfigError
from sr_engine.models.community import TYPE, tried
from sr_engine.models.community_network import CommunityNetwork
from sr_engine.models.files import read_model_file
from sr_engine.models.generator import Generator


def with_network(config: Config, state: Mapping[str, Any] | None = None) -> Config:
    """The configuration with the network spelt out: without `arch` it is that of `load_from`.

    Args:
        state: the checkpoint to continue from, which says it too: the file may be gone by then.

    Raises:
        EngineError: the file cannot be read, or holds no network of another project at this scale.
    """
    if config.network_g.type != TYPE or config.network_g.arguments.get("arch") is not None:
        return config
    if state is not None:
        return config.model_copy(update={"network_g": parse_config(state["config"], "checkpoint").network_g})
    assert config.load_from is not None, "config.rules asks for it"
    spec = read_model_file(config.load_from, key=config.param_key_g).spec
    if spec.architecture != TYPE:
        raise ConfigError(
            f"load_from: {config.load_from} holds a network of type {spec.architecture}: give network_g that type."
        )
    if spec.scale != config.scale:
        raise ConfigError(
            f"load_from: {config.load_from} upscales by {spec.scale}, the scale of the configuration is "
            f"{config.scale}: make them equal, or name network_g.arch and set strict_load_g: false."
        )
    given = {name: value for name, value in spec.arguments.items() if name != "scale"}
    checked, problems = arguments.check("network_g", TYPE, given, ("network_g",), scale=config.scale)
    if problems:
        raise ConfigError(f"load_from: {config.load_from}: {problems[0].text}.")
    return config.model_copy(update={"network_g": Typed(type=TYPE, arguments=checked)})


def prepare_network(net: nn.Module, *, accelerating: bool, device: torch.device) -> list[str]:
    """Bring a new generator to its device and swap its attention layers if asked for; what to say about it.

    Names of weights stay, and so does what they compute.
    """
    notes = []
    if isinstance(net, CommunityNetwork) and (difference := tried(net)) is not None:
        notes.append(
            f"spandrel will read model.safetensors with other arguments ({difference}): sr-engine reads it rightly, "
            "other programs will not"
        )
    net.to(device)
    if accelerating and not isinstance(net, Generator):
        from sr_engine.dropin import accelerate

        _, report = accelerate(net)
        if isinstance(net, CommunityNetwork) or report.swapped:
            notes.append(f"accelerate: {report.summary()}")
    return notes

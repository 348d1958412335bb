"""The generator of a run where its file says what it is: a network of another project, or a pruned one."""

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

import torch
from torch import nn

from sr_engine.config import arguments
from sr_engine.config.load import parse_config
from sr_engine.config.schema import Config, Typed
from sr_engine.errors import ConfigError
from sr_engine.models.community import TYPE, tried
from sr_engine.models.community_files import is_foreign
from sr_engine.models.community_network import CommunityNetwork
from sr_engine.models.files import find_model, read_model_file
from sr_engine.models.generator import Generator
from sr_engine.models.presets import LAYOUTS, Layout

# What pruning changes of a layout, of which nobody but pruning makes the last three; and what no weight depends on.
_UNEVEN = ("inner", "hidden", "head_dim")
_WIDTHS = ("width", "kernel_channels", "heads", *_UNEVEN)
_SWITCHES = ("routing", "share")


def with_network(config: Config, state: Mapping[str, Any] | None = None) -> Config:
    """The configuration with the network spelt out where it follows from `load_from`: one of another project without
    `arch`, or the widths of a generator that has been pruned.

    Args:
        state: the checkpoint to continue from, which says it too: the file may be gone by then.

    Raises:
        EngineError: the file cannot be read, or holds no network of another project at this scale.
    """
    if config.network_g.type == "generator" and config.load_from is not None:
        return _with_widths(config, state)
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


def _with_widths(config: Config, state: Mapping[str, Any] | None) -> Config:
    """With the widths of the pruned file, where `network_g` names no others and is the same layout otherwise."""
    assert config.load_from is not None, "asked before"
    own = config.network_g.arguments
    if state is not None:
        theirs = _saved_network(state)
    elif is_foreign(find_model(config.load_from)):
        return config
    else:
        spec = read_model_file(config.load_from).spec
        if "pruned" not in spec.training and not any(name in spec.arguments for name in _UNEVEN):
            return config
        theirs = Typed(type=spec.architecture, arguments=spec.arguments)
    if theirs.type != "generator" or _without_widths(theirs) != _without_widths(config.network_g):
        return config
    whole = LAYOUTS[own["preset"]]
    widths = {name: theirs.arguments.get(name) for name in _WIDTHS}
    if any(own.get(name) not in (None, value) for name, value in widths.items()):
        return config
    changed = {name: value for name, value in widths.items() if value not in (None, getattr(whole, name))}
    return config.model_copy(update={"network_g": Typed(type="generator", arguments={**own, **changed})})


def _saved_network(state: Mapping[str, Any]) -> Typed:
    """That of a checkpoint; none of a configuration that this version cannot read, which is told elsewhere."""
    try:
        return parse_config(state["config"], "checkpoint").network_g
    except ConfigError:
        return Typed(type="")


def _without_widths(network: Typed) -> dict[str, Any]:
    """Everything else that shapes a generator."""
    given, preset = network.arguments, network.arguments.get("preset", "tiny")
    names = [field.name for field in fields(Layout) if field.name not in (*_WIDTHS, *_SWITCHES)]
    values = {name: getattr(LAYOUTS[preset], name) if given.get(name) is None else given[name] for name in names}
    return {"preset": preset, **values}


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

"""Networks of other projects: SwinIR, HAT, DAT, ESRGAN, SPAN and whatever else spandrel knows.

A file becomes a network of ours with `load_community`; `{type: spandrel, arch: SwinIR, ...}` in a configuration makes a
new one to train. spandrel is the optional extra `zoo` and is imported when one of these is called.
"""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import sr_engine.models.community_arches as arches
from sr_engine.config import registry
from sr_engine.errors import ConfigError, EngineError, ModelFileError
from sr_engine.models.community_files import read_weights
from sr_engine.models.community_network import CommunityNetwork, SizeRule
from sr_engine.models.spec import ModelSpec

TYPE = "spandrel"

_EXPECTED = "expected a network such as SwinIR, HAT, DAT, ESRGAN or SPAN, or a file that `sr-engine train` wrote"


def load_community(path: Path, key: str | None = None) -> CommunityNetwork:
    """The network in a file of weights of another program; its architecture is told from the weights.

    Args:
        key: where in the file the weights are, such as `params`; None = the averaged ones where there are any.

    Raises:
        ModelFileError: the file cannot be read, its architecture is unknown or does not upscale or restore pictures,
            or spandrel is not installed.
    """
    state = read_weights(path, key)
    try:
        architecture, state = _detected(state)
    except arches.MissingSpandrelError:
        raise ModelFileError(f"{path}: not a model file of sr-engine; {arches.MISSING}.") from None
    if architecture is None:
        some = ", ".join(list(state)[:3])
        raise ModelFileError(
            f"{path}: not a model file of sr-engine, nor weights that spandrel knows (they begin with {some}); "
            f"{_EXPECTED}."
        )
    try:
        descriptor = arches.loaded(architecture, state)
    except Exception as error:  # whatever shapes or names that do not belong together lead to
        raise ModelFileError(
            f"{path}: looks like {architecture.name}, but its weights do not make one ({_first_line(error)}); "
            f"{_EXPECTED}."
        ) from error
    try:
        return _wrapped(descriptor)
    except EngineError as error:
        raise ModelFileError(f"{path}: {error}") from error


@registry.register("network_g", TYPE)
def spandrel(*, scale: int, arch: str | None = None, **arguments: Any) -> CommunityNetwork:
    """A network of another project, as spandrel has it: SwinIR, HAT, DAT, SRFormer, ESRGAN, SPAN, ... (extra `zoo`).

    The other keys are the arguments of that network's class, checked by its signature; its argument for the enlargement
    (`upscale`, ...) follows `scale`. Files and checkpoints of the run keep the network's own names of weights, so that
    spandrel and the programs that use it load them.

    Args:
        arch: name in spandrel, in any spelling of upper and lower case; without it, network and arguments are those of
            the file that `load_from` names.

    Raises:
        ConfigError: spandrel is not installed, or the network refuses its arguments.
    """
    if arch is None:
        raise ConfigError("network_g: expected arch, such as SwinIR, or load_from to take it from.")
    found = _found(arch)
    try:
        net = found.build(scale, arguments)
        descriptor = arches.loaded(found.support, net.state_dict())
    except Exception as error:  # classes of many projects: anything
        raise ConfigError(
            f"network_g: {found.name} cannot be made with these arguments ({_first_line(error)})."
        ) from error
    if descriptor.scale != scale:
        raise ConfigError(
            f"network_g: {found.name} with these arguments upscales by {descriptor.scale}, not by {scale}, the scale "
            "of the configuration; look at its arguments for upsampling."
        )
    try:
        return _wrapped(descriptor, net)
    except EngineError as error:
        raise ConfigError(f"network_g: {error}") from error


def tried(net: CommunityNetwork) -> str | None:
    """Run a network once on the CPU; which arguments spandrel takes for others, where that changes its output.

    Files of weights do not say their arguments, and spandrel guesses some: a run with others is read rightly here
    (files of ours say them) but not elsewhere. None = elsewhere too.

    Raises:
        ConfigError: it does not run, such as with a width that its heads do not divide.
    """
    arch = arches.of_network(net.net)
    x, training = torch.linspace(0, 1, 3 * 24 * 40).view(1, 3, 24, 40), net.training
    try:
        with torch.no_grad():
            y = net.eval()(x)
    except Exception as error:  # classes of many projects: anything
        raise ConfigError(
            f"network_g: {arch.name} does not run with these arguments ({_first_line(error)})."
        ) from error
    finally:
        net.train(training)
    guessed = arches.loaded(arch.support, net.net.state_dict()).model
    mine, theirs = arches.hyperparameters(net.net), arches.hyperparameters(guessed)
    other = [name for name in arch.parameters if _listed(mine.get(name)) != _listed(theirs.get(name))]
    if not other:
        return None
    elsewhere = CommunityNetwork(guessed, net.spec, channels=net.channels, sizes=net.sizes, call=net.call).eval()
    with torch.no_grad():
        same = torch.allclose(y, elsewhere(x), rtol=0, atol=1e-6)
    return None if same else ", ".join(f"{name} {theirs.get(name)} for {mine.get(name)}" for name in other)


def _found(name: str) -> arches.Arch:
    try:
        return arches.find(name)
    except EngineError as error:
        raise ConfigError(str(error)) from error


def _signature(given: Mapping[str, Any]) -> Callable[..., Any]:
    """What can stand beside `type: spandrel`; without `arch` nothing, since it says nothing then."""
    arches.registry()
    name = given.get("arch")
    if name is None:
        return _without_arch
    if not isinstance(name, str):
        raise ConfigError(f"expected the name of an architecture, got {name!r}")
    return arches.signature(_found(name))


def _without_arch(*, arch: str | None = None) -> None:
    """Architecture and arguments come from `load_from`."""


def _contradictions(given: Mapping[str, Any], scale: Any) -> Iterator[tuple[str, str]]:
    if (name := given.get("arch")) is None or not isinstance(scale, int):
        return
    arch = _found(name)
    own, expected = given.get(arch.scale or ""), arch.own_scale(scale, given)
    if own is not None and own != expected:
        yield str(arch.scale), f"expected {expected}, which follows from the scale of the configuration, got {own}"


registry.refine("network_g", TYPE, registry.Refinement(_signature, _contradictions, key="arch"))


def _detected(state: dict[str, Tensor]) -> tuple[Any, dict[str, Tensor]]:
    """The architecture of weights; names may have one more part in front, such as `generator.`, that is taken off."""
    candidate = state
    while candidate:
        if (architecture := arches.detect(candidate)) is not None:
            return architecture, candidate
        heads = {name.partition(".")[0] for name in candidate}
        if len(heads) > 1 or not all("." in name for name in candidate):
            break
        candidate = {name.partition(".")[2]: value for name, value in candidate.items()}
    return None, state


def _wrapped(descriptor: Any, own: nn.Module | None = None) -> CommunityNetwork:
    """A descriptor of spandrel's as a network of ours; `own`, of equal weights, takes the place of its network."""
    name = descriptor.architecture.name
    if descriptor.purpose not in ("SR", "Restoration"):
        raise EngineError(
            f"{name} is a network for {descriptor.purpose}, which cannot be served; expected one that upscales or "
            "restores whole pictures."
        )
    channels = descriptor.input_channels
    if channels != descriptor.output_channels or channels not in (1, 3, 4):
        raise EngineError(
            f"{name} maps {channels} channels to {descriptor.output_channels}, which is no upscaling of pictures; "
            "expected 1, 3 or 4 to as many."
        )
    net: nn.Module = descriptor.model if own is None else own
    net.train()
    arch = arches.of_network(net)
    sizes = descriptor.size_requirements
    spec = ModelSpec(
        architecture=TYPE,
        arguments={"scale": descriptor.scale, "arch": arch.name, **arch.arguments_of(net)},
        scale=descriptor.scale,
        size_multiple=arches.tile_multiple(net, sizes.multiple_of),
        parameters=sum(p.numel() for p in net.parameters()),
    )
    rule = SizeRule(sizes.minimum, sizes.multiple_of, sizes.square)
    return CommunityNetwork(
        net,
        spec,
        channels=channels,
        sizes=rule,
        call=_call(descriptor),
        supports_bfloat16=descriptor.supports_bfloat16,
    )


def _call(descriptor: Any) -> Callable[[nn.Module, Tensor], Tensor] | None:
    """How the network is called, where it takes or gives more than the picture: spandrel keeps that to itself."""
    call = getattr(descriptor, "_call_fn", None)
    plain = call is None or call.__qualname__.startswith("ImageModelDescriptor.")
    return None if plain else call


def _listed(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {' '.join(lines[:2])[:200]}"

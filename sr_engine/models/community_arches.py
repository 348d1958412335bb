"""The architectures that spandrel knows: finding one by name or by its weights, and the arguments it takes.

spandrel is imported when a function here is called, never before: it is the optional extra `zoo`.
"""

import inspect
import math
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any, cast, get_type_hints

from torch import Tensor, nn

from sr_engine.errors import EngineError, did_you_mean

MISSING = "networks of other projects need spandrel: pip install 'sr-engine[zoo]'"

# What their classes call the enlargement, and a factor by which they first shrink the picture into channels.
_SCALES = ("upscale", "scale", "up_scale", "upscale_factor", "upscaling_factor", "scale_factor")
_UNSHUFFLES = ("start_unshuffle", "shuffle_factor")
_WINDOWS = ("window_size", "win_size", "split_size", "split_size_0", "split_size_1", "stripe_size", "patch_size")
_FRACTIONS = ("ratio", "rate", "factor", "scale", "range", "path", "dropout", "expansion")
_NO_SCALE = ("SAFMN_BCIE",)  # its upscaling_factor is that of a picture it shrinks first
_ORIGIN = 16  # tile origins of networks without windows: a multiple of what U-Nets shrink by


class MissingSpandrelError(EngineError):
    """spandrel is not installed; the message says what to install."""


@dataclass(frozen=True)
class Arch:
    """A class of networks.

    Attributes:
        name: as configurations and our files spell it: spandrel's id, or the class where an id has several.
        support: spandrel's `Architecture`, which detects and loads weights.
        network: the class of the network.
        scale: its argument for the enlargement, None if it has none.
        unshuffle: its argument for a factor by which it shrinks the picture first, None if it has none.
    """

    name: str
    support: Any
    network: type[nn.Module]
    scale: str | None
    unshuffle: str | None

    @property
    def parameters(self) -> dict[str, inspect.Parameter]:
        """The arguments of the class by name."""
        found = inspect.signature(self.network.__init__).parameters
        return {name: parameter for name, parameter in found.items() if name != "self"}

    def own_scale(self, scale: int, arguments: Mapping[str, Any]) -> int:
        """What its scale argument must be to enlarge by `scale`."""
        return scale * ((arguments.get(self.unshuffle) if self.unshuffle else None) or 1)

    def build(self, scale: int, arguments: Mapping[str, Any]) -> nn.Module:
        """A new network."""
        given = dict(arguments)
        if self.scale is not None and given.get(self.scale) is None:
            several = isinstance(self.parameters[self.scale].default, list)  # IPT has a tail for each scale
            own = self.own_scale(scale, given)
            given[self.scale] = [own] if several else own
        tuples = {name for name, parameter in self.parameters.items() if isinstance(parameter.default, tuple)}
        with _quiet():
            return self.network(**{k: tuple(v) if k in tuples and isinstance(v, list) else v for k, v in given.items()})

    def arguments_of(self, net: nn.Module) -> dict[str, Any]:
        """The plain arguments a network was built with; classes and functions are left to their defaults."""
        values = hyperparameters(net)
        plain = {name: _plain(values[name]) for name in self.parameters if name in values and name != "scale"}
        return {name: value for name, value in plain.items() if value is not ...}


def registry() -> Any:
    """spandrel's registry, with the architectures of spandrel_extra_arches where they are installed; a copy.

    Raises:
        MissingSpandrelError: spandrel is not installed.
    """
    with _quiet():
        return _registry()


def _registry() -> Any:
    try:
        from spandrel import MAIN_REGISTRY  # pyright: ignore[reportMissingImports]
    except ImportError:
        raise MissingSpandrelError(f"{MISSING}.") from None
    found = MAIN_REGISTRY.copy()
    try:
        from spandrel_extra_arches import EXTRA_REGISTRY  # pyright: ignore[reportMissingImports]
    except ImportError:
        return found
    found.add(*EXTRA_REGISTRY, ignore_duplicates=True)
    return found


def detect(state: Mapping[str, Tensor]) -> Any:
    """spandrel's `Architecture` that these weights belong to, None if it knows none."""
    for support in registry().architectures("detection"):
        if support.detect(dict(state)):
            return support.architecture
    return None


def loaded(architecture: Any, state: Mapping[str, Tensor]) -> Any:
    """spandrel's descriptor of a network with these weights, which stay as they are."""
    with _quiet():
        return architecture.load(dict(state))


def find(name: str) -> Arch:
    """The architecture of this name, in any spelling of upper and lower case.

    Raises:
        MissingSpandrelError: spandrel is not installed.
        EngineError: there is no such architecture.
    """
    known = _catalogue()
    if name.lower() not in known:
        names = sorted({arch.name for arch in known.values()}, key=str.lower)
        hint = did_you_mean(name.lower(), known)
        raise EngineError(f"expected an architecture of spandrel, got '{name}'{hint}; known are: {', '.join(names)}")
    return known[name.lower()]


def of_network(net: nn.Module) -> Arch:
    """The architecture of a network of spandrel's."""
    return next(arch for arch in _catalogue().values() if isinstance(net, arch.network))  # also an accelerated one


@cache
def signature(arch: Arch) -> Callable[..., Any]:
    """A function whose signature is what a configuration can say beside `arch`.

    Most classes have no type hints; then a type follows from the default: whole numbers and lists of them stand for
    sizes, numbers for shares.
    """
    hints = _hints(arch.network)
    fields = [inspect.Parameter("arch", inspect.Parameter.KEYWORD_ONLY, annotation=str)]
    for name, parameter in arch.parameters.items():
        required = parameter.default is inspect.Parameter.empty
        if callable(parameter.default) and not required:
            continue  # layers and functions cannot stand in a file
        hint = hints.get(name, Any if required else _hint(name, parameter.default))
        default = parameter.default
        if name == arch.scale:  # by default that of the configuration
            hint, default = int | None, None
        fields.append(inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, annotation=hint, default=default))

    def network(**_: Any) -> None:
        """Arguments of a network of another project."""

    network.__name__ = arch.network.__name__
    network.__signature__ = inspect.Signature(fields)  # pyright: ignore[reportFunctionMemberAccess]
    network.__annotations__ = {field.name: field.annotation for field in fields}
    return network


def hyperparameters(net: nn.Module) -> Mapping[str, Any]:
    """The arguments a network of spandrel's was built with."""
    return cast(Mapping[str, Any], getattr(net, "hyperparameters", {}))


def tile_multiple(net: nn.Module, multiple_of: int) -> int:
    """What the origins of tiles must be multiples of, so that windows lie as they do in the whole picture."""
    values = hyperparameters(net)
    found = [values[name] for name in _WINDOWS if name in values]
    sides = [side for value in found for side in (value if isinstance(value, list | tuple) else [value])]
    sides = [side for side in sides if isinstance(side, int) and 1 < side <= 64] or [_ORIGIN]
    shrink = max([values.get(name) or 1 for name in _UNSHUFFLES])
    shrink *= 4 if values.get("unshuffle_mod") else 1
    together = math.lcm(multiple_of, shrink * math.lcm(*sides))
    return together if together <= 128 else max(multiple_of, shrink * max(sides))


@cache
def _catalogue() -> dict[str, Arch]:
    """Every class of every architecture, under its id and its class name in lower case."""
    known: dict[str, Arch] = {}
    for support in registry():
        architecture = support.architecture
        classes = _networks(architecture)
        for network in classes:
            single = len(classes) == 1 or network.__name__ == architecture.id
            arch = _arch(str(architecture.id) if single else network.__name__, architecture, network)
            known.setdefault(arch.name.lower(), arch)
            if network.__name__ != "Generator":  # SwiftSRGAN's: a name that says nothing
                known.setdefault(network.__name__.lower(), arch)
    return known


@contextmanager
def _quiet() -> Iterator[None]:
    """Without warnings about the future of what these networks call, which their users cannot change."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _networks(architecture: Any) -> list[type[nn.Module]]:
    module = sys.modules[type(architecture).__module__]
    values = [getattr(module, name) for name in getattr(module, "__all__", ())]
    return [value for value in values if isinstance(value, type) and issubclass(value, nn.Module)]


def _arch(name: str, architecture: Any, network: type[nn.Module]) -> Arch:
    arguments = inspect.signature(network.__init__).parameters
    scale = next((key for key in _SCALES if key in arguments), None) if network.__name__ not in _NO_SCALE else None
    unshuffle = next((key for key in _UNSHUFFLES if key in arguments), None)
    return Arch(name, architecture, network, scale, unshuffle)


def _hints(network: type[nn.Module]) -> dict[str, Any]:
    try:
        return get_type_hints(network.__init__)
    except (NameError, TypeError):
        return {}


def _hint(name: str, default: Any) -> Any:
    if isinstance(default, bool):
        return bool
    if isinstance(default, int) and not any(word in name for word in _FRACTIONS):
        return int | list[int]
    if isinstance(default, int | float):
        return int | float
    if isinstance(default, str):
        return str
    return list[Any] if isinstance(default, list | tuple) else Any


def _plain(value: Any) -> Any:
    """A value as it stands in JSON, `...` for what cannot."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, list | tuple):
        items = [_plain(item) for item in value]
        return ... if ... in items else items
    return ...

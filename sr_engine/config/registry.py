"""Names of networks, losses, data sets, optimisers and schedulers, and the class or function behind each.

A configuration's `type` is a name here, and its other keys are the keyword arguments of what is registered: the
signature is the schema. Registering is the whole interface of a plugin file.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeVar, get_args

from sr_engine.errors import ConfigError, did_you_mean

Kind = Literal["network_g", "network_d", "loss", "dataset", "optimizer", "scheduler"]
T = TypeVar("T", bound=Callable[..., Any])

_entries: dict[str, dict[str, Callable[..., Any]]] = {kind: {} for kind in get_args(Kind)}
_refinements: dict[tuple[Kind, str], "Refinement"] = {}


@dataclass(frozen=True)
class Refinement:
    """For a type whose arguments depend on those given, such as on the name of a network of another library.

    Attributes:
        signature: given arguments -> what has the signature to check them by; an error in it is a problem of `key`.
        contradictions: checked arguments, scale of the configuration -> (argument, what is wrong with it).
        key: the argument that decides.
    """

    signature: Callable[[Mapping[str, Any]], Callable[..., Any]]
    contradictions: Callable[[Mapping[str, Any], Any], Iterable[tuple[str, str]]]
    key: str


def register(kind: Kind, name: str) -> Callable[[T], T]:
    """Decorator: make a class or function available in configurations as `type: name`.

    Raises:
        ConfigError: the name is taken by something else; the registry is left unchanged.
    """

    def add(target: T) -> T:
        present = _entries[kind].get(name)
        if present is not None and _identity(present) != _identity(target):
            raise ConfigError(f"{kind} '{name}' is registered twice: by {_identity(present)} and {_identity(target)}.")
        _entries[kind][name] = target
        return target

    return add


def get(kind: Kind, name: str) -> Callable[..., Any]:
    """What is registered as `name`.

    Raises:
        ConfigError: nothing is; the message lists what there is.
    """
    if name not in _entries[kind]:
        known = ", ".join(names(kind)) or "none"
        raise ConfigError(f"unknown {kind} type '{name}'{did_you_mean(name, names(kind))}; known are: {known}.")
    return _entries[kind][name]


def refine(kind: Kind, name: str, refinement: Refinement) -> None:
    """Say how the arguments of a registered type depend on each other."""
    _refinements[kind, name] = refinement


def refinement(kind: Kind, name: str) -> Refinement | None:
    """What `refine` said of a type, None for one with a fixed signature."""
    return _refinements.get((kind, name))


def names(kind: Kind) -> list[str]:
    """All registered names of a kind, sorted."""
    return sorted(_entries[kind])


def build(kind: Kind, name: str, **arguments: Any) -> Any:
    """Call what is registered as `name` with the given keyword arguments."""
    return get(kind, name)(**arguments)


def _identity(target: Callable[..., Any]) -> str:
    return f"{target.__module__}.{target.__qualname__}"

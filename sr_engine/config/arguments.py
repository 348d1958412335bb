"""Names and arguments of what a `type` in a configuration can be."""

from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

from pydantic import BaseModel, ValidationError

from sr_engine.config import registry
from sr_engine.config.keys import known_keys
from sr_engine.config.optimizers import find_optimizer, optimizer_names
from sr_engine.config.problems import Problem, from_validation
from sr_engine.config.registry import Kind
from sr_engine.config.signature import dump_model, signature_model
from sr_engine.config.yaml12 import KeyPath, Value
from sr_engine.errors import EngineError

# What the builder of each kind passes itself.
SUPPLIED: dict[Kind, frozenset[str]] = {"network_g": frozenset({"scale"}), "optimizer": frozenset({"params"})}
# Defaults of the engine that differ from those of the signature: the betas of SR training since BasicSR.
DEFAULTS: dict[Kind, dict[str, Value]] = {"optimizer": {"betas": [0.9, 0.99]}}


def names(kind: Kind) -> list[str]:
    """All names that `type` may have in an entry of this kind."""
    return sorted({*registry.names(kind), *(optimizer_names() if kind == "optimizer" else ())})


def find(kind: Kind, name: str) -> tuple[str, Callable[..., Any]]:
    """Spelling and target of a type; optimisers of torch are found in any spelling of upper and lower case.

    Raises:
        ConfigError: there is none of this name.
    """
    if kind == "optimizer" and name not in registry.names(kind) and (found := find_optimizer(name)) is not None:
        return found.__name__, found
    return name, registry.get(kind, name)


def check(
    kind: Kind, name: str, given: Mapping[Any, Value], base: KeyPath, *, scale: Value = None
) -> tuple[dict[str, Value], list[Problem]]:
    """The arguments of an entry with the defaults of the signature filled in, and what is wrong with those given.

    `scale` is that of the configuration, for types whose arguments must agree with it.
    """
    target = find(kind, name)[1]
    refinement = registry.refinement(kind, name)
    kept: dict[str, Value] = {}  # of an entry with problems
    if refinement is not None:
        kept = {refinement.key: given[refinement.key]} if refinement.key in given else {}
        try:
            target = refinement.signature(given)
        except EngineError as error:
            return kept, [Problem((*base, *kept), str(error))]
    model = arguments_model(kind, target)
    try:
        values = dump_model(model.model_validate(given), given)
    except ValidationError as error:
        return kept, from_validation(error, given, base, lambda path: known_keys(model, path[len(base) :]))
    if kind == "optimizer":  # flags that are off are left out: each version of torch has other ones
        values = {key: value for key, value in values.items() if key in given or value is not False}
    if refinement is not None:
        found = refinement.contradictions(values, scale)
        return values, [Problem((*base, argument), text) for argument, text in found]
    return values, []


@cache
def arguments_model(kind: Kind, target: Callable[..., Any]) -> type[BaseModel]:
    """The configurable arguments of a target as a pydantic model; its aliases are the argument names."""
    return signature_model(target, without=SUPPLIED.get(kind, ()), defaults=DEFAULTS.get(kind))

"""Checks for the arguments of what is registered: the signature is the schema.

An argument is configurable when its type is plain data: numbers, strings, booleans, literals, lists, tuples, mappings,
typed dictionaries and unions of these. Other members of a union (`float | Tensor`) are left out; an argument that has
no plain member is not configurable. What the engine supplies itself (`params`, `scale`) is not configurable either.
"""

import inspect
import types
from collections.abc import Callable, Collection, Iterable, Mapping, MutableMapping, MutableSequence, Sequence
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal, NotRequired, Optional, Required, Union, get_args, get_origin, get_type_hints

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, Strict, ValidationError, create_model
from pydantic_core import PydanticCustomError
from typing_extensions import TypedDict, is_typeddict

from sr_engine.config import registry
from sr_engine.config.keys import known_keys
from sr_engine.config.optimizers import find_optimizer, optimizer_names
from sr_engine.config.problems import Problem, from_validation
from sr_engine.config.registry import Kind
from sr_engine.config.yaml12 import KeyPath, Value
from sr_engine.errors import ConfigError

# What the builder of each kind passes itself.
SUPPLIED: dict[Kind, frozenset[str]] = {
    "network_g": frozenset({"scale"}),
    "network_d": frozenset(),
    "loss": frozenset(),
    "dataset": frozenset({"scale", "patch_size", "role"}),
    "optimizer": frozenset({"params"}),
    "scheduler": frozenset({"optimizer", "total_iter"}),
}
# Defaults of the engine that differ from those of the signature: the betas of SR training since BasicSR.
DEFAULTS: dict[Kind, dict[str, Any]] = {"optimizer": {"betas": [0.9, 0.99]}}

_CONFIG = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)
_SEQUENCES = (list, Sequence, MutableSequence, Iterable, Collection)
_MAPPINGS = (dict, Mapping, MutableMapping)


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


def check(kind: Kind, name: str, given: Mapping[Any, Value], base: KeyPath) -> tuple[dict[str, Value], list[Problem]]:
    """The arguments of an entry with the defaults of the signature filled in, and what is wrong with those given.

    A default of None is not filled in: it means that the target chooses.
    """
    model = arguments_model(kind, find(kind, name)[1])
    try:
        checked = model.model_validate(dict(given))
    except ValidationError as error:
        return {}, from_validation(error, dict(given), base, lambda path: known_keys(model, path[len(base) :]))
    values = {}
    for key, field in model.model_fields.items():
        value = plain_value(getattr(checked, key))
        if field.alias is not None and value is not ... and (value is not None or field.alias in given):
            values[field.alias] = value
    return values | {key: plain_value(value) for key, value in (checked.model_extra or {}).items()}, []


@cache
def arguments_model(kind: Kind, target: Callable[..., Any]) -> type[BaseModel]:
    """The configurable arguments of a target as a pydantic model; its aliases are the argument names."""
    hints = _hints(target)
    fields: dict[str, Any] = {}
    config = _CONFIG
    for parameter in inspect.signature(target).parameters.values():
        if parameter.kind is parameter.VAR_KEYWORD:
            config = ConfigDict(**{**_CONFIG, "extra": "allow"})
        by_name = parameter.kind in (parameter.KEYWORD_ONLY, parameter.POSITIONAL_OR_KEYWORD)
        hint = plain_type(hints.get(parameter.name, Any)) if by_name and parameter.name not in SUPPLIED[kind] else None
        if hint is None:
            continue
        default = DEFAULTS.get(kind, {}).get(parameter.name, parameter.default)
        if default is None:
            hint = Optional[hint]  # noqa: UP045  a computed union
        # Positional field names, since an argument may be called `copy` or `_x`, which pydantic keeps for itself.
        arguments: dict[str, Any] = {"alias": parameter.name}
        if default is not parameter.empty:
            arguments["default"] = None if (value := plain_value(default)) is ... else value
        fields[f"argument_{len(fields)}"] = (hint, Field(**arguments))
    return create_model(
        getattr(target, "__name__", "arguments"), __config__=config, __doc__=inspect.getdoc(target), **fields
    )


def plain_type(hint: Any) -> Any:
    """The part of a type hint that plain data can have, None when there is none."""
    origin, inner = get_origin(hint), get_args(hint)
    if hint in (Any, type(None), bool, int, float, str, dict, list):
        return hint
    if hint is Path:
        return Annotated[Path, Strict(False)]
    if is_typeddict(hint):
        return _typed_dict(hint)
    if origin is Literal:
        return Annotated[hint, BeforeValidator(_no_bool)] if not any(isinstance(i, bool) for i in inner) else hint
    if origin in (Annotated, Required, NotRequired):
        part = plain_type(inner[0])
        return None if part is None else Annotated[part, *hint.__metadata__] if origin is Annotated else part
    if origin in (Union, types.UnionType):
        parts = [part for part in map(plain_type, inner) if part is not None]
        return Union[tuple(parts)] if set(parts) - {type(None)} else None  # noqa: UP007  a computed union
    if origin in _SEQUENCES or hint in _SEQUENCES:
        return _of(list, inner or (Any,))
    if origin in _MAPPINGS or hint in _MAPPINGS:
        return _of(dict, inner or (Any, Any))
    if origin is tuple:
        parts = _of(tuple, tuple(part for part in inner if part is not ...))
        return (
            None
            if parts is None
            else Annotated[tuple[*get_args(parts), *inner[-1:]] if ... in inner else parts, Strict(False)]
        )
    return None


def plain_value(value: Any) -> Any:
    """A value as it stands in a file: tuples are lists, paths are strings; `...` when it is no plain data."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, Mapping):
        items = {key: plain_value(item) for key, item in value.items()}
        return ... if ... in items.values() else items
    if isinstance(value, list | tuple | set | frozenset):
        entries = [plain_value(item) for item in value]
        return ... if ... in entries else entries
    return ...


def _of(container: Any, inner: tuple[Any, ...]) -> Any:
    parts = tuple(plain_type(part) for part in inner)
    return None if None in parts else container[parts]


def _typed_dict(hint: Any) -> Any:
    parts = {key: plain_type(part) for key, part in get_type_hints(hint, include_extras=True).items()}
    fields = {
        key: Required[part] if key in hint.__required_keys__ else NotRequired[part]
        for key, part in parts.items()
        if part is not None
    }
    checked = TypedDict(hint.__name__, fields)  # type: ignore[misc]  computed fields
    checked.__pydantic_config__ = _CONFIG  # type: ignore[attr-defined]  read by pydantic: forbids other keys
    return checked


def _no_bool(value: Any) -> Any:
    if isinstance(value, bool):  # True == 1 would pass as the literal 1
        raise PydanticCustomError("expected", "another value than a boolean")
    return value


def _hints(target: Callable[..., Any]) -> dict[str, Any]:
    function = target.__init__ if inspect.isclass(target) else target
    try:
        return get_type_hints(function, include_extras=True)
    except NameError as error:
        raise ConfigError(
            f"{target.__module__}.{target.__qualname__}: the type of an argument cannot be read ({error}); "
            "import it at run time, not only under TYPE_CHECKING."
        ) from None

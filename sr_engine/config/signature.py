"""From the signature of a class or function to a pydantic model of those arguments that a file can give.

An argument can be given when its type is plain data: numbers, strings, booleans, literals, lists, tuples, mappings,
typed dictionaries, dataclasses (as mappings) and unions of these. Other members of a union (`float | Tensor`) are left
out, and so is an argument that has no plain member.
"""

import inspect
import types
from collections.abc import Callable, Collection, Iterable, Mapping, MutableMapping, MutableSequence, Sequence
from dataclasses import is_dataclass
from pathlib import Path
from typing import (
    Annotated,
    Any,
    Literal,
    NamedTuple,
    NotRequired,
    Optional,
    Required,
    Union,
    get_args,
    get_origin,
    get_type_hints,
)

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, Strict, create_model
from pydantic_core import PydanticCustomError
from typing_extensions import is_typeddict

from sr_engine.config.docstrings import argument_texts, description
from sr_engine.config.yaml12 import Value
from sr_engine.errors import ConfigError

_CONFIG = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)
_SEQUENCES = (list, Sequence, MutableSequence, Iterable, Collection)
_MAPPINGS = (dict, Mapping, MutableMapping)
_CHOSEN = object()  # the default of an argument that is not required but has no plain default


def signature_model(
    target: Callable[..., Any], *, without: Collection[str] = (), defaults: Mapping[str, Value] | None = None
) -> type[BaseModel]:
    """The arguments of `target` as a model; its aliases are their names.

    Args:
        without: names to leave out.
        defaults: replace those of the signature.

    Raises:
        ConfigError: the type hints cannot be read.
    """
    hints = _hints(target)
    parameters = inspect.signature(target).parameters.values()
    fields = []
    texts = argument_texts(target)
    for parameter in parameters:
        by_name = parameter.kind in (parameter.KEYWORD_ONLY, parameter.POSITIONAL_OR_KEYWORD)
        if by_name and parameter.name not in without:
            default = (defaults or {}).get(parameter.name, parameter.default)
            fields.append(_Argument(parameter.name, hints.get(parameter.name, Any), default, texts.get(parameter.name)))
    open_ended = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters)
    return _model(target.__name__, description(target), fields, extra="allow" if open_ended else "forbid")


def dump_model(model: BaseModel, given: Mapping[Any, Value]) -> dict[str, Value]:
    """What a model of `signature_model` holds as it stands in a file, defaults included.

    A default of None is left out: it means that the target chooses.
    """
    values: dict[str, Value] = {}
    for name, field in type(model).model_fields.items():
        key = field.alias or name
        value, from_file = getattr(model, name), given.get(key)
        if key in given or value is not None:
            inner = from_file if isinstance(from_file, Mapping) else {}
            values[key] = dump_model(value, inner) if isinstance(value, BaseModel) else plain_value(value)
    return values | (model.model_extra or {})


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


def plain_type(hint: Any) -> Any:
    """The part of a type hint that plain data can have, None when there is none."""
    origin, inner = get_origin(hint), get_args(hint)
    if hint in (Any, type(None), bool, int, float, str, dict, list):
        return hint
    if hint is Path:
        return Annotated[Path, Strict(False)]
    if is_typeddict(hint):
        return _typed_dict(hint)
    if isinstance(hint, type) and is_dataclass(hint):
        return signature_model(hint)
    if origin is Literal:
        return Annotated[hint, BeforeValidator(_no_bool)] if {type(value) for value in inner} >= {int} else hint
    if origin in (Annotated, Required, NotRequired):
        part = plain_type(inner[0])
        return Annotated[part, *hint.__metadata__] if origin is Annotated and part is not None else part
    if origin in (Union, types.UnionType):
        parts = [part for part in map(plain_type, inner) if part is not None]
        return Union[tuple(parts)] if set(parts) - {type(None)} else None  # noqa: UP007  a computed union
    if origin is tuple:
        parts = [plain_type(part) for part in inner if part is not ...]
        return (
            None if None in parts else Annotated[tuple[*parts, ...] if ... in inner else tuple[*parts], Strict(False)]
        )
    if origin in _SEQUENCES or hint in _SEQUENCES:
        return _of(list, inner)
    if origin in _MAPPINGS or hint in _MAPPINGS:
        return _of(dict, inner)
    return None


class _Argument(NamedTuple):
    name: str
    hint: Any
    default: Any
    text: str | None = None


def _model(name: str, doc: str, arguments: Iterable[_Argument], extra: Any = "forbid") -> type[BaseModel]:
    fields: dict[str, Any] = {}
    for argument in arguments:
        if (part := plain_type(argument.hint)) is None:
            continue
        if argument.default is None:
            part = Optional[part]  # noqa: UP045  a computed union
        # Numbered field names, since an argument may be called `copy` or `_x`, which pydantic keeps for itself.
        field: dict[str, Any] = {"alias": argument.name, "description": argument.text}
        if argument.default is not inspect.Parameter.empty:
            field["default"] = None if (value := plain_value(argument.default)) is ... else value
        fields[f"argument_{len(fields)}"] = (part, Field(**field))
    return create_model(name, __config__=ConfigDict(**{**_CONFIG, "extra": extra}), __doc__=doc, **fields)


def _typed_dict(hint: Any) -> type[BaseModel]:
    empty = inspect.Parameter.empty
    hints = get_type_hints(hint, include_extras=True).items()
    fields = [_Argument(key, part, empty if key in hint.__required_keys__ else _CHOSEN) for key, part in hints]
    return _model(hint.__name__, description(hint), fields)


def _of(container: Any, inner: tuple[Any, ...]) -> Any:
    parts = tuple(plain_type(part) for part in inner)
    return None if None in parts else container[parts] if parts else container


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

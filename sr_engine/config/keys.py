"""Which keys may stand in a mapping, read from the models that describe it."""

import types
from collections.abc import Iterable, Iterator
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel

from sr_engine.config.yaml12 import KeyPath


def known_keys(hint: Any, path: KeyPath) -> list[str]:
    """Keys of the mapping at `path` within data of type `hint` (a model, container or union)."""
    hints = [hint]
    for step in path:
        hints = list(_inside(hints, step))
    return [key for part in _parts(hints) for key in _fields(part)]


def _inside(hints: Iterable[Any], step: str | int) -> Iterator[Any]:
    for part in _parts(hints):
        if step in (fields := _fields(part)):
            yield fields[str(step)]
        elif get_origin(part) in (list, tuple, dict):
            yield from get_args(part)


def _parts(hints: Iterable[Any]) -> Iterator[Any]:
    """The members of unions, without annotations."""
    for hint in hints:
        if get_origin(hint) in (Union, types.UnionType):
            yield from _parts(get_args(hint))
        elif get_origin(hint) is Annotated:
            yield from _parts(get_args(hint)[:1])
        else:
            yield hint


def _fields(hint: Any) -> dict[str, Any]:
    if isinstance(hint, type) and issubclass(hint, BaseModel):
        return {field.alias or name: field.annotation for name, field in hint.model_fields.items()}
    return {}

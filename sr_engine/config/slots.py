"""The entries of a configuration that have a `type`: where they are, and their flat form as in files.

In a file the arguments stand beside the type, `{type: unet, width: 64}`; in a `Config` they are apart.
"""

from collections.abc import Iterator, Mapping
from typing import Any, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from sr_engine.config import arguments
from sr_engine.config.problems import Problem, expected
from sr_engine.config.schema import Config, LossConfig, Section, Slot, Typed
from sr_engine.config.yaml12 import KeyPath, Value
from sr_engine.errors import ConfigError, did_you_mean

EACH = "*"  # in the path of a slot: every item of a list


def slots(model: type[BaseModel] = Config, base: KeyPath = ()) -> Iterator[tuple[KeyPath, Slot, FieldInfo]]:
    """Every field that holds entries with a `type`, with its path."""
    for name, field in model.model_fields.items():
        path = (*base, name)
        slot = next((item for item in field.metadata if isinstance(item, Slot)), None)
        if slot is not None:
            yield path, slot, field
        elif isinstance(field.annotation, type) and issubclass(field.annotation, Section):
            yield from slots(field.annotation, path)
        else:
            for item in _items(field.annotation):
                yield from slots(item, (*path, EACH))


def entry_model(slot: Slot) -> type[Typed]:
    """The model of an entry: a loss has a weight beside its type and arguments."""
    return LossConfig if slot.kind == "loss" else Typed


def own_keys(slot: Slot) -> list[str]:
    """Keys of an entry that are not arguments of its type."""
    return [name for name in entry_model(slot).model_fields if name not in ("type", "arguments")]


def separate(data: dict[Any, Value]) -> list[Problem]:
    """Bring all entries from their flat form to that of `Typed`, in place, checking their arguments.

    An entry with problems keeps its type, so that the rest of the configuration can be checked.
    """
    problems = []
    places = ((where, slot, field) for path, slot, field in slots() for where in _places(data, path[:-1], path[-1:]))
    for (path, parent), slot, field in places:
        key = path[-1]
        if key not in parent and not field.is_required() and field.default is not None:
            parent[key] = {}
        value = parent.get(key)
        if slot.each and isinstance(value, dict):
            for name, item in value.items():
                value[name], found = _separate_entry(slot, item, (*path, name), str(name), data)
                problems += found
        elif not slot.each and value is not None:
            parent[key], found = _separate_entry(slot, value, path, slot.default, data)
            problems += found
    return problems


def flatten(entry: Typed) -> dict[str, Value]:
    """An entry as it stands in a file."""
    own = {name: getattr(entry, name) for name in type(entry).model_fields if name not in ("type", "arguments")}
    return {"type": entry.type, **own, **entry.arguments}


def _items(annotation: Any) -> list[type[Section]]:
    """What the list is of, where it is of sections: `Stage` for `list[Stage] | None`."""
    inner = get_args(annotation)
    if get_origin(annotation) is list:
        return [item for item in inner if isinstance(item, type) and issubclass(item, Section)]
    return [found for part in inner for found in _items(part)]


def _places(data: Value, way: KeyPath, rest: KeyPath) -> Iterator[tuple[KeyPath, dict[Any, Value]]]:
    """The mappings at the end of `way` that exist, each with the path of `rest` inside it."""
    found: list[tuple[KeyPath, Value]] = [((), data)]
    for step in way:
        inner: list[tuple[KeyPath, Value]] = []
        for path, value in found:
            if step == EACH and isinstance(value, list):
                inner += [((*path, index), item) for index, item in enumerate(value)]
            elif isinstance(value, dict) and step in value:
                inner.append(((*path, step), value[step]))
        found = inner
    return (((*path, *rest), value) for path, value in found if isinstance(value, dict))


def _separate_entry(
    slot: Slot, value: Value, path: KeyPath, default: str | None, data: Mapping[Any, Value]
) -> tuple[Value, list[Problem]]:
    if not isinstance(value, dict):
        return {"type": default or "", "arguments": {}}, [expected(path, "a mapping such as {type: ...}", value)]
    own = {key: value[key] for key in own_keys(slot) if key in value}
    given = {key: item for key, item in value.items() if key not in own and key != "type"}
    name, problem = _type(slot, value.get("type", default), "type" in value, path)
    problems = [] if problem is None else [problem]
    if slot.kind == "network_g" and "scale" in given and (scale := given.pop("scale")) != data.get("scale"):
        problems.append(expected((*path, "scale"), f"{data.get('scale')}, the scale of this configuration", scale))
    checked: dict[str, Value] = {}
    if problem is None:
        checked, found = arguments.check(slot.kind, name, given, path, scale=data.get("scale"))
        problems += found
    return {"type": name, "arguments": checked, **own}, problems


def _type(slot: Slot, name: Value, given: bool, path: KeyPath) -> tuple[str, Problem | None]:
    known = arguments.names(slot.kind)
    listed = f"one of {', '.join(known)}" if known else f"a registered {slot.kind}, of which there is none"
    if isinstance(name, str):
        try:
            return arguments.find(slot.kind, name)[0], None
        except ConfigError:
            pass
    if given:
        return str(name), expected((*path, "type"), listed, name, known)
    return str(name), Problem(path, f"expected type: {listed}, got none{did_you_mean(str(name), known)}")

"""JSON schema of configuration files, with which editors complete and check them while they are written.

Entries with a `type` become one `if type is ... then` for each registered name, so that an editor knows the arguments
of each. A first line `# yaml-language-server: $schema=sr-engine.schema.json` in a file makes editors use it.
"""

from typing import Any

from sr_engine.config import arguments
from sr_engine.config.registry import Kind
from sr_engine.config.schema import Config, Slot
from sr_engine.config.slots import EACH, entry_model, own_keys, slots

Schema = dict[str, Any]

# What may stand in place of a mapping.
_SHORT_FORMS: dict[str, Schema] = {
    "WeightSchedule": {"type": "number", "minimum": 0},
    "BalanceConfig": {"const": "grad_ratio"},
}


def json_schema() -> Schema:
    """The schema (draft 2020-12) with everything that is registered now."""
    schema = Config.model_json_schema()
    definitions = schema["$defs"]
    for name, short in _SHORT_FORMS.items():
        definitions[name] = {"anyOf": [short, definitions[name]]}
    training = definitions["Training"]
    training["required"].remove("total_iter")
    training["anyOf"] = [{"required": ["total_iter"]}, {"required": ["curriculum"]}]
    for path, slot, field in slots():
        owner = schema
        for step in path[:-1]:
            if step != EACH:
                owner = definitions[_reference(owner["properties"][step]).rpartition("/")[2]]
        place = _mapping_of_entries(slot, definitions) if slot.each else _entry(slot, slot.default, definitions)
        nullable = {"anyOf": [place, {"type": "null"}]} if field.default is None else place
        owner["properties"][path[-1]] = {"description": field.description, **nullable}
    for unused in ("Typed", "LossConfig"):
        definitions.pop(unused, None)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **_without_titles(schema)}


def arguments_schema(kind: Kind, name: str, definitions: Schema) -> Schema:
    """Schema of the arguments of a type; what it refers to is added to `definitions`."""
    model = arguments.arguments_model(kind, arguments.find(kind, name)[1])
    prefix = f"{kind}.{name}."
    schema = model.model_json_schema(ref_template="#/$defs/" + prefix + "{model}")
    definitions.update({prefix + key: value for key, value in schema.pop("$defs", {}).items()})
    return schema


def _reference(schema: Any) -> str:
    """What a property refers to, itself or as the items of a list."""
    if isinstance(schema, list):
        return next(filter(None, map(_reference, schema)), "")
    if not isinstance(schema, dict):
        return ""
    return schema.get("$ref") or _reference([schema.get("items"), schema.get("anyOf")])


def _mapping_of_entries(slot: Slot, definitions: Schema) -> Schema:
    known = {name: _entry(slot, name, definitions) for name in arguments.names(slot.kind)}
    return {
        "type": "object",
        "minProperties": 1,
        "properties": known,
        "additionalProperties": _entry(slot, None, definitions),
    }


def _entry(slot: Slot, default: str | None, definitions: Schema) -> Schema:
    """An entry whose type is `default` when none is given; None: it must be given."""
    names = arguments.names(slot.kind)
    cases = [
        {
            "if": {
                "properties": {"type": {"enum": _spellings(slot, name)}},
                **({} if name == default else {"required": ["type"]}),
            },
            "then": {"$ref": f"#/$defs/{_define(slot, name, definitions)}"},
        }
        for name in names
    ]
    kind = {"enum": [spelling for name in names for spelling in _spellings(slot, name)]}
    return {"type": "object", "properties": {"type": kind}, "allOf": cases} | (
        {} if default else {"required": ["type"]}
    )


def _define(slot: Slot, name: str, definitions: Schema) -> str:
    key = f"{slot.kind}.{name}"
    if key not in definitions:
        schema = arguments_schema(slot.kind, name, definitions)
        own = entry_model(slot).model_json_schema(ref_template="#/$defs/{model}")["properties"]
        others = {key: own[key] for key in own_keys(slot)} | {"type": True}
        if slot.kind == "network_g":
            others["scale"] = {"type": "integer", "description": "Must equal the scale of the configuration."}
        schema["properties"] = others | schema.get("properties", {})
        definitions[key] = schema
    return key


def _spellings(slot: Slot, name: str) -> list[str]:
    return sorted({name, name.lower()}) if slot.kind == "optimizer" else [name]


def _without_titles(schema: Any) -> Any:
    """Without the titles that pydantic makes of names."""
    if isinstance(schema, dict):
        return {k: _without_titles(v) for k, v in schema.items() if not (k == "title" and isinstance(v, str))}
    return [_without_titles(item) for item in schema] if isinstance(schema, list) else schema

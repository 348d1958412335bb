"""The reference page of configuration files: docs/configuration.md."""

from collections.abc import Iterator
from typing import Any

from sr_engine.config import arguments, registry
from sr_engine.config.distill import Distill, DistillFeatures
from sr_engine.config.docstrings import description
from sr_engine.config.editor import arguments_schema
from sr_engine.config.problems import show
from sr_engine.config.prune import Prune
from sr_engine.config.registry import Kind
from sr_engine.config.schema import (
    BalanceConfig,
    Config,
    Datasets,
    Logging,
    Section,
    Stage,
    Training,
    Validation,
    WeightSchedule,
)
from sr_engine.config.slots import slots

_INTRODUCTION = """# Configuration

This page is made from the code: `sr-engine schema --markdown -o docs/configuration.md`.

A configuration is a YAML 1.2 file: `1e-4` is a number and `no` is a string. Every key is checked before anything
starts, also the arguments of networks, losses, data sets, optimisers and schedulers, and all problems are listed at
once with file, line, path and a suggestion. `sr-engine train FILE key.path=value` replaces single values, with the same
checks. `sr-engine schema -o sr-engine.schema.json` writes a JSON schema for editors.

An entry with a `type` takes the arguments of that type beside it: `network_g: {type: generator, preset: small}`.
"""
_SECTIONS: dict[str, tuple[type[Section], str]] = {
    "Top level": (Config, ""),
    "datasets": (Datasets, ""),
    "losses.KEY.loss_weight": (
        WeightSchedule,
        "A number is a constant weight; `{start_iter: 10000, final_weight: 0.1, ramp: linear}` is a complete schedule.",
    ),
    "distill": (Distill, ""),
    "distill.features": (DistillFeatures, ""),
    "prune": (Prune, ""),
    "training": (Training, ""),
    "training.balance": (BalanceConfig, ""),
    "training.curriculum": (Stage, ""),
    "validation": (Validation, ""),
    "logging": (Logging, ""),
}
_KINDS: dict[Kind, str] = {
    "network_g": "Networks: network_g",
    "network_d": "Discriminators: network_d",
    "dataset": "Data sets: datasets.train, datasets.val",
    "loss": "Losses: losses.KEY",
    "scheduler": "Learning rates: training.scheduler",
    "optimizer": "Optimisers: training.optim_g, training.optim_d",
}
_OPTIMIZERS = """Every class of `torch.optim` by name, in any spelling of upper and lower case, with the arguments of
its constructor; only LBFGS is not possible. The default is `AdamW` with torch's defaults, except that `betas` (of any
optimiser that has them) are [0.9, 0.99]. Where nothing else is asked for, the fused implementation is used."""
_NAMES = {"integer": "integer", "number": "number", "boolean": "true \\| false", "string": "string", "null": "null"}
_BOUNDS = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}


def reference_page() -> str:
    """The page in Markdown, with everything that is registered now."""
    return "\n".join(_lines()).rstrip() + "\n"


def _lines() -> Iterator[str]:
    yield _INTRODUCTION
    for title, (model, text) in _SECTIONS.items():
        yield from (f"## {title}", "", (text or description(model)), "")
        yield from _table(model.model_json_schema(), _slot_types(model))
    shared: dict[str, Any] = {}
    for kind, title in _KINDS.items():
        yield from (f"## {title}", "")
        if kind == "optimizer":
            yield from (_OPTIMIZERS, "")
        for name in registry.names(kind):
            yield from (f"### `{name}`", "", description(arguments.find(kind, name)[1]), "")
            definitions: dict[str, Any] = {}
            yield from _table(arguments_schema(kind, name, definitions), {})
            shared |= {key.rpartition(".")[2]: schema for key, schema in definitions.items()}
    for name, schema in shared.items():
        yield from (f"## {name}", "", schema.get("description", ""), "")
        yield from _table(schema, {})


def _slot_types(model: type[Section]) -> dict[str, str]:
    """What stands in the type column for keys that hold entries."""
    return {
        str(
            path[-1]
        ): f"{'mapping of names to entries' if slot.each else 'entry'}, see [{_KINDS[slot.kind].partition(':')[0]}]"
        f"(#{_anchor(_KINDS[slot.kind])})" + (" \\| null" if field.default is None else "")
        for path, slot, field in slots(model)
        if len(path) == 1
    }


def _anchor(title: str) -> str:
    return "".join(c for c in title.lower().replace(" ", "-") if c.isalnum() or c in "-_")


def _table(schema: dict[str, Any], types: dict[str, str]) -> Iterator[str]:
    properties = schema.get("properties", {})
    if not properties:
        yield from ("No arguments.", "")
        return
    yield from ("| key | type | default | meaning |", "|---|---|---|---|")
    required = schema.get("required", [])
    for key, item in properties.items():
        default = "required" if key in required else _default(item, types.get(key))
        meaning = " ".join(item.get("description", "").split()).replace("|", "\\|")
        yield f"| `{key}` | {types.get(key) or _type(item)} | {default} | {meaning} |"
    yield ""


def _default(item: dict[str, Any], slot: str | None) -> str:
    value = item.get("default")
    if isinstance(value, dict) and (slot or "$ref" in item):
        return f"`{{type: {value['type']}}}`" if "type" in value else "its defaults"
    return f"`{show(value, limit=200)}`"


def _type(item: dict[str, Any]) -> str:
    """A JSON schema in a few words."""
    if "anyOf" in item:
        return " \\| ".join(dict.fromkeys(_type(part) for part in item["anyOf"]))
    if "$ref" in item:
        name = item["$ref"].rpartition("/")[2].rpartition(".")[2]
        known = next((title for title, (model, _) in _SECTIONS.items() if model.__name__ == name), name)
        return f"mapping, see [{known}](#{_anchor(known)})"
    if "const" in item or "enum" in item:
        return " \\| ".join(f"`{value}`" for value in item.get("enum", [item.get("const")]))
    if item.get("type") == "array":
        if "prefixItems" in item:
            return f"[{', '.join(map(_type, item['prefixItems']))}]"
        inner = _type(item["items"]) if item.get("items") else "anything"
        return f"list of ({inner})" if " \\| " in inner else f"list of {inner}"
    if item.get("type") == "object":
        inner = item.get("additionalProperties")
        return f"mapping to {_type(inner)}" if isinstance(inner, dict) else "mapping"
    bounds = "".join(f" {sign} {item[bound]:g}" for bound, sign in _BOUNDS.items() if bound in item)
    return _NAMES.get(item.get("type", ""), "anything") + bounds

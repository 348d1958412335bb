"""The JSON schema and the reference page, made from a small registry."""

from typing import Any

import pytest

from sr_engine.config.docstrings import argument_texts, description
from sr_engine.config.editor import json_schema
from sr_engine.config.reference import reference_page
from sr_engine.config.yaml12 import parse

pytestmark = pytest.mark.usefixtures("entries")

_TYPES = {
    "string": str,
    "boolean": bool,
    "integer": int,
    "number": (int, float),
    "array": list,
    "object": dict,
    "null": type(None),
}


def accepts(schema: Any, value: Any, root: dict[str, Any]) -> bool:
    """Whether a value fits, for those keywords of JSON schema that the export uses."""
    if isinstance(schema, bool):
        return schema
    if "$ref" in schema and not accepts(root["$defs"][schema["$ref"].removeprefix("#/$defs/")], value, root):
        return False
    if "type" in schema:
        if not isinstance(value, _TYPES[schema["type"]]):
            return False
        if isinstance(value, bool) and schema["type"] != "boolean":
            return False
    if ("const" in schema and value != schema["const"]) or ("enum" in schema and value not in schema["enum"]):
        return False
    if "anyOf" in schema and not any(accepts(part, value, root) for part in schema["anyOf"]):
        return False
    for part in schema.get("allOf", []):
        if "if" in part and accepts(part["if"], value, root) and not accepts(part["then"], value, root):
            return False
    if isinstance(value, dict):
        properties, others = schema.get("properties", {}), schema.get("additionalProperties", True)
        return all(key in value for key in schema.get("required", [])) and all(
            accepts(properties.get(key, others), item, root) for key, item in value.items()
        )
    if isinstance(value, list):
        items = schema.get("prefixItems", [schema.get("items", True)] * len(value))
        return len(items) == len(value) and all(accepts(i, v, root) for i, v in zip(items, value, strict=True))
    if isinstance(value, int | float):
        return schema.get("minimum", value) <= value <= schema.get("maximum", value)
    return True


@pytest.mark.parametrize(
    "more",
    [
        "",
        "network_g: {width: 8}",
        "network_g: {type: generator, preset: nano, scale: 4}",
        "network_d: {type: unet, width: 8}",
        "network_d: null",
        "load_from: x",
        "logging: {tensorboard: false}",
        "distill: {teacher: x, loss_weight: 0.5, features: {student: [0, body.1], teacher: [1, 2]}}",
    ],
)
def test_the_schema_accepts(complete: str, more: str) -> None:
    schema = json_schema()
    assert accepts(schema, parse(complete + more, "c").value, schema)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("scale: 4", "scale: 5"),
        ("scale: 4", "scal: 4"),
        ("type: pictures", "type: picture"),
        ("type: pictures, ", ""),
        ("path: photos", "path: 3"),
        ("path: photos", "path: photos, other: 1"),
        ("path: photos", "path: photos, degradation: {sigma: x}"),
        ("l1: {}", "pixel: {}"),
        ("l1: {}", "l1: {epsilon: 1}"),
        ("l1: {}", "l1: {loss_weight: -1}"),
        ("l1: {}", "pixel: {type: l1, loss_weight: {final_weight: 1, ramp: up}}"),
        ("total_iter: 100", "total_iter: 100, optim_g: {lr: fast}"),
        ("total_iter: 100", "batch_size: 8"),
        ("total_iter: 100", "curriculum: [{scale: 4, iters: x}]"),
        ("total_iter: 100", "curriculum: [{scale: 4, optim_g: {lr: fast}}]"),
    ],
)
def test_the_schema_refuses(complete: str, old: str, new: str) -> None:
    schema = json_schema()
    text = complete.replace("\n  total_iter: 100", " {total_iter: 100}").replace(old, new)
    assert not accepts(schema, parse(text, "c").value, schema)


def test_the_schema_knows_short_forms_and_spellings(complete: str) -> None:
    schema = json_schema()
    text = complete.replace("l1: {}", "pixel: {type: l1, loss_weight: 0.5, eps: 1e-3}")
    text += "  optim_g: {type: adamw, lr: 1e-3, betas: [0.9, 0.99]}\n  balance: grad_ratio\n"
    assert accepts(schema, parse(text, "c").value, schema)
    text = text.replace("total_iter: 100", "curriculum: [{scale: 4, iters: 100, optim_g: {lr: 1e-4}}]")
    assert accepts(schema, parse(text, "c").value, schema)


def test_texts_come_from_docstrings(complete: str) -> None:
    schema = json_schema()
    assert schema["$defs"]["network_g.generator"]["properties"]["width"]["description"] == (
        "channels of the body, all of them."
    )
    page = reference_page()
    assert "| `width` | integer | `32` | channels of the body, all of them. |" in page
    assert "| `total_iter` | integer ≥ 0 | required | Length of the training in iterations. With a `curriculum`" in page
    assert "| `level` | number ≥ 0 | `1.0` | strength. |" in page


def test_docstrings_are_taken_apart() -> None:
    def documented() -> None:
        """First.

        Second paragraph.

        Args:
            a, b: two
                of them.
            c: with a colon: here.

        After.

        Raises:
            Error: never.
        """

    assert description(documented) == "First.\n\nSecond paragraph.\n\nAfter."
    assert argument_texts(documented) == {"a": "two of them.", "b": "two of them.", "c": "with a colon: here."}

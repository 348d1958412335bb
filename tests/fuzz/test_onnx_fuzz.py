# ruff: noqa: PT017 (an error is one of two right outcomes)
"""Damaged ONNX files: a network or an error of ours comes back."""

import json
from pathlib import Path
from typing import Any

import onnx
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper

from sr_engine.errors import ModelFileError
from sr_engine.models.files import load_model
from tests.fuzz.mutations import VALUES, damaged, examples


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("onnx")


def _upscaler(facts: dict[str, str]) -> onnx.ModelProto:
    sides = ["batch", 3, "height", "width"]
    given_, result = (
        helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in (("x", sides), ("y", [None] * 4))
    )
    scales = helper.make_tensor("scales", TensorProto.FLOAT, [4], [1.0, 1.0, 2.0, 2.0])
    nodes = [helper.make_node("Resize", ["x", "", "scales"], ["y"], mode="nearest")]
    graph = helper.make_graph(nodes, "graph", [given_], [result], [scales])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    helper.set_model_props(model, facts)
    return model


SPEC = {"architecture": "generator", "arguments": {"scale": 2}, "scale": 2, "value_range": [0, 1]}
FACTS = {"architecture": "generator", "largest_result": "64"}


def onnx_outcome(path: Path) -> None:
    try:
        net = load_model(path)
        with torch.no_grad():
            net(torch.rand(1, 3, 8, 8))
    except ModelFileError as error:
        assert str(error).startswith(str(path))


def test_damaged_onnx_files(folder: Path) -> None:
    ours = FACTS | {"sr_engine": json.dumps({"format": 2, "precision": "fp32", "spec": SPEC})}
    whole = [_upscaler(facts).SerializeToString() for facts in ({}, ours)]

    @examples(150)
    @given(damaged(whole))
    def check(content: bytes) -> None:
        (folder / "a.onnx").write_bytes(content)
        onnx_outcome(folder / "a.onnx")

    check()


@examples(150)
@given(
    st.dictionaries(st.sampled_from([*SPEC, "channels", "size_multiple", "training"]), VALUES, max_size=2),
    st.dictionaries(
        st.sampled_from(["largest_result", "architecture", "licence"]), st.text(max_size=4) | st.just("9" * 5000)
    ),
    st.sampled_from(["{", "[" * 100_000, "null", None, None, None, None]),
)
def test_any_description_of_an_onnx_file(
    tmp_path_factory: pytest.TempPathFactory, changes: dict[str, Any], facts: dict[str, str], text: str | None
) -> None:
    path = tmp_path_factory.getbasetemp() / "facts.onnx"
    text = json.dumps({"format": 2, "precision": "fp32", "spec": SPEC | changes}) if text is None else text
    path.write_bytes(_upscaler(FACTS | facts | {"sr_engine": text}).SerializeToString())
    onnx_outcome(path)

# ruff: noqa: PT017 (an error is one of two right outcomes)
"""Damaged ONNX files: a network or an error of ours comes back."""

import json
from pathlib import Path
from typing import Any

import numpy as np
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


def _with(tensors: list[onnx.TensorProto], nodes: list[onnx.NodeProto]) -> onnx.ModelProto:
    """The upscaler, and beside it what has no part in the picture."""
    model = _upscaler({})
    model.graph.initializer.extend(tensors)
    model.graph.node.extend(nodes)
    return model


def _external(**facts: str) -> onnx.TensorProto:
    tensor = onnx.TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[4], data_location=TensorProto.EXTERNAL)
    tensor.external_data.extend(onnx.StringStringEntryProto(key=k, value=v) for k, v in facts.items())
    return tensor


def _inner(tensor: onnx.TensorProto, depth: int) -> onnx.NodeProto:
    """A tensor within graphs within graphs."""
    node = helper.make_node("Constant", [], ["c"], value=tensor)
    for _ in range(depth):
        graph = helper.make_graph([node], "inner", [], [])
        node = helper.make_node("If", ["x"], ["c"], then_branch=graph)
    return node


SIZES = onnx.numpy_helper.from_array(np.array([40_000, 40_000], np.int64), "sizes")
HUGE = onnx.TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[100_000, 100_000], raw_data=bytes(16))
REFUSED = {
    "only a part is in the file": ([HUGE], []),
    "has the size (-1,)": ([onnx.TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[-1])], []),
    "tensor 'w' says (100000, 100000)": ([], [_inner(HUGE, 3)]),
    "names '../secret.bin' for its numbers, which is not in the folder": ([_external(location="../secret.bin")], []),
    "names '/etc/passwd' for its numbers": ([_external(location="/etc/passwd")], []),
    "names 'link.bin' for its numbers": ([_external(location="link.bin")], []),
    "missing.bin, which does not exist": ([_external(location="missing.bin")], []),
    "only a part is in": ([_external(location="short.bin", offset="8")], []),
    "says nothing usable": ([_external(location="short.bin", offset="x")], []),
    "(ConstantOfShape) makes a constant of 1,600,000,000": (
        [SIZES],
        [helper.make_node("ConstantOfShape", ["sizes"], ["c"])],
    ),
    "(Expand) makes a constant of 1,600,000,000": ([SIZES], [helper.make_node("Expand", ["sizes", "sizes"], ["c"])]),
}


@pytest.mark.parametrize("words", REFUSED)
def test_what_a_file_claims_is_looked_at_before_it_is_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: str
) -> None:
    (tmp_path / "secret.bin").write_bytes(bytes(16))
    path = tmp_path / "models" / "a.onnx"
    path.parent.mkdir()
    (path.parent / "short.bin").write_bytes(bytes(20))
    (path.parent / "link.bin").symlink_to(tmp_path / "secret.bin")
    path.write_bytes(_with(*REFUSED[words]).SerializeToString())
    monkeypatch.setattr("sr_engine.models.onnx_network.open_session", None)  # is not called
    with pytest.raises(ModelFileError) as caught:
        load_model(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert words in str(caught.value)


def test_numbers_beside_the_file_are_read(tmp_path: Path) -> None:
    (tmp_path / "w.bin").write_bytes(np.array([0, 0.5], np.float32).tobytes())
    model = _upscaler({})
    factor = _external(location="w.bin", offset="4")
    factor.dims[:] = [1]
    model.graph.initializer.append(factor)
    model.graph.node.insert(0, helper.make_node("Mul", ["x", "w"], ["half"]))
    model.graph.node[1].input[0] = "half"
    (tmp_path / "a.onnx").write_bytes(model.SerializeToString())
    with torch.no_grad():
        assert torch.equal(load_model(tmp_path / "a.onnx")(torch.ones(1, 3, 8, 8)), torch.full((1, 3, 16, 16), 0.5))

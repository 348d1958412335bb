"""Exported files against torch at sizes from 1x1, what is written in them, and what is refused."""

import json
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from torch import nn

from sr_engine.cli.main import main
from sr_engine.errors import ExportError
from sr_engine.export import BOUNDS, SIZES, Difference, export_onnx, export_pt2, verify
from sr_engine.models.files import load_model, save_model
from tests.export.networks import network


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model file, for the command line."""
    path = tmp_path_factory.mktemp("models") / "net.safetensors"
    save_model(path, network("convolutions"), licence="CC0-1.0", training={"name": "trial", "iterations": 5})
    return path


@pytest.fixture(scope="module")
def exported(model: Path) -> Path:
    """The ONNX file of it."""
    return export_onnx(load_model(model), model.with_suffix(".onnx")).path


def props(path: Path) -> dict[str, str]:
    return {entry.key: entry.value for entry in onnx.load(path).metadata_props}


def session(path: Path) -> ort.InferenceSession:
    return ort.InferenceSession(path, providers=["CPUExecutionProvider"])


@pytest.mark.parametrize(
    ("layout", "precision"),
    [
        ("convolutions", "fp16"),
        ("steered", "fp32"),
        ("topk", "fp16"),
        ("resampler", "fp32"),
        pytest.param("dense", "fp32", marks=pytest.mark.slow),
        pytest.param("dense", "fp16", marks=pytest.mark.slow),
        pytest.param("topk", "fp32", marks=pytest.mark.slow),
        pytest.param("same size", "fp32", marks=pytest.mark.slow),
        pytest.param("steered", "fp16", marks=pytest.mark.slow),
        pytest.param("resampler", "fp16", marks=pytest.mark.slow),
    ],
)
def test_onnx_equals_torch_at_any_size(layout: str, precision: str, tmp_path: Path) -> None:
    net = network(layout)
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    exported = export_onnx(net, tmp_path / "net.onnx", precision=precision, verify=True)
    assert [(d.batch, d.height, d.width) for d in exported.checks] == list(SIZES)
    assert max(d.largest for d in exported.checks) <= BOUNDS[precision]
    assert {1, 2} == {batch for batch, _, _ in SIZES}
    same = net.state_dict()
    assert all(torch.equal(value, same[name]) for name, value in before.items()), "the network was changed"
    written = onnx.load(exported.path)
    assert {domain.domain for domain in written.opset_import if domain.version} == {""}
    assert len(written.graph.node) == exported.nodes
    kinds = Counter(weight.data_type for weight in written.graph.initializer if len(weight.dims) > 1)
    if layout == "resampler":
        assert onnx.TensorProto.FLOAT16 not in kinds
    else:
        assert (kinds[onnx.TensorProto.FLOAT16] > 0) == (precision == "fp16")
    for value in (*written.graph.input, *written.graph.output):
        assert value.type.tensor_type.elem_type == onnx.TensorProto.FLOAT
        assert value.type.tensor_type.shape.dim[0].dim_param == "batch"


@pytest.mark.parametrize(
    ("layout", "precision"),
    [("convolutions", "fp32"), ("dense", "fp32"), pytest.param("topk", "fp16", marks=pytest.mark.slow)],
)
def test_pt2_equals_torch_at_any_size(layout: str, precision: str, tmp_path: Path) -> None:
    exported = export_pt2(network(layout), tmp_path / "net.pt2", precision=precision, verify=True)
    assert len(exported.checks) == len(SIZES)
    assert max(d.largest for d in exported.checks) <= BOUNDS[precision]
    extra = {"sr_engine": "", "scale": ""}
    program = torch.export.load(exported.path, extra_files=extra)
    assert extra["scale"] == str(json.loads(extra["sr_engine"])["spec"]["scale"])
    assert not any("sr_" in str(node.target) for node in program.graph.nodes if node.op == "call_function")


def test_topk_keeps_the_windows_that_torch_keeps(tmp_path: Path) -> None:
    """With gates far apart, another choice of windows would be a large difference; with equal ones the first count."""
    net = network("topk")
    net.get_parameter("body.0.attention.project.weight").data.mul_(20)
    path = export_pt2(net, tmp_path / "net.pt2").path
    run = torch.export.load(path).module()
    x = torch.rand(1, 3, 30, 41)
    x[..., 16:] *= 0.05  # smooth windows get none
    x[..., 32:] = 0.5  # and of equal gates there are many
    with torch.no_grad():
        every = net(x, attend=1.0)
        assert (net(x) - every).abs().max() > 0.01
        torch.testing.assert_close(run(x), net(x), rtol=0, atol=1e-5)


def test_a_picture_of_constants_gives_what_torch_gives(exported: Path, model: Path) -> None:
    net = load_model(model)
    for value in (0.0, 1.0):
        x = torch.full((1, 3, 9, 12), value)
        with torch.no_grad():
            y = net(x).numpy()
        actual = np.asarray(session(exported).run(None, {"input": x.numpy()})[0])
        np.testing.assert_allclose(actual, y, rtol=0, atol=1e-5)


def test_the_file_describes_itself(exported: Path) -> None:
    written, facts = onnx.load(exported), props(exported)
    onnx.checker.check_model(written, full_check=True)
    whole = json.loads(facts["sr_engine"])
    assert whole["spec"]["architecture"] == "generator"
    assert whole["spec"]["training"] == {"name": "trial", "iterations": 5}
    assert (whole["precision"], whole["folded"]) == ("fp32", True)
    assert facts["scale"] == "4"
    assert json.loads(facts["value_range"]) == [0.0, 1.0]
    assert facts["licence"] == whole["spec"]["licence"] == "CC0-1.0"
    assert facts["name"] == "trial"
    assert int(facts["receptive_field"]) == whole["spec"]["receptive_field"]
    assert int(facts["largest_result"]) > 4 * 8
    assert (written.producer_name, written.graph.name) == ("sr-engine", "generator")
    assert "x4" in written.doc_string
    assert "CC0-1.0" in written.doc_string
    (given,), (result,) = session(exported).get_inputs(), session(exported).get_outputs()
    assert (given.name, given.shape) == ("input", ["batch", 3, "height", "width"])
    assert (result.name, result.shape) == ("output", ["batch", 3, "4*height", "4*width"])


def test_nothing_of_this_machine_is_in_the_file(exported: Path) -> None:
    content = exported.read_bytes()
    assert str(Path(__file__).parents[2]).encode() not in content
    assert b"stack_trace" not in content


@pytest.mark.parametrize("opset", [18, 25, *(pytest.param(n, marks=pytest.mark.slow) for n in (19, 21, 22, 23, 24))])
def test_the_opset_asked_for_is_written(opset: int, tmp_path: Path) -> None:
    path = export_onnx(network("convolutions"), tmp_path / "net.onnx", opset=opset, verify=True).path
    assert [(entry.domain, entry.version) for entry in onnx.load(path).opset_import] == [("", opset)]


@pytest.mark.slow
@pytest.mark.parametrize("opset", [18, 25])
def test_the_opset_of_topk(opset: int, tmp_path: Path) -> None:
    path = export_onnx(network("topk"), tmp_path / "net.onnx", opset=opset, verify=True).path
    assert [(entry.domain, entry.version) for entry in onnx.load(path).opset_import] == [("", opset)]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["tiny-x4", "tiny-x2", "tiny-x4-photo", "tiny-x4-gan"])
def test_models_that_come_along(name: str, tmp_path: Path) -> None:
    from sr_engine.models.files import available_models

    if name not in available_models():
        pytest.skip(f"this version has no {name}")
    net = load_model(name)
    for path, write in ((tmp_path / "n.onnx", export_onnx), (tmp_path / "n.pt2", export_pt2)):
        write(net, path, verify=True)
        # torch on a CPU rounds each sum of a convolution to fp16: on noise the GAN's model is above the bound then.
        if (name, write) != ("tiny-x4-gan", export_pt2):
            write(net, path, precision="fp16", verify=True)


def test_a_file_that_differs_is_not_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "net.pt2"
    path.write_text("the old one")
    monkeypatch.setitem(BOUNDS, "fp32", 1e-12)
    with pytest.raises(ExportError, match=r"differs from torch by \d\.\de-\d\d at .*so"):
        export_pt2(network("convolutions"), path, verify=True)
    assert path.read_text() == "the old one"
    assert [p.name for p in tmp_path.iterdir()] == ["net.pt2"]


def test_verify_sees_other_weights(exported: Path) -> None:
    other = network("convolutions", seed=1)
    found = verify(other, exported, sizes=[(1, 9, 12)])
    assert found[0] == Difference(1, 9, 12, found[0].largest)
    assert found[0].largest > 1e-3


def test_the_command_line_writes_a_checked_file(model: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert main(["export", "--model", str(model), "-o", str(tmp_path / "deep" / "n.onnx"), "--verify"]) == 0
    out, err = capfd.readouterr()
    assert err == ""
    lines = out.splitlines()
    assert [line.split()[:2] for line in lines[1:11]] == [[str(b), f"{h}x{w}"] for b, h, w in SIZES]
    assert lines[11] == "allowed: 1e-05"
    assert lines[-1].startswith(f"{model} -> {tmp_path / 'deep' / 'n.onnx'}  ONNX opset 20, fp32, ")
    assert len(lines) == 14
    assert main(["export", "--model", str(model), "-o", str(tmp_path / "n.pt2"), "--precision", "fp16"]) == 0
    out, err = capfd.readouterr()
    assert err == ""
    assert ".pt2, fp16, " in out


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["-o", "n.onnx", "--opset", "17"], "opset 17 cannot be written: expected 18 to 25."),
        (["-o", "n.onnx", "--opset", "99"], "opset 99 cannot be written: expected 18 to 25."),
        (["-o", "n.pt2", "--opset", "20"], "a .pt2 has none"),
        (["-o", "n.txt"], "ends in .onnx or .pt2"),
        (["-o", "/proc/n.onnx"], "nothing can be written there"),
        (
            ["-o", "n.onnx", "--precision", "fp8"],
            "precision 'fp8' cannot be exported: expected fp32 or fp16 (FP8 loses",
        ),
    ],
)
def test_what_cannot_be_written_is_said_at_once(
    arguments: list[str],
    sentence: str,
    model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def never(*_: Any, **__: Any) -> None:
        raise AssertionError("it was exported")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(torch.onnx, "export", never)
    monkeypatch.setattr(torch.export, "export", never)
    assert main(["export", "--model", str(model), *arguments]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert sentence in err
    assert err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_an_onnx_file_is_not_exported_again(exported: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["export", "--model", str(exported), "-o", str(tmp_path / "again.onnx")]) == 2
    assert capsys.readouterr().err == (
        f"sr-engine: error: {exported}: is an ONNX file already: export the model file it was made from.\n"
    )
    with pytest.raises(ExportError, match="is an ONNX file already"):
        export_onnx(load_model(exported), tmp_path / "again.onnx")


def test_networks_that_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="cannot export a Conv2d: a model needs a `spec`"):
        export_onnx(nn.Conv2d(3, 3, 1), tmp_path / "n.onnx")
    net = network("resampler")
    net.forward = lambda x: x if x.sum() > 1 else -x  # type: ignore[method-assign]
    for write, name in ((export_onnx, "n.onnx"), (export_pt2, "n.pt2")):
        with pytest.raises(ExportError, match=r"^generator cannot be written as (ONNX|\.pt2) \(.*\)\.$"):
            write(net, tmp_path / name)
    assert list(tmp_path.iterdir()) == []

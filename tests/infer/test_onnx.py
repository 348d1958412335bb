"""ONNX files as models: ours and those of other programs, through the Upscaler and the command line."""

import json
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper
from PIL import Image

from sr_engine.cli.main import main
from sr_engine.errors import EngineError, ModelFileError
from sr_engine.export import export_onnx
from sr_engine.infer.upscaler import Upscaler
from sr_engine.models.files import load_model, read_model_file, save_model
from sr_engine.models.onnx_network import OnnxNetwork
from tests.export.networks import network


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("models") / "net.safetensors"
    save_model(path, network("convolutions"), licence="CC0-1.0")
    return path


@pytest.fixture(scope="module")
def exported(model: Path) -> Path:
    return export_onnx(load_model(model), model.with_suffix(".onnx")).path


def picture(height: int, width: int, channels: int = 3) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, channels), np.uint8)


def foreign(
    path: Path,
    *,
    scale: int = 2,
    shape: Sequence[int | str | None] = ("n", 3, "h", "w"),
    kind: int = TensorProto.FLOAT,
    inputs: int = 1,
    mode: str = "nearest",
) -> Path:
    """A file that repeats each pixel; `mode` pairs: it needs even sides; shuffle: it has other channels out."""
    names = [f"picture{i}" for i in range(inputs)]
    given = [helper.make_tensor_value_info(name, kind, shape) for name in names]
    result = helper.make_tensor_value_info("big", kind, [None] * len(shape))
    scales = helper.make_tensor("scales", TensorProto.FLOAT, [4], [1.0, 1.0, scale, scale])
    nodes = [helper.make_node("Resize", [names[0], "", "scales"], ["big"], mode="nearest")]
    if mode == "pairs":
        nodes = [
            helper.make_node("SpaceToDepth", [names[0]], ["cells"], blocksize=4),
            helper.make_node("DepthToSpace", ["cells"], ["same"], blocksize=4),
            helper.make_node("Resize", ["same", "", "scales"], ["big"], mode="nearest"),
        ]
    if mode == "shuffle":
        nodes = [helper.make_node("SpaceToDepth", [names[0]], ["big"], blocksize=2)]
    if len(shape) != 4:
        nodes = [helper.make_node("Identity", [names[0]], ["big"])]
    graph = helper.make_graph(nodes, "theirs", given, [result], [scales])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8), path)
    return path


@pytest.mark.parametrize("form", [(24, 31), (24, 31, 3), (24, 31, 4), (24, 31, 2), (1, 1, 3)])
@pytest.mark.parametrize("tile", ["off", 40])
def test_the_upscaler_gives_what_the_model_gives(
    form: tuple[int, ...], tile: int | str, exported: Path, model: Path
) -> None:
    pixels = picture(*form[:2], *(form[2:] or (1,))).reshape(form)
    if tile == 40:
        pixels = np.concatenate([pixels] * 3)
    ours, theirs = (Upscaler(p, tile=tile, precision="fp32", device="cpu")(pixels) for p in (exported, model))  # type: ignore[arg-type]
    assert np.abs(ours.astype(int) - theirs.astype(int)).max() <= 1
    assert (ours != theirs).mean() < 1e-2


def test_tensors_in_batches(exported: Path, model: Path) -> None:
    x = torch.rand(2, 3, 19, 30)
    net = load_model(exported)
    assert isinstance(net, OnnxNetwork)
    with torch.no_grad():
        torch.testing.assert_close(net(x), load_model(model)(x), rtol=0, atol=1e-5)
        torch.testing.assert_close(net(x.contiguous(memory_format=torch.channels_last)), net(x), rtol=0, atol=0)
    up = Upscaler(net, device="cpu")
    torch.testing.assert_close(up(x), net(x).clamp(0, 1), rtol=0, atol=1e-6)


def test_the_file_says_how_it_is_run(exported: Path, model: Path) -> None:
    ours, theirs = Upscaler(exported, device="cpu"), Upscaler(model, device="cpu")
    for key in ("scale", "channels", "value_range", "size_multiple", "receptive_field", "licence", "parameters"):
        assert getattr(ours.spec, key) == getattr(theirs.spec, key)
    assert ours.spec.arguments == {"scale": 4, "of": "generator", "precision": "fp32"}
    facts = {e.key: e.value for e in onnx.load(exported).metadata_props}
    assert ours.passes.bytes_per_pixel == 6 * int(facts["largest_result"])


def test_eval_through_the_command_line(exported: Path, model: Path, tmp_path: Path) -> None:
    Image.fromarray(picture(64, 72)).resize((144, 128)).save(tmp_path / "a.png")
    scores = []
    for name, path in (("ours", exported), ("theirs", model)):
        out = tmp_path / f"{name}.json"
        assert main(["eval", "--model", str(path), "--data", str(tmp_path), "--json", str(out), "--device", "cpu"]) == 0
        scores.append(json.loads(out.read_text())["mean"]["psnr_y"])
    assert scores[0] == pytest.approx(scores[1], abs=0.01)


def test_upscale_is_quiet(exported: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    source, target = tmp_path / "a.png", tmp_path / "b.png"
    Image.fromarray(picture(9, 12)).save(source)
    argv = ["upscale", str(source), "-o", str(target), "--model", str(exported), "--device", "cpu"]
    assert main(argv) == 0
    out, err = capfd.readouterr()
    assert (len(out.splitlines()), err) == (1, "")
    assert Image.open(target).size == (48, 36)


def test_cuda_is_not_asked_for_on_a_machine_without(
    exported: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    asked = []
    real = onnxruntime.InferenceSession

    def note(*args: Any, providers: list[str], **options: Any) -> Any:
        asked.append(providers)
        return real(*args, providers=["CPUExecutionProvider"], **options)

    monkeypatch.setattr(onnxruntime, "InferenceSession", note)
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CPUExecutionProvider"])
    load_model(exported, device="cpu")
    assert asked == [["CPUExecutionProvider"]]
    with pytest.raises(ModelFileError, match=r"computes on the CPU only, not on cuda.*onnxruntime-gpu"):
        load_model(exported, device="cuda")
    with pytest.raises(ModelFileError, match="computes on the CPU only"):
        load_model(exported).to("cuda")
    with caplog.at_level(logging.WARNING):
        from sr_engine.models.onnx_network import load_onnx

        assert load_onnx(exported, "cuda", or_cpu=True).device == torch.device("cpu")
    assert "computed on the CPU" in caplog.text


def test_what_an_onnx_file_cannot_do(exported: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ModelFileError, match="is an exported program, without weights"):
        read_model_file(exported)
    with pytest.raises(ModelFileError, match="cannot save an ONNX file"):
        save_model(tmp_path / "n.safetensors", load_model(exported))
    with pytest.raises(EngineError, match=r"precision bf16 is not that of .*\(fp32\)"):
        Upscaler(exported, device="cpu", precision="bf16")
    with pytest.raises(EngineError, match="no control of sharpness"):
        Upscaler(exported, device="cpu", sharpness=1.5)
    with pytest.raises(EngineError, match="upscales by 4, not by 2"):
        Upscaler(exported, device="cpu", scale=2)
    assert main(["accelerate", "--model", str(exported)]) == 2
    assert "has no layers to swap" in capsys.readouterr().err
    assert main(["info", "--model", str(exported)]) == 0
    assert "CC0-1.0" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("changes", "size"),
    [
        ({}, (7, 5)),
        ({"scale": 1}, (7, 5)),
        ({"shape": (1, 3, "h", "w")}, (7, 5)),
        ({"kind": TensorProto.FLOAT16}, (7, 5)),
        ({"mode": "pairs"}, (7, 5)),
        ({"mode": "pairs"}, (1, 1)),
    ],
)
def test_files_of_other_programs(changes: dict, size: tuple[int, int], tmp_path: Path) -> None:
    up = Upscaler(foreign(tmp_path / "theirs.onnx", **changes), device="cpu")
    scale = changes.get("scale", 2)
    assert (up.scale, up.spec.size_multiple) == (scale, 4 if changes.get("mode") == "pairs" else 1)
    pixels = picture(*size)
    expected = pixels.repeat(scale, 0).repeat(scale, 1)
    assert np.abs(up(pixels).astype(int) - expected).max() == 0
    x = torch.rand(2, 3, *size)
    torch.testing.assert_close(up(x), x.repeat_interleave(scale, 2).repeat_interleave(scale, 3), rtol=0, atol=1e-3)


def test_a_file_of_one_channel_gets_luma(tmp_path: Path) -> None:
    up = Upscaler(foreign(tmp_path / "luma.onnx", shape=("n", 1, "h", "w")), device="cpu")
    pixels = picture(9, 12)
    grey = np.array([0.299, 0.587, 0.114])
    luma, expected = up(pixels.astype(np.float32) / 255) @ grey, (pixels / 255 @ grey).repeat(2, 0).repeat(2, 1)
    assert np.abs(luma - expected).mean() < 0.05  # colours are clipped


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({"shape": ("n", 3, 64, 48)}, "'picture0' has the fixed size 64x48"),
        ({"shape": ("n", 4, "h", "w")}, "'picture0' has 4 channels"),
        ({"shape": (3, "h", "w")}, "'picture0' has 3 axes"),
        ({"shape": (2, 3, "h", "w")}, "'picture0' takes 2 pictures at once"),
        ({"inputs": 2}, "has 2 inputs and 1 outputs"),
        ({"kind": TensorProto.UINT8}, "'picture0' is tensor(uint8)"),
        ({"mode": "shuffle"}, "it makes (1, 12, 32, 32) of (1, 3, 64, 64)"),
    ],
)
def test_files_that_are_no_upscalers(changes: dict, found: str, tmp_path: Path) -> None:
    path = foreign(tmp_path / "theirs.onnx", **changes)
    with pytest.raises(ModelFileError) as error:
        load_model(path)
    message = str(error.value)
    assert message.startswith(f"{path}: cannot upscale pictures: {found}")
    assert "expected" in message
    assert "\n" not in message


@pytest.mark.parametrize("spoil", [lambda _: b"", lambda _: b"garbage" * 50, lambda b: b[: len(b) // 2]])
def test_a_damaged_file(
    spoil: Callable[[bytes], bytes], exported: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "broken.onnx"
    path.write_bytes(spoil(exported.read_bytes()))
    Image.fromarray(picture(9, 12)).save(tmp_path / "a.png")
    assert main(["upscale", str(tmp_path / "a.png"), "-o", str(tmp_path / "b.png"), "--model", str(path)]) == 2
    out, err = capfd.readouterr()
    assert out == ""
    assert err.startswith(f"sr-engine: error: {path}: ")
    assert err.count("\n") == 1


@pytest.mark.parametrize("largest", ["many", "-1", "9" * 5000, "9" * 30])
def test_a_memory_need_that_is_damaged(exported: Path, tmp_path: Path, largest: str) -> None:
    proto = onnx.load(exported)
    helper.set_model_props(proto, {p.key: p.value for p in proto.metadata_props} | {"largest_result": largest})
    onnx.save(proto, tmp_path / "a.onnx")
    with pytest.raises(ModelFileError, match="the description in the file is damaged"):
        load_model(tmp_path / "a.onnx")


@pytest.mark.parametrize("text", [b"architecture", b"plain", b"Resize"])
def test_what_is_no_text_is_told_quietly(tmp_path: Path, text: bytes, capfd: pytest.CaptureFixture[str]) -> None:
    program = onnx.load(foreign(tmp_path / "a.onnx"))
    helper.set_model_props(program, {"architecture": "plain"})
    content = program.SerializeToString()
    assert text in content
    (tmp_path / "a.onnx").write_bytes(content.replace(text, b"\x80" * len(text)))
    with pytest.raises(ModelFileError, match=r"its names or metadata are no text|not an ONNX file"):
        load_model(tmp_path / "a.onnx")
    assert capfd.readouterr().out == ""


def test_a_description_that_is_damaged(exported: Path, tmp_path: Path) -> None:
    program = onnx.load(exported)
    for entry in program.metadata_props:
        if entry.key == "sr_engine":
            entry.value = entry.value[:40]
    onnx.save(program, tmp_path / "n.onnx")
    with pytest.raises(ModelFileError, match="the description in the file is damaged"):
        load_model(tmp_path / "n.onnx")


@pytest.mark.gpu
def test_on_a_gpu(exported: Path, model: Path) -> None:
    if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
        pytest.skip("this onnxruntime has no CUDA")
    net = cast(Any, load_model(exported, device="cuda"))
    assert "CUDAExecutionProvider" in net.session.session.get_providers()
    x = torch.rand(2, 3, 33, 40, device="cuda")
    with torch.no_grad():
        torch.testing.assert_close(net(x), load_model(model, device="cuda")(x), rtol=0, atol=1e-3)

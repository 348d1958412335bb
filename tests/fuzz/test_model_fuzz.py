# ruff: noqa: PT017 (an error is one of two right outcomes)
"""Damaged and hostile model files and checkpoints: a network or an error of ours comes back, and nothing is run."""

import inspect
import io
import json
import os
import pickle
import struct
import warnings
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save
from torch import Tensor, nn

from sr_engine.errors import CheckpointError, ModelFileError
from sr_engine.models.files import load_model, read_model_file, save_model
from sr_engine.models.generator import Generator
from sr_engine.train.checkpoint import load_checkpoint
from tests.fuzz.mutations import VALUES, damaged, examples

LAYOUTS = ({"preset": "resampler"}, {"preset": "nano", "width": 4, "stages": 1}, {"preset": "small", "width": 8})
MIXED = {"stages": 1, "units": 1, "heads": 2, "window": 4, "kernel_channels": 2, "kernel_size": 3, "features": 4}


def _net(number: int) -> Generator:
    torch.manual_seed(number)
    return Generator(scale=2, **LAYOUTS[number], **(MIXED if number == 2 else {}))  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("models")


def outcome(path: Path) -> None:
    """Load a model both ways; whatever is refused is so by an error of ours, in one line that names the file."""
    for load in (load_model, read_model_file):
        try:
            result = load(path)
        except ModelFileError as error:
            assert str(error).startswith((str(path), "cannot build"))
        else:
            state = result.state_dict() if isinstance(result, nn.Module) else result.state
            assert all(bool(w.double().isfinite().all()) for w in state.values() if w.is_floating_point())


def _parts(net: nn.Module, folder: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Description and tensors of a file of ours."""
    save_model(folder / "whole.safetensors", net)
    content = (folder / "whole.safetensors").read_bytes()
    (length,) = struct.unpack_from("<Q", content)
    text = json.loads(content[8 : 8 + length])["__metadata__"]["sr_engine"]
    return json.loads(text), dict(net.state_dict())


def _bytes(folder: Path) -> list[bytes]:
    contents = []
    for number in range(len(LAYOUTS)):
        save_model(folder / "whole.safetensors", _net(number))
        contents.append((folder / "whole.safetensors").read_bytes())
    return contents


def test_damaged_safetensors(folder: Path) -> None:
    @examples(250)
    @given(damaged(_bytes(folder), head=3000))
    def check(content: bytes) -> None:
        (folder / "a.safetensors").write_bytes(content)
        outcome(folder / "a.safetensors")

    check()


PLACES = [
    *(("format",), ("folded",), ("spec",), ("spec", "architecture"), ("spec", "arguments"), ("spec", "scale")),
    *(("spec", "channels"), ("spec", "value_range"), ("spec", "size_multiple"), ("spec", "receptive_field")),
    *(("spec", "parameters"), ("spec", "training"), ("spec", "licence"), ("spec", "other"), ("spec", "arguments", "x")),
    *(("spec", "arguments", name) for name in inspect.signature(Generator).parameters),
    *(("spec", "arguments", name) for name in ("scale", "arch", "embed_dim", "depths", "num_feat", "upscale")),
]


@st.composite
def described(draw: Any, parts: list[tuple[dict[str, Any], dict[str, Tensor]]]) -> bytes:
    """A file of ours with other values in its description, or other tensors."""
    whole, tensors = draw(st.sampled_from(parts))
    whole, tensors = json.loads(json.dumps(whole)), dict(tensors)
    for path in draw(st.lists(st.sampled_from(PLACES), max_size=3)):
        inner = whole
        for step in path[:-1]:
            inner = inner.get(step) if isinstance(inner, dict) else None
        if isinstance(inner, dict):
            inner[path[-1]] = draw(VALUES)
    for name in draw(st.lists(st.sampled_from(sorted(tensors)), max_size=2)):
        kinds = (torch.int8, torch.bool, torch.float16, torch.bfloat16, torch.float64, torch.float8_e4m3fn, torch.int64)
        weight = tensors.pop(name, torch.zeros(1))
        match draw(st.integers(0, 5)):
            case 0:
                tensors[f"{name}x"] = weight
            case 1:
                tensors[name] = weight.to(draw(st.sampled_from(kinds)))
            case 2:
                tensors[name] = torch.full_like(
                    weight.float(), draw(st.sampled_from([float("nan"), float("inf"), 1e38]))
                )
            case 3:
                tensors[name] = weight.reshape(-1)[: draw(st.integers(0, 3))].clone()
            case 4:
                tensors[name] = weight[None].clone()
    text = json.dumps(whole)
    if draw(st.integers(0, 19)) == 0:
        text = draw(st.sampled_from(["[" * 100_000, '{"a":' * 10_000, "", "null", "1e999", '"', "9" * 5000, "{}"]))
    return save(tensors, metadata={"sr_engine": text})


def test_any_description_and_weights(folder: Path) -> None:
    @examples(300)
    @given(described([_parts(_net(number), folder) for number in range(len(LAYOUTS))]))
    def check(content: bytes) -> None:
        (folder / "a.safetensors").write_bytes(content)
        outcome(folder / "a.safetensors")

    check()


class _Attack:
    """Runs a command when it is unpickled."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> Any:
        return os.system, (f"touch '{self.trace}'",)


def _pickled(value: Any, **options: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(value, buffer, **options)
    return buffer.getvalue()


def _hostile(trace: Path) -> list[bytes]:
    attack = _Attack(trace)
    within = [
        attack,
        {"a": attack},
        [attack],
        {"state_dict": {"a": torch.zeros(2), "b": attack}},
        {"format": 1, "net": attack},
    ]
    return [
        *(pickle.dumps(value, protocol) for value in within for protocol in (0, 2, 5)),
        *(_pickled(value, **kind) for value in within for kind in ({}, {"_use_new_zipfile_serialization": False})),
    ]  # fmt: skip


@pytest.mark.parametrize("suffix", [".pth", ".pt", ".ckpt"])
def test_hostile_pickles_are_refused_and_not_run(folder: Path, suffix: str) -> None:
    trace, path = folder / "TRACE", folder / f"hostile{suffix}"
    for content in _hostile(trace):
        path.write_bytes(content)
        with pytest.raises(ModelFileError):
            load_model(path)
        with pytest.raises(CheckpointError):
            load_checkpoint(path)
    assert not trace.exists()


def _whole_pickles() -> list[bytes]:
    weights = {"conv.weight": torch.zeros(3, 3), "conv.bias": torch.ones(3), "n": 1}
    itself: dict[str, Any] = {"a": 1}
    itself["itself"] = itself
    values = [
        weights,
        {"params": weights},
        {1: torch.zeros(2)},
        {("a", None): weights},
        {"a": nn.Parameter(torch.zeros(2))},
    ]
    values += [itself, {"model": {"model": {"model": {}}}}, {"a": [torch.zeros(2)], "b": "x"}, None, torch.zeros(3), 7]
    nested: dict[str, Any] = weights
    for _ in range(300):
        nested = {"module": nested}
    with warnings.catch_warnings(action="ignore"):  # TorchScript is deprecated
        scripted = io.BytesIO()
        torch.jit.save(torch.jit.script(nn.Sequential(nn.Conv2d(3, 3, 1))), scripted)
    old = _pickled(weights, _use_new_zipfile_serialization=False)
    return [*(_pickled(value) for value in [*values, nested]), old, scripted.getvalue()]  # fmt: skip


def test_damaged_pickles(folder: Path) -> None:
    pytest.importorskip("spandrel", reason="needs the extra: pip install 'sr-engine[zoo]'")
    whole = _whole_pickles()
    for content in whole:
        (folder / "a.pth").write_bytes(content)
        outcome(folder / "a.pth")

    @examples(250)
    @given(damaged([*whole, *_hostile(folder / "TRACE")], head=1500).map(resummed))
    def check(content: bytes) -> None:
        (folder / "a.pth").write_bytes(content)
        outcome(folder / "a.pth")

    check()
    assert not (folder / "TRACE").exists()


def resummed(content: bytes) -> bytes:
    """A zip file whose check sums are right again, where it still is one."""
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            for info in archive.infolist():
                info.CRC = None  # type: ignore[assignment]  # not checked then
            buffer = io.BytesIO()
            with zipfile.ZipFile(buffer, "w") as again:
                for info in archive.infolist():
                    again.writestr(info.filename, archive.read(info))
            return buffer.getvalue()
    except Exception:  # zipfile raises nearly anything
        return content

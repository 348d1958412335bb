"""Exported networks in onnxruntime beside the same networks in torch.

    pytest bench/test_export.py --benchmark-only -s

Networks are exported as `sr-engine export` does, for any size, in float32. onnxruntime gets as many threads as torch
and reads and writes tensors in place; torch records no gradients. On a GPU its CUDA provider takes part where it is
installed, torch is timed eager and compiled, and the host's clock decides, as each call of onnxruntime waits for its
device. A picture through the `Upscaler` is timed too, with the file as its model and with the network.
"""

import atexit
import functools
import shutil
import tempfile
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from torch import Tensor, nn

pytest.importorskip("pydantic")
pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript", reason="torch.onnx.export needs onnxscript")

import onnxruntime as ort

from bench import clock, devices, networks
from bench.clock import Call
from bench.devices import SMOKE, place
from bench.race import Case
from sr_engine.export import export_onnx
from sr_engine.infer.upscaler import Upscaler
from sr_kernels import functional as K

OURS, BASELINE = "onnxruntime", "torch"
SIDE = 32 if SMOKE else 128
SCALE = 4
PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}


class MagicResample(nn.Module):
    """Magic Kernel Sharp 2021, without parameters."""

    def forward(self, x: Tensor) -> Tensor:
        return K.magic_resample(x, scale=SCALE)


def module(name: str) -> nn.Module:
    return MagicResample().eval() if name == "magic_resample" else networks.generator(name, SCALE, "cpu")


@functools.cache
def exported(name: str) -> Path:
    """The ONNX file of a module, for any size where it is a model."""
    path = Path(tempfile.mkdtemp()) / f"{name}.onnx"
    atexit.register(shutil.rmtree, path.parent, ignore_errors=True)
    if name != "magic_resample":
        return export_onnx(module(name), path).path
    x = torch.rand(1, 3, SIDE, SIDE)
    with torch.no_grad():
        torch.onnx.export(module(name), (x,), path, dynamo=True, verbose=False, external_data=False)
    return path


def session(name: str, where: str) -> Any:
    options = ort.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3
    return ort.InferenceSession(str(exported(name)), options, providers=[PROVIDERS[where]])


def bound(name: str, x: Tensor, out: Tensor) -> Call:
    """A call that reads `x` and fills `out`, both float32 in rows, where they lie."""
    where = x.device.type
    program = session(name, where)
    binding = program.io_binding()
    (given,), (result,) = program.get_inputs(), program.get_outputs()
    binding.bind_input(given.name, where, 0, np.float32, tuple(x.shape), x.data_ptr())
    binding.bind_output(result.name, where, 0, np.float32, tuple(out.shape), out.data_ptr())

    def call() -> Tensor:
        clock.wait(where)  # its stream is not torch's
        program.run_with_iobinding(binding)
        return out

    return call


@pytest.mark.parametrize(
    ("device", "name"),
    [
        devices.case(device, device, name, id=name, quick=(device, name) != ("cpu", "small"))
        for device in ("cpu", "cuda")
        for name in ("magic_resample", "tiny", "small")
    ],
)
def test_export(race, device, name):
    where = place(device)
    if PROVIDERS[where] not in ort.get_available_providers():
        pytest.skip(f"this onnxruntime has no {PROVIDERS[where]}")
    torch._dynamo.reset()
    torch.manual_seed(0)
    x = torch.rand(1, 3, SIDE, SIDE).to(where)
    net = module(name).to(where)
    out = torch.empty(1, 3, SCALE * SIDE, SCALE * SIDE, device=where)
    runs: dict[str, Call] = {BASELINE: torch.no_grad()(lambda: net(x)), OURS: bound(name, x, out)}
    if device == "cuda":
        program = networks.compiled(net)
        runs["torch, compiled"] = torch.no_grad()(lambda: program(x))
    case = Case(
        "export",
        f"{name} x{SCALE} {SIDE}x{SIDE}",
        device=device,
        ours=OURS,
        baseline=BASELINE,
        moved=x.nbytes + out.nbytes + 4 * networks.parameters(net),
        flops=networks.flops(cast(nn.Module, net), where, SIDE, SIDE) if name != "magic_resample" else 0,
        headline=(device, name) == ("cpu", "tiny"),
        unit="megapixels",
        per_call=(SCALE * SIDE) ** 2 / 1e6,
        by_host=True,
    )
    race(case, runs, tolerance=1e-4, memory=False)  # onnxruntime's own is not torch's to count


@pytest.mark.parametrize("device", [devices.case("cpu", "cpu", id="picture", quick=True)])
def test_picture(race, device):
    """Bytes in, bytes out: whether the way through the Upscaler keeps what onnxruntime gains."""
    side = 32 if SMOKE else 256
    picture = np.random.default_rng(0).integers(0, 256, (side, side, 3), np.uint8)
    ours = Upscaler(exported("tiny"), device=device)
    theirs = Upscaler(networks.generator("tiny", SCALE, device), device=device, precision="fp32")
    case = Case(
        "export",
        f"picture, tiny x{SCALE} {side}x{side}",
        kind="end to end",
        device=device,
        ours=OURS,
        baseline=BASELINE,
        moved=picture.nbytes * (1 + SCALE**2),
        flops=networks.flops(cast(nn.Module, theirs.net), device, side, side),
        unit="megapixels",
        per_call=(SCALE * side) ** 2 / 1e6,
    )
    runs: dict[str, Call] = {name: _of(up, picture) for name, up in ((BASELINE, theirs), (OURS, ours))}
    race(case, runs, tolerance=1.01 / 255, memory=False)  # a value on the edge may round the other way


def _of(up: Upscaler, picture: np.ndarray) -> Call:
    return lambda: torch.from_numpy(up(picture)) / 255

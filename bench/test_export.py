"""Exported networks in onnxruntime beside the same networks in torch.

    pytest bench/test_export.py --benchmark-only -s

Exported with `torch.onnx.export(dynamo=True)` for one size, in float32. onnxruntime gets as many threads as torch and
reads and writes tensors in place. On a GPU its CUDA provider takes part where it is installed, torch is timed eager and
compiled, and the host's clock decides, as each call of onnxruntime waits for its device.
"""

import functools
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
def exported(name: str) -> bytes:
    """The ONNX file of a module for one picture of SIDE."""
    x = torch.rand(1, 3, SIDE, SIDE)
    with tempfile.TemporaryDirectory() as folder, torch.no_grad():
        path = Path(folder) / "network.onnx"
        torch.onnx.export(module(name), (x,), path, dynamo=True, verbose=False, external_data=False)
        return path.read_bytes()


def session(name: str, where: str) -> Any:
    options = ort.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3
    return ort.InferenceSession(exported(name), options, providers=[PROVIDERS[where]])


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
    runs: dict[str, Call] = {BASELINE: lambda: net(x), OURS: bound(name, x, out)}
    if device == "cuda":
        program = networks.compiled(net)
        runs["torch, compiled"] = lambda: program(x)
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

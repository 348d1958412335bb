"""Which implementation of an operation runs, and why.

`auto` picks Triton for CUDA tensors and the fast PyTorch path elsewhere; the environment variable SR_KERNELS_IMPL
replaces `auto`. An implementation that was asked for by name either runs or is an error: nothing falls back silently.
"""

import importlib.util
import os
from functools import cache
from typing import Literal, get_args

import torch

Impl = Literal["auto", "triton", "torch", "reference"]

OPERATIONS = ("window_attention", "magic_resample", "content_stats", "channel_attention")
ENVIRONMENT_VARIABLE = "SR_KERNELS_IMPL"


class ImplUnavailableError(RuntimeError):
    """The implementation asked for cannot run here."""


def exporting() -> bool:
    """Whether torch.export or the ONNX exporter traces the code that asks.

    `torch.compiler.is_exporting` says so of torch.compile as well where torch is older than 2.14 (seen in 2.11), and
    compiled networks would lose the kernels; the flag behind it does not.
    """
    return torch.compiler._is_exporting_flag


def resolve(
    op: str, impl: str, device: torch.device, obstacle: str | None = None
) -> Literal["triton", "torch", "reference"]:
    """The implementation that runs for `impl` on tensors of `device`.

    `obstacle` says what about the tensors themselves keeps Triton from them.

    Raises:
        ValueError: `impl` (or SR_KERNELS_IMPL) is not one of the known names.
        ImplUnavailableError: the named implementation cannot run here.
    """
    return _decide(op, impl, device, obstacle)[0]


def explain(device: str | torch.device | None = None) -> dict[str, str]:
    """For each operation: what `auto` takes for tensors on `device` (default: CUDA if there is one), and why."""
    if device is None:
        device = "cuda" if torch.cuda.is_available() else "cpu"
    device = torch.device(device)
    return {op: "{} ({})".format(*_decide(op, "auto", device)) for op in OPERATIONS}


def _decide(
    op: str, impl: str, device: torch.device, obstacle: str | None = None
) -> tuple[Literal["triton", "torch", "reference"], str]:
    source = "asked for"
    if impl == "auto":
        impl = os.environ.get(ENVIRONMENT_VARIABLE, "auto")
        source = f"{ENVIRONMENT_VARIABLE}={impl}"
    match impl:
        case "torch" | "reference":
            return impl, source
        case "triton":
            if (obstacle := obstacle or _triton_obstacle(op, device)) is not None:
                raise ImplUnavailableError(f"{op}: impl='triton' cannot run: {obstacle}; use impl='auto' or 'torch'")
            return "triton", source
        case "auto":
            obstacle = obstacle or _triton_obstacle(op, device)
            return ("triton", "CUDA tensors") if obstacle is None else ("torch", obstacle)
    raise ValueError(f"{op}: impl must be one of {', '.join(get_args(Impl))}, got {impl!r} ({source})")


def _triton_obstacle(op: str, device: torch.device) -> str | None:
    if device.type != "cuda" and os.environ.get("TRITON_INTERPRET") != "1":
        return _missing(op, None) or f"Triton needs CUDA tensors, these are on {device.type}"
    return _missing(op, device if device.type == "cuda" else None)


@torch.compiler.assume_constant_result
def _missing(op: str, device: torch.device | None) -> str | None:
    return _missing_once(op, device)


@cache
def _missing_once(op: str, device: torch.device | None) -> str | None:
    if importlib.util.find_spec(f"sr_kernels.{op}.forward") is None:
        return "this version has no Triton implementation of it"
    if importlib.util.find_spec("triton") is None:
        return "triton is not installed"
    if device is not None and torch.version.hip is not None:
        return "the kernels have not been tried on AMD"
    if device is not None and torch.cuda.get_device_capability(device) < (8, 0):
        return "the kernels need compute capability 8.0 (Ampere) or newer"
    return None

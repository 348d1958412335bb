"""Sessions of onnxruntime, opened quietly and where they were asked for, on tensors of torch as they lie."""

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sr_engine.errors import ModelFileError

CPU, CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"
_SILENT = 4  # what goes wrong comes as an exception too
_OUT_OF_MEMORY = ("Failed to allocate memory", "bad allocation", "bad_alloc", "out of memory")
ELEMENTS = {"tensor(float)": (np.float32, torch.float32), "tensor(float16)": (np.float16, torch.float16)}


class DeviceError(ModelFileError):
    """onnxruntime cannot compute on the device asked for."""


def open_session(path: str | Path, device: torch.device) -> Any:
    """An `onnxruntime.InferenceSession` of a file, with as many threads as torch.

    CUDA's provider is asked for on a CUDA device alone: elsewhere onnxruntime would complain of its libraries.

    Raises:
        ModelFileError: onnxruntime is not installed, or the file is damaged.
        DeviceError: the session would not be on the device.
    """
    try:
        import onnxruntime
    except ImportError as error:
        raise ModelFileError(f"{path}: ONNX files need the package onnxruntime ({error}).") from error
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = _SILENT
    providers: list[Any] = [CPU]
    if device.type == "cuda":
        if CUDA not in onnxruntime.get_available_providers():
            raise DeviceError(
                f"{path}: this onnxruntime computes on the CPU only, not on {device}: install onnxruntime-gpu in its "
                "place, or use --device cpu."
            )
        _find_libraries()
        providers = [(CUDA, {"device_id": device.index or 0}), CPU]
    try:
        # A second try is for a device that fails; on the CPU it would only print to stdout that there is one.
        again = int(device.type != "cpu")
        session = onnxruntime.InferenceSession(str(path), options, providers=providers, enable_fallback=again)
    except Exception as error:  # its own kinds, which share no base
        raise ModelFileError(
            f"{path}: not an ONNX file that onnxruntime can run ({told(error)}); export or download it again."
        ) from error
    if device.type == "cuda" and CUDA not in session.get_providers():
        raise DeviceError(f"{path}: onnxruntime finds no CUDA libraries of its version for {device}: use --device cpu.")
    return session


def compute(session: Any, x: Tensor, size: tuple[int, ...], device: torch.device) -> Tensor:
    """The only output, of this size, of a session for its only input, both read and written where they lie.

    Raises:
        MemoryError: memory does not suffice. Otherwise what onnxruntime raises.
    """
    (given,), (result,) = session.get_inputs(), session.get_outputs()
    (read, like), (write, written) = ELEMENTS[given.type], ELEMENTS[result.type]
    x = x.to(device, like).contiguous()
    out = torch.empty(size, dtype=written, device=device)
    number = device.index or 0
    binding = session.io_binding()
    binding.bind_input(given.name, device.type, number, read, tuple(x.shape), x.data_ptr())
    binding.bind_output(result.name, device.type, number, write, size, out.data_ptr())
    if device.type == "cuda":
        torch.cuda.current_stream(device).synchronize()  # onnxruntime has a stream of its own
    try:
        session.run_with_iobinding(binding)
    except Exception as error:
        if any(text in str(error) for text in _OUT_OF_MEMORY):
            raise MemoryError(told(error)) from error
        raise
    binding.synchronize_outputs()
    return out


def told(error: Exception) -> str:
    """What onnxruntime says, without its number and in one line."""
    text = " ".join(str(error).split())
    return text.rpartition("] : ")[2][:200].rstrip(" .")


@cache
def _find_libraries() -> None:
    """Load the CUDA libraries that came with torch, which onnxruntime does not find by itself."""
    import onnxruntime

    if hasattr(onnxruntime, "preload_dlls"):
        onnxruntime.preload_dlls()

"""Sessions of onnxruntime, opened quietly and where they were asked for."""

from functools import cache
from pathlib import Path
from typing import Any

import torch

from sr_engine.errors import ModelFileError

_ERRORS_ONLY = 3
CPU, CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"


def open_session(path: str | Path, device: torch.device) -> Any:
    """An `onnxruntime.InferenceSession` of a file, with as many threads as torch.

    CUDA's provider is asked for on a CUDA device alone: elsewhere onnxruntime would complain of its libraries.

    Raises:
        ModelFileError: onnxruntime is not installed, the file is damaged, or the session is not on the device.
    """
    try:
        import onnxruntime
    except ImportError as error:
        raise ModelFileError(f"{path}: ONNX files need the package onnxruntime ({error}).") from error
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = _ERRORS_ONLY
    providers: list[Any] = [CPU]
    if device.type == "cuda":
        providers = [*_cuda(onnxruntime, device), CPU]
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=providers)
    except Exception as error:  # its own kinds, which share no base
        text = " ".join(str(error).split())[:200]
        raise ModelFileError(
            f"{path}: not an ONNX file that onnxruntime can run ({text}); export or download it again."
        ) from error
    if device.type == "cuda" and CUDA not in session.get_providers():
        raise ModelFileError(
            f"{path}: onnxruntime cannot use {device} ({_missing()}); use --device cpu for this model."
        )
    return session


def _cuda(onnxruntime: Any, device: torch.device) -> list[Any]:
    if CUDA not in onnxruntime.get_available_providers():
        return []
    _preload(onnxruntime)
    return [(CUDA, {"device_id": device.index or 0})]


@cache
def _preload(onnxruntime: Any) -> None:
    """The CUDA libraries that came with torch, which onnxruntime does not find by itself."""
    if hasattr(onnxruntime, "preload_dlls"):
        onnxruntime.preload_dlls()


def _missing() -> str:
    import onnxruntime

    if CUDA not in onnxruntime.get_available_providers():
        return "this onnxruntime is built for the CPU: install onnxruntime-gpu in its place"
    return "it finds no CUDA libraries of its version"

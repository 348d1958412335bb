"""Where a run computes and in which precision."""

import time
from collections.abc import Sequence
from functools import cache
from typing import Literal, get_args

import torch

from sr_engine.errors import EngineError, did_you_mean
from sr_engine.refused import refusal

Precision = Literal["auto", "fp32", "bf16", "fp16"]

_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def pick_device(name: str = "auto") -> torch.device:
    """The device called `name`; `auto` is the first CUDA device, else the CPU.

    Raises:
        EngineError: the device does not exist on this machine.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise EngineError(f"device '{name}' is unknown: expected auto, cpu, cuda or cuda:N.") from None
    if device.type == "cuda" and (not torch.cuda.is_available() or (device.index or 0) >= torch.cuda.device_count()):
        raise EngineError(f"device '{name}' does not exist here ({torch.cuda.device_count()} CUDA devices): use cpu.")
    return device


def check_precision(name: str, allowed: Sequence[str] = get_args(Precision)) -> None:
    """Whether a precision can be asked for.

    Args:
        allowed: the names that may be given.

    Raises:
        EngineError: another name; of one that was ruled out by measurement, the message says what it costs.
    """
    if name in allowed:
        return
    listed = ", ".join(allowed)
    if (why := refusal(name)) is not None:
        raise EngineError(f"precision '{name}' is not offered, use one of {listed}: {why}.")
    raise EngineError(f"precision '{name}' is unknown{did_you_mean(name, allowed)}: expected one of {listed}.")


def pick_precision(name: Precision, device: torch.device) -> torch.dtype:
    """The autocast dtype for a precision name; `torch.float32` means no autocast.

    `auto` is bf16 where the hardware computes it natively (on a CPU: and where a trial convolution measures faster),
    else fp32: emulated bf16 is an order of magnitude slower than fp32 on CPUs without the instructions.

    Raises:
        EngineError: fp16 on a CPU, or a name that `check_precision` refuses.
    """
    check_precision(name)
    if name == "fp16" and device.type == "cpu":
        raise EngineError("precision fp16 needs a CUDA device: use auto, fp32 or bf16 on a CPU.")
    if name != "auto":
        return _DTYPES[name]
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.get_device_capability(device) >= (8, 0) else torch.float32
    return torch.bfloat16 if _cpu_bf16_is_faster() else torch.float32


@cache
def _cpu_bf16_is_faster() -> bool:
    if not (torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()):
        return False
    # The process's own random numbers stay: a training that is continued measures where the first one did not.
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        conv = torch.nn.Conv2d(32, 32, 3, padding=1).to(memory_format=torch.channels_last)
        x = torch.rand(4, 32, 64, 64).contiguous(memory_format=torch.channels_last)
        seconds = {enabled: _best_of(conv, x, enabled) for enabled in (False, True)}
    return seconds[True] < seconds[False]


def _best_of(conv: torch.nn.Module, x: torch.Tensor, bf16: bool, repeats: int = 5) -> float:
    best = float("inf")
    for _ in range(repeats):
        start = time.perf_counter()
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            conv(x)
        best = min(best, time.perf_counter() - start)
    return best

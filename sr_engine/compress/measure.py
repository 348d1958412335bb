"""What a network costs: multiply-adds and time."""

import copy
import math
import statistics
import time
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from sr_engine.layers.reparam import fold_reparam

OUTPUT = 1280, 720  # pixels that MACs are given for
_SIDE = 64  # of the picture they are counted on; a multiple of the usual windows


def inference_copy(net: nn.Module) -> nn.Module:
    """A copy as it runs: folded, in eval mode, channels last, without gradients."""
    with torch.random.fork_rng(devices=[]):
        twin = fold_reparam(copy.deepcopy(net))
    return twin.eval().requires_grad_(False).to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]


@torch.inference_mode()
def macs(net: nn.Module, scale: int) -> int:
    """Multiply-adds of convolutions, matrix products and attention for one output picture of 1280x720.

    Counted on 64x64 input pixels and scaled by area.

    Args:
        net: an `inference_copy`.
    """
    parameter = next(net.parameters())
    x = torch.zeros(1, 3, _SIDE, _SIDE, device=parameter.device, dtype=parameter.dtype)
    with FlopCounterMode(display=False, custom_mapping=_own_operations()) as counter:
        net(x)
    area = math.prod(OUTPUT) / scale**2
    return round(counter.get_total_flops() / 2 * area / _SIDE**2)


@torch.inference_mode()
def latencies(
    nets: Sequence[nn.Module], size: tuple[int, int], *, dtype: torch.dtype = torch.float32, seconds: float = 10.0
) -> list[float]:
    """Median time in ms of each network on one picture of `size` (height, width); the runs take turns.

    Args:
        dtype: of autocast; float32 = none.
        seconds: after which no further round begins; there are 5 to 25.
    """
    parameter = next(nets[0].parameters())
    x = torch.rand(1, 3, *size, device=parameter.device, dtype=parameter.dtype)
    times: list[list[float]] = [[] for _ in nets]
    with torch.autocast(x.device.type, dtype, enabled=dtype != torch.float32):
        for net in nets:
            _timed(net, x)
        end = time.perf_counter() + seconds
        while len(times[0]) < 5 or (len(times[0]) < 25 and time.perf_counter() < end):
            for net, found in zip(nets, times, strict=True):
                found.append(_timed(net, x))
    return [1000 * statistics.median(found) for found in times]


def _timed(net: nn.Module, x: Tensor) -> float:
    start = time.perf_counter()
    net(x)
    if x.device.type == "cuda":
        torch.cuda.synchronize(x.device)
    return time.perf_counter() - start


def _own_operations() -> dict[Any, Any]:
    """Operations of this project that matter: attention between the pixels of a window, by its queries and values."""

    def attention(*args: Any, out_shape: Any, **_: Any) -> int:
        keys = args[6][4:6]  # of the `Windows` as `Windows.encode` wrote them
        return 2 * 2 * math.prod(out_shape[0]) * math.prod(keys)

    return {torch.ops.sr_kernels.window_attention: attention}

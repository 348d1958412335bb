"""The two ceilings of a device, measured in the same run: the speed of a plain copy and that of a matrix product."""

import functools
import statistics

import torch

from bench import clock
from bench.devices import SMOKE

SAMPLES = 3 if SMOKE else 15
COPY_BYTES = {"cpu": 256 << 20, "cuda": 1 << 30}
SIDE = {"cpu": 2048, "cuda": 8192}


@functools.cache
def copy_bandwidth(place: str) -> float:
    """Bytes read and written per second by copying a large tensor: the floor of everything bound by memory."""
    size = 1 << 20 if SMOKE else COPY_BYTES[place]
    source, target = (torch.ones(size, dtype=torch.uint8, device=place) for _ in range(2))

    def copy() -> None:
        target.copy_(source)

    return 2 * size / _median(copy, place)


@functools.cache
def matrix_rate(place: str, dtype: torch.dtype) -> float:
    """Floating-point operations per second of a large matrix product of random numbers.

    For float32 on a CUDA device: the product itself, or three products in tf32, whichever is faster, as three of them
    give float32's accuracy.
    """
    side = 64 if SMOKE else SIDE[place]
    if place == "cpu" and dtype not in (torch.float32, torch.float64):
        side //= 2  # without instructions for half precision it is slow
    a, b = (torch.randn(side, side, device=place).to(dtype) for _ in range(2))

    def product() -> None:
        torch.mm(a, b)

    rate = 2 * side**3 / _median(product, place)
    if place == "cuda" and dtype == torch.float32:
        before = torch.backends.cuda.matmul.allow_tf32
        torch.backends.cuda.matmul.allow_tf32 = True
        try:
            rate = max(rate, 2 * side**3 / _median(product, place) / 3)
        finally:
            torch.backends.cuda.matmul.allow_tf32 = before
    return rate


def floor(place: str, dtype: torch.dtype, moved: int, flops: int) -> tuple[float, str] | None:
    """Seconds below which nothing that moves so many bytes and does so many operations can stay, and which of the two
    says so ("bytes" or "flops"); None where neither is known."""
    if not (moved or flops):
        return None
    by_bytes = moved / copy_bandwidth(place)
    by_flops = flops / matrix_rate(place, dtype) if flops else 0.0
    return max((by_bytes, "bytes"), (by_flops, "flops"))


def _median(call: clock.Call, place: str) -> float:
    call()
    plan = clock.plan(call, place)
    return statistics.median(clock.sample(call, plan, place) for _ in range(SAMPLES))

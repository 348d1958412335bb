"""content_stats on a GPU beside the eager torch composition and torch.compile of it.

`PYTHONPATH=.:kernels python3 -m pytest bench/test_content_stats_gpu.py --benchmark-only -s`. The floor is the time that
a copy of the bytes takes which the call must move: the picture and the statistics, each once; in training the gradients
as well. The target of the forward pass is 10 us and 9 ns per 1000 pixels, on an H100.

SR_BENCH_SMOKE=1 tries the code on a CPU, with the torch path and small pictures.
"""

import importlib.util
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from bench import gpu
from sr_kernels import functional as K
from sr_kernels.content_stats import fast

if reason := gpu.obstacle():
    pytest.skip(reason, allow_module_level=True)

OURS, IMPL = "ours", "torch" if gpu.SMOKE else "triton"
SHRINK = 20 if gpu.SMOKE else 1
SIZES = [(180, 320), (360, 640), (1080, 1920)]
WINDOW = 8
# Eager and compiled blur in another order: on flat spots the deviation of float32 differs in the fourth digit, and its
# gradient, which the inverse of that deviation scales, in the second.
TOLERANCE = {False: {torch.bfloat16: 2e-2, torch.float32: 2e-3}, True: {torch.bfloat16: 5e-2, torch.float32: 5e-2}}


def launches(x: Tensor, training: bool) -> int | None:
    """Kernels that our forward, or forward and backward, enqueues."""
    if importlib.util.find_spec("triton") is None:
        return None
    from sr_kernels import launch
    from sr_kernels.content_stats.backward import backward
    from sr_kernels.content_stats.forward import forward
    from sr_kernels.content_stats.tiling import Picture

    picture = Picture(x.detach().to("meta"))
    count = len(launch.collect(forward(picture, WINDOW)))
    if training:
        grads = K.content_stats(x.detach(), window=WINDOW, impl="torch")
        d_fine, d_coarse, d_difficulty = (grad.to("meta") for grad in grads)
        count += len(launch.collect(backward(d_fine, d_coarse, d_difficulty, picture, WINDOW)))
    return count


def contestants(x: Tensor, training: bool) -> dict[str, Callable[[], tuple[Tensor, ...]]]:
    """Each returns the statistics, or in training the gradient of the picture."""
    calls: dict[str, Callable[[], tuple[Tensor, ...]]] = {
        "eager": lambda: fast.content_stats(x, WINDOW),
        "compile": lambda: compiled(x, WINDOW),
        OURS: lambda: tuple(K.content_stats(x, window=WINDOW, impl=IMPL)),
    }
    compiled = torch.compile(fast.content_stats, dynamic=False)
    with torch.no_grad():
        pulls = [torch.rand_like(s, memory_format=torch.contiguous_format) for s in calls["eager"]()]

    def finished(call: Callable[[], tuple[Tensor, ...]]) -> Callable[[], tuple[Tensor, ...]]:
        return lambda: torch.autograd.grad(call(), x, pulls) if training else call()

    return {name: finished(call) for name, call in calls.items()}


@pytest.mark.parametrize("training", [False, True], ids=["forward", "training"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32], ids=lambda d: str(d)[6:])
@pytest.mark.parametrize("size", SIZES, ids=lambda s: f"{s[1]}x{s[0]}")
def test_content_stats_gpu(record, size, dtype, training):
    torch._dynamo.reset()
    torch.manual_seed(0)
    height, width = (n // SHRINK for n in size)
    x = torch.rand(1, 3, height, width, device=gpu.DEVICE).to(dtype).requires_grad_(training)
    runs = contestants(x, training)
    with torch.set_grad_enabled(training):
        tolerance = TOLERANCE[training][dtype]
        found = gpu.compete(runs, ours=OURS, tolerance=tolerance, checked=lambda _, result: result)
        with torch.no_grad():
            moved = sum(t.numel() * t.element_size() for t in (x, *K.content_stats(x, window=WINDOW, impl="torch")))
        moved *= 2 if training else 1
        floor = moved / gpu.copy_bandwidth()
        warm = gpu.warm_times(runs, found, OURS) if size == SIZES[0] else {}
    title = f"{width}x{height} {str(dtype)[6:]} {'forward + backward' if training else 'forward'}"
    gpu.table(title, found, ours=OURS, floor=floor, warm=warm)
    bandwidth, count = moved / found.seconds[OURS] / 1e9, launches(x, training)
    print(f"  ours moves {bandwidth:.0f} GB/s in {count} launches; a copy moves {gpu.copy_bandwidth() / 1e9:.0f} GB/s")
    if not training:
        print(f"  target {10 + 9e-6 * height * width:.1f} us")

    def ours() -> None:
        with torch.set_grad_enabled(training):
            runs[OURS]()
        gpu.wait()

    record(
        found.seconds,
        gpu.DEVICE,
        ours=ours,
        gigabytes_per_second=round(bandwidth, 1),
        launches=count,
        **gpu.fields(found, ours=OURS, floor=floor, warm=warm),
    )

"""channel_attention against the literal forms of DAT (pixels outside, channels inside) and Restormer (the reverse).

On a CPU one picture of 128x128 or four of 64x64; target: never slower than the literal form. On a GPU also against
torch.compile of it, on 256x256, as a multiple of the time that a copy of the fused kernels' bytes takes:
`PYTHONPATH=.:kernels python3 -m pytest bench/test_channel_attention.py --benchmark-only -s`.
"""

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from bench import gpu
from sr_kernels import functional as K

# layout, channels, heads: DAT; Restormer's first and third level.
NETWORKS = {"DAT": ("nhwc", 180, 6), "Restormer 1": ("nchw", 48, 1), "Restormer 3": ("nchw", 192, 4)}
SIDE = 32 if gpu.SMOKE else 256


def literal(qkv: Tensor, temperature: Tensor, heads: int, layout: str) -> Tensor:
    if layout == "nchw":
        B, channels, H, W = qkv.shape
        q, k, v = (x.reshape(B, heads, -1, H * W) for x in qkv.chunk(3, dim=1))
    else:
        B, H, W, channels = qkv.shape
        q, k, v = qkv.reshape(B, H * W, 3, heads, -1).permute(2, 0, 3, 1, 4).transpose(-2, -1)
    q, k = F.normalize(q, dim=-1), F.normalize(k, dim=-1)
    out = ((q @ k.transpose(-2, -1)) * temperature).softmax(dim=-1) @ v
    return out.reshape(B, -1, H, W) if layout == "nchw" else out.permute(0, 3, 1, 2).reshape(B, H, W, channels // 3)


def contestants(
    name: str, batch: int, side: int, training: bool, device: str, dtype: torch.dtype, impl: str
) -> tuple[dict[str, Callable[[], tuple[Tensor, ...]]], Tensor]:
    """The literal form and ours, each returning (result,) or the gradients of (qkv, temperature); and the result."""
    torch.manual_seed(0)
    layout, C, heads = NETWORKS[name]
    shape, axis = [batch, side, side], 3 if layout == "nhwc" else 1
    qkv = torch.randn(*shape[:axis], 3 * C, *shape[axis:], device=device).to(dtype).requires_grad_(training)
    temperature = torch.rand(heads, 1, 1, device=device).to(dtype).requires_grad_(training)
    pull = torch.randn(*shape[:axis], C, *shape[axis:], device=device).to(dtype)

    def finish(out: Tensor) -> tuple[Tensor, ...]:
        return torch.autograd.grad(out, (qkv, temperature), pull) if training else (out,)

    def ours() -> Tensor:
        return K.channel_attention(qkv, heads=heads, temperature=temperature, layout=layout, impl=impl)  # type: ignore

    compiled = torch.compile(literal)
    runs = {
        "literal": lambda: finish(literal(qkv, temperature, heads, layout)),
        "compile": lambda: finish(compiled(qkv, temperature, heads, layout)),
        "ours": lambda: finish(ours()),
    }
    return runs, pull


@pytest.mark.parametrize("training", [False, True], ids=["forward", "training"])
@pytest.mark.parametrize(("batch", "side"), [(1, 128), (4, 64)], ids=["one", "four"])
@pytest.mark.parametrize("name", NETWORKS)
def test_channel_attention(race, name, batch, side, training):
    runs, _ = contestants(name, batch, side, training, "cpu", torch.float32, "torch")
    del runs["compile"]
    race(runs, ours="ours", tolerance=1e-3)


@pytest.mark.skipif(gpu.obstacle() is not None, reason=str(gpu.obstacle()))
@pytest.mark.parametrize("training", [False, True], ids=["forward", "training"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32], ids=str)
@pytest.mark.parametrize("batch", [1, 16])
@pytest.mark.parametrize("name", NETWORKS)
def test_channel_attention_gpu(record, name, batch, dtype, training):
    torch._dynamo.reset()
    impl = "torch" if gpu.SMOKE else "triton"
    runs, out = contestants(name, 1 if gpu.SMOKE else batch, SIDE, training, gpu.DEVICE, dtype, impl)
    with torch.set_grad_enabled(training):
        # The literal form rounds unit vectors and cosines to half precision.
        tolerance = 0.08 if dtype is torch.bfloat16 else 1e-3
        found = gpu.compete(runs, ours="ours", tolerance=tolerance, checked=lambda _, result: result)
        floor = (12 if training else 4) * out.numel() * dtype.itemsize / gpu.copy_bandwidth()
    title = f"{name} batch {batch} {str(dtype)[6:]} {'training' if training else 'forward'}"
    gpu.table(title, found, ours="ours", floor=floor)

    def ours() -> None:
        with torch.set_grad_enabled(training):
            runs["ours"]()
        gpu.wait()

    record(found.seconds, gpu.DEVICE, ours=ours, **gpu.fields(found, ours="ours", floor=floor))

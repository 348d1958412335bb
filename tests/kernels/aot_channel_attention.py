"""Launches of channel attention that are compiled ahead of time: Restormer's and DAT's heads."""

from functools import partial
from typing import Any

from aot import Case

# Heads, channels of a head, layout of the packed map.
SHAPES = {"restormer": (1, 48, "nchw"), "dat": (6, 30, "nhwc"), "wide": (2, 96, "nhwc")}


def launches(shape: str, precision: str, backward: bool, _arch: int) -> list[Any]:
    """The launches of one forward or one backward call on `meta` tensors."""
    import torch

    from sr_kernels.channel_attention.backward import plan as plan_backward
    from sr_kernels.channel_attention.forward import plan as plan_forward

    heads, d, layout = SHAPES[shape]
    dtype = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(precision, torch.float32)
    channels = 3 * heads * d
    size = (2, 64, 64, channels) if layout == "nhwc" else (2, channels, 64, 64)
    qkv = [torch.empty(size, dtype=dtype, device="meta")]
    temperature = torch.empty(heads, 1, 1, device="meta")
    tf32 = precision if dtype == torch.float32 else "auto"
    (out, attention, cosines, norms), steps = plan_forward(qkv, temperature, heads, layout, tf32)
    if backward:
        grad = torch.empty_like(out)
        _, steps = plan_backward(grad, qkv, temperature, attention, cosines, norms, heads, layout, tf32)
    return steps


CASES = {
    f"channel_attention/{shape}/{'backward' if backward else 'forward'}/{precision}": Case(
        partial(launches, shape, precision, backward), precision, slow=precision != "bf16" or shape == "wide"
    )
    for shape in SHAPES
    for backward in (False, True)
    for precision in ("bf16", "fp16", "tf32x3")
}

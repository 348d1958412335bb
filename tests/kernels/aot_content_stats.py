"""The launches of content_stats that are compiled ahead of time; see aot.py."""

from functools import partial
from typing import Any

from aot import Case


def launches(direction: str, precision: str, window: int, channels: int, size: tuple[int, int], arch: int) -> list[Any]:
    """Of one call on `meta` tensors. What is compiled does not depend on the architecture."""
    import torch

    from sr_kernels.content_stats.backward import backward
    from sr_kernels.content_stats.forward import forward
    from sr_kernels.content_stats.tiling import Picture
    from sr_kernels.launch import collect

    dtype = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}[precision]
    (H, W), h, w = size, (size[0] + 1) // 2, (size[1] + 1) // 2
    picture = Picture(torch.empty(1, channels, H, W, dtype=dtype, device="meta"))
    if direction == "forward":
        return collect(forward(picture, window))
    fine, coarse = torch.empty(1, 8, H, W, device="meta"), torch.empty(1, 8, h, w, device="meta")
    difficulty = torch.empty(1, 2, -(-H // window), -(-W // window), device="meta")
    return collect(backward(fine.to(dtype), coarse.to(dtype), difficulty.to(dtype), picture, window))


def cases() -> dict[str, Case]:
    found = {}

    def add(direction: str, precision: str, window: int, channels: int = 3, odd: bool = False, slow: bool = True):
        name = f"content_stats/{direction}/{precision}/window{window}"
        name += ("" if channels == 3 else "/luma") + ("/odd" if odd else "")
        # The precision of a case is that of its matrix products, and there are none.
        size = (361, 641) if odd else (360, 640)
        found[name] = Case(partial(launches, direction, precision, window, channels, size), "bf16", slow)

    add("forward", "bf16", 8, slow=False)
    add("forward", "fp32", 8, slow=False)
    add("backward", "fp32", 8, slow=False)
    add("forward", "bf16", 8, odd=True)
    add("forward", "bf16", 8, channels=1)
    add("forward", "bf16", 5)
    for window in (16, 32):
        add("forward", "bf16", window)
    add("forward", "fp16", 8)
    add("forward", "fp32", 8, odd=True)
    add("backward", "bf16", 8)
    add("backward", "fp32", 5, odd=True)
    return found


CASES = cases()

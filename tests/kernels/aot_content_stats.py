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


SIZES = {"": (360, 640), "/odd": (361, 641), "/pixel": (1, 1)}  # Triton compiles anew for even sizes, and for 1


def cases() -> dict[str, Case]:
    found = {}

    def add(direction: str, precision: str, window: int, channels: int = 3, size: str = "", slow: bool = True):
        name = f"content_stats/{direction}/{precision}/window{window}{'' if channels == 3 else '/luma'}{size}"
        # The precision of a case is that of its matrix products, and there are none.
        found[name] = Case(partial(launches, direction, precision, window, channels, SIZES[size]), "bf16", slow)

    add("forward", "bf16", 8, slow=False)
    add("forward", "fp32", 8)
    add("backward", "fp32", 8, slow=False)
    for size in ("/odd", "/pixel"):
        add("forward", "bf16", 8, size=size)
        add("forward", "fp32", 5, size=size)
        add("backward", "fp32", 5, size=size)
    for window in (16, 32):
        add("forward", "bf16", window)
    add("forward", "fp16", 8)
    add("forward", "bf16", 8, channels=1)
    add("backward", "bf16", 8)
    return found


CASES = cases()

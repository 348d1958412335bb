"""What `aot.py` compiles of magic_resample."""

from functools import partial
from itertools import product
from typing import Any

from aot import Case

LAYOUTS = {"nchw3": (3, False), "nhwc3": (3, True), "nhwc64": (64, True)}
RATIOS = {"up2": 2, "up3": 3, "up4": 4, "up1.5": 1.5, "down2": 0.5}


def resize(
    shape: tuple[int, int, int, int], last: bool, scale: float, kernel: str, dtype: str, backward: bool, arch: int
) -> list[Any]:
    """The launches of one pass without gains over `meta` tensors; the same for every architecture."""
    import torch

    from sr_kernels.launch import collect
    from sr_kernels.magic_resample.backward import backward as backward_steps
    from sr_kernels.magic_resample.forward import forward as forward_steps

    names = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32, "uint8": torch.uint8}
    layout = torch.channels_last if last else torch.contiguous_format

    def empty(size: tuple[int, ...]) -> Any:
        return torch.empty(size, dtype=names[dtype], device="meta", memory_format=layout)

    x, size = empty(shape), (round(shape[2] * scale), round(shape[3] * scale))
    if backward:
        return collect(backward_steps(empty((*shape[:2], *size)), x, None, None, kernel))
    return collect(forward_steps(x, None, None, size, kernel))


def cases() -> dict[str, Case]:
    found = {}
    for ratio, layout, direction, dtype in product(
        RATIOS, LAYOUTS, ("forward", "backward"), ("bf16", "fp16", "fp32", "uint8")
    ):
        if direction == "backward" and dtype == "uint8":
            continue
        channels, last = LAYOUTS[layout]
        launches = partial(
            resize, (1, channels, 1080, 1920), last, RATIOS[ratio], "mks2021", dtype, direction == "backward"
        )
        name = f"magic_resample/{ratio}/{layout}/{direction}/{dtype}"
        found[name] = Case(launches, "ieee" if dtype == "fp32" else dtype, slow=dtype != "bf16")
    return found


CASES = cases()

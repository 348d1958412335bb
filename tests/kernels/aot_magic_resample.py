"""What `aot.py` compiles of magic_resample."""

from functools import partial
from itertools import product
from typing import Any

from aot import Case

LAYOUTS = {"nchw3": (3, False), "nhwc3": (3, True), "nhwc64": (64, True)}
RATIOS = {"up2": 2, "up3": 3, "up4": 4, "up1.5": 1.5, "down2": 0.5}
# Compiled by default: one of each way that results lie in lanes, and of two launches.
DEFAULT = {("up2", "nchw3"), ("up2", "nhwc3"), ("up2", "nhwc64"), ("down2", "nchw3")}


def resize(channels: int, last: bool, scale: float, dtype: str, direction: str, bent: bool, arch: int) -> list[Any]:
    """The launches of one pass from or to 1080 x 1920 over `meta` tensors; the same for every architecture.

    `bent`: with a correction of the learned form that is added, or pulled back, in the same launch.
    """
    import torch

    from sr_kernels.launch import collect
    from sr_kernels.magic_resample import fused
    from sr_kernels.magic_resample.backward import backward
    from sr_kernels.magic_resample.forward import forward

    kinds = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32, "uint8": torch.uint8}
    layout = torch.channels_last if last else torch.contiguous_format

    def empty(height: int, width: int, kind: Any = kinds[dtype]) -> Any:
        return torch.empty(1, channels, height, width, dtype=kind, device="meta", memory_format=layout)

    size = (round(1080 * scale), round(1920 * scale))
    x, out = empty(1080, 1920), empty(*size)
    wide = [empty(1080, 1920, torch.float32) for _ in range(2)]
    match direction, bent:
        case "forward", False:
            return collect(forward(x, None, None, size, "mks2021"))
        case "forward", True:
            return [fused.upscaled(x, wide[0], out, "mks2021", layout)]
        case "backward", False:
            return collect(backward(out, x, None, None, "mks2021"))
    return [fused.transposed(out, wide[0], wide[1], "mks2021", layout)]


def cases() -> dict[str, Case]:
    found = {}
    kinds = ("bf16", "fp16", "fp32", "uint8")
    for ratio, layout, direction, dtype, bent in product(
        RATIOS, LAYOUTS, ("forward", "backward"), kinds, (False, True)
    ):
        if (dtype == "uint8" and direction == "backward") or (bent and RATIOS[ratio] not in (2, 3, 4)):
            continue
        launches = partial(resize, *LAYOUTS[layout], RATIOS[ratio], dtype, direction, bent)
        name = f"magic_resample/{ratio}/{layout}/{direction}{'/bent' if bent else ''}/{dtype}"
        slow = bent or dtype != "bf16" or (ratio, layout) not in DEFAULT
        found[name] = Case(launches, dtype, slow)
    return found


CASES = cases()

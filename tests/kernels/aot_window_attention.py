"""Launches of window attention that are compiled ahead of time: the shapes of known networks."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from itertools import product
from typing import Any

from aot import PRECISIONS, Case


@dataclass(frozen=True)
class Shape:
    """A shape class of window attention, as a network has it; `windows` are arguments of `Windows`."""

    heads: int
    head_dim: int
    shift: int | tuple[int, int] | None
    windows: dict[str, Any]
    map: int = 64
    cosine: bool = False


SHAPES = {
    "swinir_light": Shape(6, 10, 4, {"size": 8}),
    "swinir": Shape(6, 30, 4, {"size": 8}),
    "swin2sr": Shape(6, 30, 4, {"size": 8}, cosine=True),
    "swin": Shape(4, 32, 3, {"size": 7}, map=56),
    "swin_token": Shape(4, 32, 3, {"size": 7, "outside": "token"}, map=60),
    "maxvit_grid": Shape(4, 32, None, {"size": 8, "layout": "grid"}),
    "hat": Shape(6, 30, 8, {"size": 16}),
    "hat_ocab": Shape(6, 30, None, {"size": 16, "keys": 24, "key_offset": -4, "outside": "zero"}),
    "dat": Shape(3, 30, (4, 16), {"size": (8, 32), "multiple": 32, "outside": "zero", "order": "pad_roll"}, map=72),
    "srformer": Shape(6, 30, 12, {"size": 24, "key_step": 12, "penalty": 0.0}, map=48),
    "esc": Shape(4, 16, None, {"size": 32}),
    "drct_53": Shape(4, 53, 8, {"size": 16}),
    "drct_122": Shape(2, 122, 8, {"size": 16}),
}


def window_attention(shape: Shape, shifted: bool, precision: str, backward: bool, arch: int) -> list[Any]:
    """The launches of one call on `meta` tensors: its forward, or what its training adds to that."""
    import torch

    from sr_kernels.window_attention.arguments import Problem
    from sr_kernels.window_attention.backward import backward as backward_steps
    from sr_kernels.window_attention.forward import forward as forward_steps
    from sr_kernels.window_attention.windows import Windows

    windows = Windows(shift=(shape.shift or 0) if shifted else 0, **shape.windows)
    dtype = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(precision, torch.float32)
    d, C = shape.head_dim, shape.heads * shape.head_dim

    def empty(*size: int, dtype: Any = dtype) -> Any:
        return torch.empty(size, dtype=dtype, device="meta")

    maps = [empty(4, shape.map, shape.map, 3 * C)]
    if windows.key_step != windows.size:
        keys = shape.map * windows.key_step[0] // windows.size[0]
        maps = [empty(4, side, side, shape.heads, d) for side in (shape.map, keys, keys)]
    bias = empty(windows.table_rows, shape.heads, dtype=torch.float32)
    scale = empty(shape.heads, dtype=torch.float32) if shape.cosine else None
    token = empty(3 * C) if windows.outside == "token" else None
    tf32 = precision if dtype == torch.float32 else "auto"
    problem = Problem.of(maps, shape.heads, bias, scale, token, d**-0.5, windows, tf32, training=backward, arch=arch)
    grad = empty(4, shape.map, shape.map, C)

    def steps() -> Iterator[Any]:
        out, lse = yield from forward_steps(problem)
        if backward:
            yield from backward_steps(problem, grad, out, lse, packed=len(maps) == 1, need_bias=True)

    launches = list(steps())
    return launches[1:] if backward and problem.whole else launches  # its forward is that of inference


def full_tile(launch: Any) -> bool:
    """Whether the tile of scores is one that wgmma takes: 64 rows or more, 4 warps or more, not plain FMAs."""
    rows = launch.constants.get("BN" if launch.kernel.__name__ == "keys_backward" else "BM", 0)  # the former transposes
    return rows >= 64 and launch.options["num_warps"] >= 4 and launch.constants["PRECISION"] != "ieee"


def cases() -> dict[str, Case]:
    found = {}
    for name, direction, shifted, precision in product(SHAPES, ("forward", "backward"), (True, False), PRECISIONS):
        shape = SHAPES[name]
        if shifted and shape.shift is None:
            continue
        fast = precision == "bf16" or (precision == "tf32x3" and name in ("swinir", "hat"))
        slow = not fast or shifted != (shape.shift is not None) or name in ("swin_token", "maxvit_grid")
        launches = partial(window_attention, shape, shifted, precision, direction == "backward")
        label = f"window_attention/{name}/{direction}/{'shifted' if shifted else 'plain'}/{precision}"
        found[label] = Case(launches, precision, slow, full_tile)
    return found


CASES = cases()

"""The shapes that are swept: what of each operation runs on what, on a CUDA device or on `meta` tensors."""

from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor

Pass = Callable[[], Generator[Any, None, Any]]
"""Starts the launches of one pass anew; what the generator returns holds the results."""

DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}
RESAMPLER = "mks2021"


@dataclass(frozen=True)
class Place:
    """Where tensors lie and of what type; `arch` is the compute capability times 10, which `meta` tensors lack."""

    device: str
    dtype: torch.dtype
    arch: int

    def tensor(self, *size: int, dtype: torch.dtype | None = None, last: bool = False) -> Tensor:
        """0..1 at random; `last`: channels lie side by side."""
        x = torch.rand(size, device=self.device).to(dtype or self.dtype)
        return x.contiguous(memory_format=torch.channels_last) if last else x

    def finish(self, steps: Generator[Any, None, Any], see: Callable[[Any], None] = lambda _: None) -> Any:
        """What a pass returns, its launches run if there is a device to run them on; `see` gets every launch."""
        try:
            while True:
                launch = next(steps)
                see(launch)
                if self.device != "meta":
                    launch.run()
        except StopIteration as stop:
            return stop.value


@dataclass(frozen=True)
class Shape:
    """`passes(place, *values)` makes the passes by name."""

    op: str
    name: str
    passes: Callable[..., dict[str, Pass]] = field(repr=False, compare=False)
    values: tuple[Any, ...] = field(compare=False)

    def at(self, place: Place) -> dict[str, Pass]:
        torch.manual_seed(0)
        return self.passes(place, *self.values)


def window_attention(place: Place, windows: dict[str, Any], heads: int, d: int, side: int) -> dict[str, Pass]:
    from sr_kernels.window_attention.arguments import Problem
    from sr_kernels.window_attention.backward import backward
    from sr_kernels.window_attention.forward import forward
    from sr_kernels.window_attention.windows import Windows

    cut = Windows(**windows)
    qkv = place.tensor(1, side, side, 3 * heads * d) * 2 - 1
    table = place.tensor(cut.table_rows, heads, dtype=torch.float32)
    inference, training = (
        Problem.of([qkv], heads, table, None, None, d**-0.5, cut, "auto", training=training, arch=place.arch)
        for training in (False, True)
    )
    out, lse = place.finish(forward(training))
    grad = place.tensor(*out.shape) * 2 - 1
    passes: dict[str, Pass] = {"forward": partial(forward, inference)}
    if inference.whole != training.whole:
        passes["training forward"] = partial(forward, training)
    passes["backward"] = partial(backward, training, grad, out, lse, packed=True, need_bias=True)
    return passes


def magic_resample(
    place: Place, size: tuple[int, int, int], scale: float, last: bool, learned: str | None
) -> dict[str, Pass]:
    from sr_kernels.magic_resample.backward import backward
    from sr_kernels.magic_resample.forward import forward

    C, H, W = size
    target = round(H * scale), round(W * scale)
    x, grad = place.tensor(1, C, H, W, last=last), place.tensor(1, C, *target, last=last)
    stencils = learned == "stencils"
    gains = place.tensor(1, 12 if stencils else 6, H, W, dtype=torch.float32) if learned else None
    basis = place.tensor(12, 5, 5, dtype=torch.float32) if stencils else None
    return {
        "forward": partial(forward, x, gains, basis, target, RESAMPLER),
        "backward": partial(backward, grad, x, gains, basis, RESAMPLER),
    }


def content_stats(place: Place, B: int, H: int, W: int, window: int) -> dict[str, Pass]:
    from sr_kernels.content_stats.backward import backward
    from sr_kernels.content_stats.forward import forward
    from sr_kernels.content_stats.tiling import Picture

    x = place.tensor(B, 3, H, W)
    results = place.finish(forward(Picture(x), window))
    grads = [place.tensor(*t.shape) for t in results]
    return {
        "forward": partial(forward, Picture(x), window),
        "backward": partial(backward, *grads, Picture(x), window),
    }


def channel_attention(place: Place, heads: int, d: int, layout: str, side: int) -> dict[str, Pass]:
    from sr_kernels.channel_attention import backward, forward

    channels = 3 * heads * d
    size = (1, side, side, channels) if layout == "nhwc" else (1, channels, side, side)
    qkv = [place.tensor(*size) * 2 - 1]
    temperature = place.tensor(heads, 1, 1, dtype=torch.float32)

    def planned(plan: Callable[..., tuple[Any, list[Any]]], *given: Any) -> Generator[Any, None, Any]:
        results, launches = plan(*given, heads, layout, "auto")
        yield from launches
        return results

    out, *small = place.finish(planned(forward.plan, qkv, temperature))
    grad = place.tensor(*out.shape) * 2 - 1
    return {
        "forward": partial(planned, forward.plan, qkv, temperature),
        "backward": partial(planned, backward.plan, grad, qkv, temperature, *small),
    }


def _windows(name: str, heads: int, d: int, side: int, **windows: Any) -> Shape:
    return Shape("window_attention", name, window_attention, (windows, heads, d, side))


def _resample(name: str, size: tuple[int, int, int], scale: float, last: bool = False, learned: str = "") -> Shape:
    return Shape("magic_resample", name, magic_resample, (size, scale, last, learned or None))


# What networks and pictures of today need most comes first: that is what a short sweep gets to.
SHAPES = (
    _windows("swinir", 6, 30, 256, size=8, shift=4),
    _resample("up2_1080p", (3, 1080, 1920), 2),
    Shape("content_stats", "stats_1080p", content_stats, (1, 1080, 1920, 8)),
    _windows("hat", 6, 30, 256, size=16, shift=8),
    _windows("light", 6, 10, 256, size=8, shift=4),
    Shape("channel_attention", "restormer", channel_attention, (1, 48, "nchw", 256)),
    _resample("up4_540p", (3, 540, 960), 4),
    _resample("down_4k", (3, 2160, 3840), 0.5),
    _windows("ocab", 6, 30, 256, size=16, keys=24, key_offset=-4, outside="zero"),
    _windows("dat", 3, 30, 256, size=(8, 32), shift=(4, 16)),
    Shape("content_stats", "stats_crops", content_stats, (16, 64, 64, 8)),
    _resample("stencils", (3, 540, 960), 2, learned="stencils"),
    _resample("nhwc64", (64, 270, 480), 2, last=True),
    Shape("channel_attention", "dat_channels", channel_attention, (6, 30, "nhwc", 256)),
    _windows("swin", 6, 32, 252, size=7, shift=3),
    _resample("lags", (3, 540, 960), 2, learned="lags"),
    _resample("stencils64", (64, 270, 480), 2, last=True, learned="stencils"),
    Shape("content_stats", "stats_320x180", content_stats, (1, 180, 320, 8)),
    _windows("w12d64", 3, 64, 252, size=12, shift=6),
    _windows("wide", 2, 122, 128, size=16, shift=8),
    _resample("lags64", (64, 270, 480), 2, last=True, learned="lags"),
    Shape("channel_attention", "wide_channels", channel_attention, (2, 96, "nhwc", 256)),
)
OPS = tuple(dict.fromkeys(shape.op for shape in SHAPES))


def named(names: list[str]) -> list[Shape]:
    """The shapes of these operations and of these names; all without any. Raises ValueError with one sentence."""
    known = {*OPS, *(shape.name for shape in SHAPES)}
    if unknown := [name for name in names if name not in known]:
        places = ", ".join(shape.name for shape in SHAPES)
        raise ValueError(
            f"no operation or shape named {', '.join(unknown)}; operations: {', '.join(OPS)}; shapes: {places}"
        )
    ops, shapes = set(names) & set(OPS), set(names) - set(OPS)
    return [
        shape
        for shape in SHAPES
        if not names or shape.name in shapes or (shape.op in ops and not _narrowed(shape.op, shapes))
    ]


def _narrowed(op: str, names: set[str]) -> bool:
    """Whether shapes of this operation are named one by one."""
    return any(shape.op == op and shape.name in names for shape in SHAPES)

"""Ahead-of-time cases of the learned part of magic_resample: `cases()` for the registry of aot.py."""

from functools import partial
from itertools import product
from typing import Any

from aot import Case

KERNEL = "mks2021"
STENCILS = {"stencils": (12, 5), "stencils_7x7": (24, 7)}  # number, side: those of the generator and of `resampler`


def launches(direction: str, form: str, shared: bool, dtype: str, layout: str, channels: int, arch: int) -> list[Any]:
    """The launches of one call on `meta` tensors; they are the same for all architectures."""
    import torch

    from sr_kernels.launch import collect
    from sr_kernels.magic_resample import bend, bend_backward

    B, H, W = 2, 96, 80

    def picture(kind: Any) -> torch.Tensor:
        x = torch.empty(B, channels, H, W, dtype=kind, device="meta")
        return x.contiguous(memory_format=torch.channels_last if layout == "channels_last" else torch.contiguous_format)

    count, side = STENCILS.get(form, (6, 0))
    basis = torch.empty(count, side, side, device="meta") if form in STENCILS else None
    gains = torch.empty(B, count, *((1, 1) if shared else (H, W)), device="meta")
    x = picture(getattr(torch, dtype))
    if direction == "forward":
        return collect(bend.correction(x, gains, KERNEL, basis))
    return collect(bend_backward.gradients(picture(torch.float32), x, gains, KERNEL, basis, dx=picture(torch.float32)))


def cases() -> dict[str, Case]:
    found = {}
    for direction, form, shared, dtype, (layout, channels) in product(
        ("forward", "backward"),
        (*STENCILS, "lags"),
        (False, True),
        ("bfloat16", "float32"),
        (("nchw", 3), ("channels_last", 3), ("channels_last", 64)),
    ):
        label = f"{form}/{'shared' if shared else 'per_pixel'}/{layout}_{channels}/{dtype}"
        # Three interleaved channels compile to the same as planes: strides are not specialised.
        usual = (layout, channels, dtype) == ("nchw", 3, "float32")
        if form == "stencils_7x7" and not usual:
            continue
        slow = not usual or (shared and form != "stencils")
        found[f"magic_resample/learned/{direction}/{label}"] = Case(
            partial(launches, direction, form, shared, dtype, layout, channels),
            "bf16" if dtype == "bfloat16" else "fp32",
            slow,
        )
    return found


CASES = cases()

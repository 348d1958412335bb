"""`magic_resample`: the public door, its checks and the choice of implementation."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from sr_kernels.check import FLOATS, expect_same_device, expect_tensor, fail
from sr_kernels.dispatch import Impl, exporting, resolve
from sr_kernels.magic_resample import fast, op, reference
from sr_kernels.magic_resample.filters import FILTERS

_OP = "magic_resample"


def magic_resample(
    x: Tensor,
    *,
    size: int | Sequence[int] | None = None,
    scale: float | Sequence[float] | None = None,
    kernel: str = "mks2021",
    gains: Tensor | None = None,
    basis: Tensor | None = None,
    impl: Impl = "auto",
) -> Tensor:
    """Resize pictures with Magic Kernel Sharp, up or down by any ratio, optionally with learned sharpening.

    Half-pixel centres, ratio n_in / n_out per axis, the kernel widened when downsizing. Taps outside the picture are
    dropped and the rest renormalised: Pillow's `Image.resize` in mode F, edges included. An axis that keeps its size
    is untouched, so equal sizes are the identity. Values may have any range and are not clipped: a step overshoots
    by up to 10 % (mks2021) or 14 % (mks2013).

    Learned form, `out = classical(x) + U(z(gains) - z(1))`: U is the plain magic kernel to the output size and z(g)
    sharpens on the input grid with replicated border, so gains of 1 equal `gains=None` exactly, and constants stay
    constant whatever the gains. With D_k x = (x[i-k] + x[i+k]) / 2 - x[i] along one axis:

    - default basis: z is the kernel's own sharpening, v = x + sum_k c_k gains[k] D_k x down the columns, then
      z = v + sum_k c_k gains[n + k] D_k v along the rows. G = 2n gains, first those of the vertical lags 1..n, then the
      horizontal: n = 1 for mks2013, 3 for mks2021 (c = -70/144, 12/144, -2/144), 7 for mks_v7. All 0 is `magic`.
    - basis given: z = x + sum_g gains[g] * (basis[g] correlated with x), so out = classical(x) +
      U(sum_g (gains[g] - 1) * (basis[g] correlated with x)). The centre tap is taken as minus the sum of the others.

    Bounding the gains is the caller's business; within [0, 2] the default basis overshoots a step by at most 31 %.

    Args:
        x: [B, C, H, W], float16, bfloat16, float32, float64 or uint8; contiguous or channels_last (others are copied
            by torch, and read as they lie by Triton). Weights and sums are float32 (float64 for float64). uint8 comes
            back rounded and clipped, without gradient.
        size: output (height, width) or one int for both; or
        scale: factor per axis or one for both; the size is max(1, round(n * scale)). Exactly one of the two.
        kernel: mks2021, mks2013, mks_v7, magic (quadratic B-spline), bicubic (a = -1/2), lanczos3.
        gains: [B or 1, G, H or 1, W or 1], floating point, shared by all channels.
        basis: [G, k, k] stencils, k odd; a constant: no gradient reaches it.
        impl: auto, torch, reference, or triton; see `sr_kernels.dispatch`. Triton serves every dtype but float64.

    Returns:
        [B, C, H', W'] in the dtype and memory format of `x`. Differentiable in x and gains; twice in eager mode.
        Bytes moved by a fused pass: x, gains and the output, each once. Triton fuses integer upscales; other ratios
        take a pass for each axis, with a float32 picture between them.

    Raises:
        TypeError: wrong type or dtype. ValueError: wrong shape, size, kernel or impl.
        sr_kernels.dispatch.ImplUnavailableError: the named implementation cannot run here.

    Source: J. Costella, Magic Kernel Sharp, johncostella.com/magic. The 2021 kernel's composite is a piecewise
    quadratic of 9 taps; it is not interpolating (off by at most 1.7e-3).
    """
    expect_tensor(_OP, "x", x, "B C H W", (*FLOATS, torch.uint8))
    if 0 in x.shape:
        fail(_OP, f"x [B C H W] must not be empty, got shape {tuple(x.shape)}")
    if kernel not in FILTERS:
        fail(_OP, f"kernel must be one of {', '.join(FILTERS)}, got {kernel!r}")
    target = _target_size(x, size, scale)
    if gains is None and basis is not None:
        fail(_OP, "basis was given without gains: give gains [B|1 G H|1 W|1], or leave basis out")
    if gains is not None:
        _check_gains(x, kernel, gains, basis)
    expect_same_device(_OP, x=x, gains=gains, basis=basis)

    obstacle = "float64 is computed by torch" if x.dtype == torch.float64 else None
    chosen = resolve(_OP, impl, x.device, obstacle)
    if exporting():
        # Here, not above: this module needs torch's compiler, which takes seconds to import.
        from sr_kernels.magic_resample import static

        return static.magic_resample(x, target, _integer_factor(x, target, scale), kernel, gains, basis)
    if chosen == "reference":
        return reference.magic_resample(x, target, kernel, gains, basis)
    # Eager autograd of torch goes through the plain functions, which differentiate any number of times. The registered
    # op serves Triton, torch.compile, and fake and meta tensors, which must not reach the cached weights.
    plain = type(x) in (Tensor, torch.nn.Parameter) and not x.is_meta
    if chosen == "triton" or torch.compiler.is_compiling() or not plain:
        return op.magic_resample(x, gains, basis, list(target), kernel, chosen)
    return fast.magic_resample(x, target, kernel, gains, basis)


def _target_size(x: Tensor, size: int | Sequence[int] | None, scale: float | Sequence[float] | None) -> tuple[int, int]:
    if (size is None) == (scale is None):
        fail(_OP, "give size (height, width) or scale, one of the two")
    if size is not None:
        height, width = _pair("size", size)
        if not all(isinstance(n, int | torch.SymInt) and n >= 1 for n in (height, width)):
            fail(_OP, f"size must be positive integers (height, width), got {size!r}")
        return height, width
    factors = _pair("scale", scale)
    if not all(isinstance(f, int | float) and 0 < f < float("inf") for f in factors):
        fail(_OP, f"scale must be positive and finite, got {scale!r}")
    return _scaled(x.shape[2], factors[0]), _scaled(x.shape[3], factors[1])


def _pair(name: str, value: Any) -> tuple[Any, Any]:
    if not isinstance(value, Sequence):
        return value, value
    if len(value) != 2:
        fail(_OP, f"{name} must be one number or (height, width), got {value!r}")
    return value[0], value[1]


def _scaled(n: int, factor: float) -> int:
    # Integers are multiplied as such: n may be symbolic under torch.compile and torch.export.
    return n * int(factor) if factor == int(factor) else max(1, round(n * factor))


def _integer_factor(x: Tensor, size: tuple[int, int], scale: float | Sequence[float] | None) -> int | None:
    """The one integer that both axes grow by, if there is one; symbolic sizes tell it only through `scale`."""
    if scale is not None:
        vertical, horizontal = _pair("scale", scale)
    elif all(type(n) is int for n in (*x.shape[2:], *size)):
        vertical, horizontal = size[0] / x.shape[2], size[1] / x.shape[3]
    else:
        return None
    return int(vertical) if vertical == horizontal == int(vertical) else None


def _check_gains(x: Tensor, kernel: str, gains: Tensor, basis: Tensor | None) -> None:
    B, _, H, W = x.shape
    expect_tensor(_OP, "gains", gains, "B|1 G H|1 W|1")
    if basis is None:
        count, source = 2 * len(FILTERS[kernel].lags), f"the lags of {kernel} (vertical, then horizontal)"
        if count == 0:
            fail(_OP, f"kernel {kernel!r} has no sharpening to bend: give a basis [G k k], or use mks2021")
    else:
        expect_tensor(_OP, "basis", basis, "G k k")
        count, source = basis.shape[0], "the stencils of basis"
        if basis.shape[1] != basis.shape[2] or basis.shape[1] % 2 == 0 or count == 0:
            fail(_OP, f"basis must hold square stencils of odd size [G k k], got shape {tuple(basis.shape)}")
        if basis.requires_grad:
            fail(_OP, "basis is a constant, no gradient reaches it: pass basis.detach(), and learn the gains")
    if gains.shape[1] != count:
        fail(_OP, f"gains must have {count} channels (axis 1), one for each of {source}, got {gains.shape[1]}")
    for axis, n in ((0, B), (2, H), (3, W)):
        if gains.shape[axis] not in (1, n):
            expected = f"[{B} or 1, {count}, {H} or 1, {W} or 1]"
            fail(_OP, f"gains must be {expected} for x of shape {tuple(x.shape)}, got {tuple(gains.shape)}")

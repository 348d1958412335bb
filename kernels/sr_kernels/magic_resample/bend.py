"""The learned part of magic_resample in Triton: z(gains) - z(1) on the input grid.

Stencils are added up to one for each pixel before they meet the picture: with sum_g (gains_g - 1) t_gj at hand, tap j
of all channels takes one access each, not one for each stencil.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from sr_kernels.launch import Steps
from sr_kernels.magic_resample.bend_lags import lag_pass
from sr_kernels.magic_resample.bend_tiles import (
    Tiles,
    corner,
    offset,
    place,
    read,
    table,
    unspecialized,
    zeros,
)
from sr_kernels.magic_resample.filters import FILTERS
from sr_kernels.magic_resample.reference import memory_format

# pyright: reportPossiblyUnboundVariable=false, reportOperatorIssue=false, reportArgumentType=false, reportCallIssue=false
# pyright: reportIndexIssue=false, reportGeneralTypeIssues=false, reportAttributeAccessIssue=false
# ruff: noqa: RUF005 -- Triton has no starred expressions


def correction(x: Tensor, gains: Tensor, kernel: str, basis: Tensor | None) -> Steps[Tensor]:
    """z(gains) - z(1) of `x` [B C H W], float32 in the memory format of `x`; exactly 0 where gains are 1.

    Args:
        x: float16, bfloat16, float32 or uint8, of any strides.
        gains: [B|1 G H|1 W|1], any floating point type and strides.
        basis: [G k k], or None for the lags of `kernel`. Checked in api.py.
    """
    if basis is not None:
        return (yield from by_stencils(x, gains, basis.float().contiguous()))
    return (yield from by_lags(x, gains, FILTERS[kernel].lags))


def by_stencils(x: Tensor, gains: Tensor, basis: Tensor) -> Steps[Tensor]:
    """One launch; one more, for the sum of the stencils, where all pixels share their gains."""
    out = torch.empty_like(x, dtype=torch.float32, memory_format=memory_format(x))
    G, k, _ = basis.shape
    shared = gains.shape[2:] == (1, 1)
    weights, step = basis, 0
    if shared:
        weights, launch = table(basis, gains, classes=1)
        yield launch
        step = k * k if len(weights) > 1 else 0
    tiles = Tiles.of("stencils", x, G)
    yield tiles.launch(
        bend_by_stencils,
        {"x": x, "gains": gains, "out": out},
        {"taps": weights, "taps_b": step},
        {"G": G, "K": k, "SHARED": shared, "GROUP": tiles.group},
    )
    return out


def by_lags(x: Tensor, gains: Tensor, lags: tuple[float, ...]) -> Steps[Tensor]:
    """Two launches: down the columns, then along the rows."""
    layout = memory_format(x)
    bent, sharpened, out = (torch.empty_like(x, dtype=torch.float32, memory_format=layout) for _ in range(3))
    yield lag_pass(x, x, gains[:, : len(lags)], lags, True, steered=bent, total=sharpened)
    yield lag_pass(sharpened, bent, gains[:, len(lags) :], lags, False, steered=None, total=out)
    return out


@triton.jit(do_not_specialize=["taps_b", *unspecialized("x", "gains", "out")])
def bend_by_stencils(
    x, gains, taps, out,
    H, W,
    x_b, x_c, x_y, x_x,
    gains_b, gains_c, gains_y, gains_x,
    taps_b,
    out_b, out_c, out_y, out_x,
    C: tl.constexpr, G: tl.constexpr, K: tl.constexpr, PIXELS: tl.constexpr, COLUMNS: tl.constexpr,
    LANES: tl.constexpr, GROUP: tl.constexpr, SHARED: tl.constexpr,
):  # fmt: skip
    """out = sum_j w_j (x[i+j] - x[i]) over the K x K neighbours, w_j = sum_g (gains_g - 1) taps_gj.

    One program owns a tile of pixels of one picture, all channels. It reads the gains of its pixels once (with SHARED
    none: `taps` are already w_j), x at all neighbours (from memory once, from cache after that) and writes out once.
    More than LANES * GROUP channels are done in several rounds, each of which makes w_j anew.
    """
    picture, top, left, v, u = place(H, W, PIXELS, COLUMNS)
    channel = tl.arange(0, LANES)[None, :]
    masked: tl.constexpr = C % (LANES * GROUP) != 0
    first = taps + picture * taps_b
    excess = ()
    if not SHARED:
        gain = corner(gains, picture, top, left, gains_b, gains_y, gains_x)
        own = offset(v, u, top, left, H, W, gains_y, gains_x)
        for g in tl.static_range(G):
            excess = excess + (tl.load(gain + g * gains_c.to(tl.int64) + own).to(tl.float32) - 1,)
    source = corner(x, picture, top, left, x_b, x_y, x_x) + channel * x_c
    target = corner(out, picture, top, left, out_b, out_y, out_x) + channel * out_c
    x_m, out_m = LANES * x_c.to(tl.int64), LANES * out_c.to(tl.int64)
    for c in range(0, C, LANES * GROUP):
        centres, totals = (), zeros(GROUP, PIXELS, LANES)
        own = offset(v, u, top, left, H, W, x_y, x_x)
        for m in tl.static_range(GROUP):
            centres = centres + (read(source + m * x_m + own, c + m * LANES + channel < C, masked),)
        for dv in range(K):
            for du in tl.static_range(K):
                if SHARED:
                    weight = tl.load(first + dv * K + du)
                else:
                    weight = tl.zeros((PIXELS, 1), tl.float32)
                    for g in tl.static_range(G):
                        weight += excess[g] * tl.load(first + g * (K * K) + dv * K + du)
                at = offset(v + (dv - K // 2), u + (du - K // 2), top, left, H, W, x_y, x_x)
                sums = ()
                for m in tl.static_range(GROUP):
                    there = read(source + m * x_m + at, c + m * LANES + channel < C, masked)
                    sums = sums + (totals[m] + weight * (there - centres[m]),)
                totals = sums
        own = offset(v, u, top, left, H, W, out_y, out_x)
        for m in tl.static_range(GROUP):
            keep = (v < H) & (u < W) & (c + m * LANES + channel < C)
            tl.store(target + m * out_m + own, totals[m], keep)
        source += GROUP * x_m
        target += GROUP * out_m

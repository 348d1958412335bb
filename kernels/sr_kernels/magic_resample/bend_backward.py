"""Gradients of the learned part of magic_resample in Triton: gathers, sums in a fixed order, no atomics."""

import torch
import triton
import triton.language as tl
from torch import Tensor

from sr_kernels.launch import Steps
from sr_kernels.magic_resample.bend_lags import lag_pass, transposed_lag_pass
from sr_kernels.magic_resample.bend_tiles import (
    Tiles,
    corner,
    inside,
    offset,
    place,
    read,
    table,
    unspecialized,
    zeros,
)
from sr_kernels.magic_resample.filters import FILTERS

# pyright: reportPossiblyUnboundVariable=false, reportOperatorIssue=false, reportArgumentType=false, reportCallIssue=false
# pyright: reportIndexIssue=false, reportGeneralTypeIssues=false, reportAttributeAccessIssue=false
# ruff: noqa: RUF005 -- Triton has no starred expressions


def gradients(dbend: Tensor, x: Tensor, gains: Tensor, kernel: str, basis: Tensor | None, dx: Tensor) -> Steps[Tensor]:
    """The gradient of `gains`, in its shape and type; what reaches `x` is added to `dx`.

    Args:
        dbend: gradient of the correction, float32 [B C H W], any strides.
        x, gains, kernel, basis: as in `bend.correction`.
        dx: float32 [B C H W], any strides.
    """
    if basis is not None:
        return (yield from by_stencils(dbend, x, gains, basis.float().contiguous(), dx))
    return (yield from by_lags(dbend, x, gains, FILTERS[kernel].lags, dx))


def by_stencils(dbend: Tensor, x: Tensor, gains: Tensor, basis: Tensor, dx: Tensor) -> Steps[Tensor]:
    """Three launches, of which the first is tiny."""
    G, k, _ = basis.shape
    shared = gains.shape[2:] == (1, 1)
    weights, launch = table(basis, gains if shared else None, classes=16)
    yield launch
    tiles = Tiles.of("stencils_to_input", x, G)
    yield tiles.launch(
        stencils_to_input,
        {"dbend": dbend, "gains": gains, "dx": dx},
        {"taps": weights, "taps_b": weights.stride(0) if shared and len(weights) > 1 else 0},
        {"G": G, "K": k, "SHARED": shared, "GROUP": tiles.group},
    )
    tiles = Tiles.of("stencils_to_gains", x, G)
    dgains = gains_gradient(x, gains, tiles)
    yield tiles.launch(
        stencils_to_gains,
        {"dbend": dbend, "x": x, "dgains": dgains},
        {"taps": basis},
        {"G": G, "K": k, "SHARED": shared, "GROUP": tiles.group},
    )
    return reduced(dgains, gains)


def by_lags(dbend: Tensor, x: Tensor, gains: Tensor, lags: tuple[float, ...], dx: Tensor) -> Steps[Tensor]:
    """Three launches: the columns of the correction anew, then back along the rows and the columns."""
    n = len(lags)
    sharpened, steered, total = (torch.empty_like(x, dtype=torch.float32) for _ in range(3))
    yield lag_pass(x, x, gains[:, :n], lags, True, steered=None, total=sharpened)
    tiles = Tiles.of("transposed_lags", x, n)
    dgains = gains_gradient(x, gains, tiles)
    yield transposed_lag_pass(
        dbend, dbend, sharpened, gains[:, n:], lags, False,
        steered=steered, total=total, add=False, dgains=dgains[:, n:], tiles=tiles,
    )  # fmt: skip
    yield transposed_lag_pass(
        total, steered, x, gains[:, :n], lags, True,
        steered=None, total=dx, add=True, dgains=dgains[:, :n], tiles=tiles,
    )  # fmt: skip
    return reduced(dgains, gains)


def gains_gradient(x: Tensor, gains: Tensor, tiles: Tiles) -> Tensor:
    """Memory for it: [B G tiles 1] where all pixels share their gains, else [B G H W]; float32 if sums follow."""
    B, _, H, W = x.shape
    G = gains.shape[1]
    if gains.shape[2:] == (1, 1):
        return torch.empty(B, G, tiles.count, 1, dtype=torch.float32, device=x.device)
    final = gains.shape == (B, G, H, W)
    return torch.empty(B, G, H, W, dtype=gains.dtype if final else torch.float32, device=x.device)


def reduced(dgains: Tensor, gains: Tensor) -> Tensor:
    """Summed over whatever a gain is shared by, in the shape and type of `gains`."""
    if gains.shape[2:] == (1, 1):
        dgains = dgains.sum(2, keepdim=True)
    return dgains.sum_to_size(gains.shape).to(gains.dtype)


@triton.jit(do_not_specialize=["taps_b", *unspecialized("dbend", "gains", "dx")])
def stencils_to_input(
    dbend, gains, taps, dx,
    H, W,
    dbend_b, dbend_c, dbend_y, dbend_x,
    gains_b, gains_c, gains_y, gains_x,
    taps_b,
    dx_b, dx_c, dx_y, dx_x,
    C: tl.constexpr, G: tl.constexpr, K: tl.constexpr, PIXELS: tl.constexpr, COLUMNS: tl.constexpr,
    LANES: tl.constexpr, GROUP: tl.constexpr, SHARED: tl.constexpr,
):  # fmt: skip
    """dx[p] += sum_j w_j dbend[p-j], w_j = sum_g (gains_g[p-j] - 1) taps_gj; with SHARED, `taps` are already w_j.

    One program owns a tile of pixels of one picture, all channels. It reads gains and dbend of its neighbours (from
    memory once, from cache after that) and updates dx once. `taps` are those of the class of each pixel: what a
    replicated border would receive, its edge does (`bend_tiles.fold`). More than LANES * GROUP channels are done in
    several rounds, each of which makes w_j anew.
    """
    picture, top, left, v, u = place(H, W, PIXELS, COLUMNS)
    channel = tl.arange(0, LANES)[None, :]
    vertical = (v == 0).to(tl.int32) + 2 * (v == H - 1).to(tl.int32)
    horizontal = (u == 0).to(tl.int32) + 2 * (u == W - 1).to(tl.int32)
    first = taps + picture * taps_b + (4 * vertical + horizontal) * (K * K)
    gain = corner(gains, picture, top, left, gains_b, gains_y, gains_x)
    source = corner(dbend, picture, top, left, dbend_b, dbend_y, dbend_x) + channel * dbend_c
    target = corner(dx, picture, top, left, dx_b, dx_y, dx_x) + channel * dx_c
    dbend_m, dx_m = LANES * dbend_c.to(tl.int64), LANES * dx_c.to(tl.int64)
    for c in range(0, C, LANES * GROUP):
        totals = zeros(GROUP, PIXELS, LANES)
        for dv in range(K):
            for du in tl.static_range(K):
                y, x = v - (dv - K // 2), u - (du - K // 2)
                if SHARED:
                    weight = tl.load(first + dv * K + du)
                else:
                    at = offset(y, x, top, left, H, W, gains_y, gains_x)
                    weight = tl.zeros((PIXELS, 1), tl.float32)
                    for g in tl.static_range(G):
                        there = tl.load(gain + g * gains_c.to(tl.int64) + at).to(tl.float32)
                        weight += (there - 1) * tl.load(first + g * (16 * K * K) + dv * K + du)
                at = offset(y, x, top, left, H, W, dbend_y, dbend_x)
                sums = ()
                for m in tl.static_range(GROUP):
                    used = inside(y, x, H, W) & (c + m * LANES + channel < C)
                    sums = sums + (totals[m] + weight * tl.load(source + m * dbend_m + at, used, 0.0),)
                totals = sums
        own = offset(v, u, top, left, H, W, dx_y, dx_x)
        for m in tl.static_range(GROUP):
            keep, at = (v < H) & (u < W) & (c + m * LANES + channel < C), target + m * dx_m + own
            tl.store(at, tl.load(at, keep, 0.0) + totals[m], keep)
        source += GROUP * dbend_m
        target += GROUP * dx_m


@triton.jit(do_not_specialize=unspecialized("dbend", "x", "dgains"))
def stencils_to_gains(
    dbend, x, taps, dgains,
    H, W,
    dbend_b, dbend_c, dbend_y, dbend_x,
    x_b, x_c, x_y, x_x,
    dgains_b, dgains_c, dgains_y, dgains_x,
    C: tl.constexpr, G: tl.constexpr, K: tl.constexpr, PIXELS: tl.constexpr, COLUMNS: tl.constexpr,
    LANES: tl.constexpr, GROUP: tl.constexpr, SHARED: tl.constexpr,
):  # fmt: skip
    """dgains_g[i] = sum_j taps_gj m_j, m_j = sum over channels of dbend[i] (x[i+j] - x[i]).

    One program owns a tile of pixels of one picture, all channels: it reads dbend once, x at all neighbours (from
    memory once, from cache after that) and writes dgains once; with SHARED, one sum for each tile.
    """
    picture, top, left, v, u = place(H, W, PIXELS, COLUMNS)
    channel = tl.arange(0, LANES)[None, :]
    masked: tl.constexpr = C % (LANES * GROUP) != 0
    source = corner(x, picture, top, left, x_b, x_y, x_x) + channel * x_c
    gradient = corner(dbend, picture, top, left, dbend_b, dbend_y, dbend_x) + channel * dbend_c
    x_m, dbend_m = LANES * x_c.to(tl.int64), LANES * dbend_c.to(tl.int64)
    totals = zeros(G, PIXELS, LANES)
    for c in range(0, C, LANES * GROUP):
        own, own_gradient = offset(v, u, top, left, H, W, x_y, x_x), offset(v, u, top, left, H, W, dbend_y, dbend_x)
        centres, pulls = (), ()
        for m in tl.static_range(GROUP):
            used = c + m * LANES + channel < C
            centres = centres + (read(source + m * x_m + own, used, masked),)
            pulls = pulls + (tl.load(gradient + m * dbend_m + own_gradient, (v < H) & (u < W) & used, 0.0),)
        for dv in range(K):
            for du in tl.static_range(K):
                at = offset(v + (dv - K // 2), u + (du - K // 2), top, left, H, W, x_y, x_x)
                moment = tl.zeros((PIXELS, LANES), tl.float32)
                for m in tl.static_range(GROUP):
                    there = read(source + m * x_m + at, c + m * LANES + channel < C, masked)
                    moment += pulls[m] * (there - centres[m])
                sums = ()
                for g in tl.static_range(G):
                    sums = sums + (totals[g] + tl.load(taps + g * (K * K) + dv * K + du) * moment,)
                totals = sums
        source += GROUP * x_m
        gradient += GROUP * dbend_m
    if SHARED:
        tiles = tl.cdiv(W, COLUMNS) * tl.cdiv(H, PIXELS // COLUMNS)
        dgain = dgains + picture.to(tl.int64) * dgains_b + tl.program_id(0) % tiles * dgains_y
        for g in tl.static_range(G):
            tl.store(dgain + g * dgains_c, tl.sum(tl.sum(totals[g], 1), 0))
    else:
        dgain = corner(dgains, picture, top, left, dgains_b, dgains_y, dgains_x)
        own = offset(v, u, top, left, H, W, dgains_y, dgains_x)
        for g in tl.static_range(G):
            total = tl.sum(totals[g], 1)[:, None].to(dgains.dtype.element_ty)
            tl.store(dgain + g * dgains_c.to(tl.int64) + own, total, (v < H) & (u < W))

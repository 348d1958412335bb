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
    spans,
    table,
    unspecialized,
    zeros,
)
from sr_kernels.magic_resample.filters import FILTERS

# pyright: reportPossiblyUnboundVariable=false, reportOperatorIssue=false, reportArgumentType=false, reportCallIssue=false
# pyright: reportIndexIssue=false, reportGeneralTypeIssues=false, reportAttributeAccessIssue=false


def gradients(
    dbend: Tensor, x: Tensor, gains: Tensor, kernel: str, basis: Tensor | None, dx: Tensor
) -> Steps[Tensor]:
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
    """Three launches for stencils of up to 7 x 7."""
    G, k, _ = basis.shape
    shared = gains.shape[2:] == (1, 1)
    weights, launch = table(basis, gains if shared else None, classes=16)
    yield launch
    step = weights.stride(0) if shared and len(weights) > 1 else 0
    tiles = Tiles.of(x, per_thread=1)
    for row, rows in spans(k):
        yield tiles.launch(
            stencils_to_input,
            {"dbend": dbend, "gains": gains, "dx": dx},
            {"taps": weights, "taps_b": step, "row": row},
            {"G": G, "K": k, "ROWS": rows, "SHARED": shared},
        )
    tiles = Tiles.of(x, per_thread=4 if k <= 5 else 2)
    parts = spans(k)
    dgains = gains_gradient(x, gains, k * k if shared else G, tiles, whole=len(parts) == 1)
    for row, rows in parts:
        yield tiles.launch(
            stencils_to_gains,
            {"dbend": dbend, "x": x, "dgains": dgains},
            {"taps": basis, "row": row},
            {"G": G, "K": k, "ROWS": rows, "SHARED": shared, "ADD": row > 0},
        )
    if shared:
        moments = dgains.sum((2, 3))
        dgains = (moments.unsqueeze(1) * basis.flatten(1)).sum(2)[:, :, None, None]
    return dgains.sum_to_size(gains.shape).to(gains.dtype)


def by_lags(dbend: Tensor, x: Tensor, gains: Tensor, lags: tuple[float, ...], dx: Tensor) -> Steps[Tensor]:
    """Three launches: the columns of the correction anew, then back along the rows and the columns."""
    n = len(lags)
    sharpened, steered, total = (torch.empty_like(x, dtype=torch.float32) for _ in range(3))
    yield lag_pass(x, x, gains[:, :n], lags, True, steered=None, total=sharpened)
    tiles = Tiles.of(x, per_thread=2 if n <= 3 else 1)
    dgains = gains_gradient(x, gains, 2 * n, tiles, whole=True)
    yield transposed_lag_pass(
        dbend, dbend, sharpened, gains[:, n:], lags, False,
        steered=steered, total=total, add=False, dgains=dgains[:, n:], tiles=tiles,
    )  # fmt: skip
    yield transposed_lag_pass(
        total, steered, x, gains[:, :n], lags, True,
        steered=None, total=dx, add=True, dgains=dgains[:, :n], tiles=tiles,
    )  # fmt: skip
    if gains.shape[2:] == (1, 1):
        dgains = dgains.sum((2, 3), keepdim=True)
    return dgains.sum_to_size(gains.shape).to(gains.dtype)


def gains_gradient(x: Tensor, gains: Tensor, count: int, tiles: Tiles, whole: bool) -> Tensor:
    """Memory for it: [B count tiles 1] where all pixels share their gains, else [B count H W].

    Float32 where terms are still to be added: by sharing, or, unless `whole`, by further launches.
    """
    B, _, H, W = x.shape
    if gains.shape[2:] == (1, 1):
        return torch.empty(B, count, tiles.count, 1, dtype=torch.float32, device=x.device)
    final = whole and gains.shape == (B, count, H, W)
    return torch.empty(B, count, H, W, dtype=gains.dtype if final else torch.float32, device=x.device)


@triton.jit(do_not_specialize=["row", "taps_b", *unspecialized("dbend", "gains", "dx")])
def stencils_to_input(
    dbend, gains, taps, dx,
    H, W, row,
    dbend_b, dbend_c, dbend_y, dbend_x,
    gains_b, gains_c, gains_y, gains_x,
    taps_b,
    dx_b, dx_c, dx_y, dx_x,
    C: tl.constexpr, G: tl.constexpr, K: tl.constexpr, ROWS: tl.constexpr, PIXELS: tl.constexpr, COLUMNS: tl.constexpr,
    LANES: tl.constexpr, SHARED: tl.constexpr,
):  # fmt: skip
    """dx[p] += sum_j w_j dbend[p-j], w_j = sum_g (gains_g[p-j] - 1) taps_gj, j in ROWS rows of K, from `row` on.

    One program owns a tile of pixels of one picture, all channels. It reads the gains of its neighbours (from memory
    once, from cache after that), then dbend there, and updates dx once. `taps` are those of the class of each pixel:
    what a replicated border would receive, its edge does (`bend_tiles.fold`).
    """
    picture, top, left = place(H, W, PIXELS, COLUMNS)
    i = tl.arange(0, PIXELS)[:, None]
    channel = tl.arange(0, LANES)[None, :]
    v, u = top + i // COLUMNS, left + i % COLUMNS
    vertical = (v == 0).to(tl.int32) + 2 * (v == H - 1).to(tl.int32)
    horizontal = (u == 0).to(tl.int32) + 2 * (u == W - 1).to(tl.int32)
    own_taps = (4 * vertical + horizontal) * (K * K)
    first = taps + picture * taps_b + row * K
    weights = zeros(ROWS * K, PIXELS, 1)
    if SHARED:
        weights = ()
        for j in tl.static_range(ROWS * K):
            weights = weights + (tl.load(first + own_taps + j),)
    else:
        gain = corner(gains, picture, top, left, gains_b, gains_y, gains_x)
        for _ in range(G):
            sums = ()
            for j in tl.static_range(ROWS * K):
                y, x = v - (row + j // K - K // 2), u - (j % K - K // 2)
                excess = tl.load(gain + offset(y, x, top, left, H, W, gains_y, gains_x)).to(tl.float32) - 1
                sums = sums + (weights[j] + excess * tl.load(first + own_taps + j),)
            weights = sums
            gain += gains_c
            first += 16 * K * K
    source = corner(dbend, picture, top, left, dbend_b, dbend_y, dbend_x) + channel * dbend_c
    target = corner(dx, picture, top, left, dx_b, dx_y, dx_x) + channel * dx_c
    own = (v - top) * dx_y + (u - left) * dx_x
    for c in range(0, C, LANES):
        used = c + channel < C
        total = tl.zeros((PIXELS, LANES), tl.float32)
        for j in tl.static_range(ROWS * K):
            y, x = v - (row + j // K - K // 2), u - (j % K - K // 2)
            at = source + ((y - top) * dbend_y + (x - left) * dbend_x)
            total += weights[j] * tl.load(at, inside(y, x, H, W) & used, 0.0)
        keep = (v < H) & (u < W) & used
        tl.store(target + own, tl.load(target + own, keep, 0.0) + total, keep)
        source += LANES * dbend_c
        target += LANES * dx_c


@triton.jit(do_not_specialize=["row", *unspecialized("dbend", "x", "dgains")])
def stencils_to_gains(
    dbend, x, taps, dgains,
    H, W, row,
    dbend_b, dbend_c, dbend_y, dbend_x,
    x_b, x_c, x_y, x_x,
    dgains_b, dgains_c, dgains_y, dgains_x,
    C: tl.constexpr, G: tl.constexpr, K: tl.constexpr, ROWS: tl.constexpr, PIXELS: tl.constexpr, COLUMNS: tl.constexpr,
    LANES: tl.constexpr, SHARED: tl.constexpr, ADD: tl.constexpr,
):  # fmt: skip
    """dgains_g[i] = (with ADD: +=) sum_j taps_gj m_j, m_j = sum over channels of dbend[i] (x[i+j] - x[i]).

    One program owns a tile of pixels of one picture, all channels: it reads dbend once, x at all neighbours (from
    memory once, from cache after that) and writes dgains once. With SHARED it writes sum over its pixels of m_j to
    `dgains` [B, K * K, tiles] instead: G numbers of a few sums are made of them later.
    """
    picture, top, left = place(H, W, PIXELS, COLUMNS)
    i = tl.arange(0, PIXELS)[:, None]
    channel = tl.arange(0, LANES)[None, :]
    v, u = top + i // COLUMNS, left + i % COLUMNS
    source = corner(x, picture, top, left, x_b, x_y, x_x) + channel * x_c
    gradient_at = corner(dbend, picture, top, left, dbend_b, dbend_y, dbend_x) + channel * dbend_c
    gradient_at += (v - top) * dbend_y + (u - left) * dbend_x
    centre_at = offset(v, u, top, left, H, W, x_y, x_x)
    moments = zeros(ROWS * K, PIXELS, LANES)
    for c in range(0, C, LANES):
        used = c + channel < C
        gradient = tl.load(gradient_at, (v < H) & (u < W) & used, 0.0)
        centre = read(source + centre_at, used, C % LANES != 0)
        sums = ()
        for j in tl.static_range(ROWS * K):
            at = offset(v + (row + j // K - K // 2), u + (j % K - K // 2), top, left, H, W, x_y, x_x)
            sums = sums + (moments[j] + gradient * (read(source + at, used, C % LANES != 0) - centre),)
        moments = sums
        source += LANES * x_c
        gradient_at += LANES * dbend_c
    if SHARED:
        tiles = tl.cdiv(W, COLUMNS) * tl.cdiv(H, PIXELS // COLUMNS)
        dgain = dgains + picture.to(tl.int64) * dgains_b + tl.program_id(0) % tiles * dgains_y
        for j in tl.static_range(ROWS * K):
            tl.store(dgain + (row * K + j) * dgains_c, tl.sum(tl.sum(moments[j], 1), 0))
    else:
        pixel = ()
        for j in tl.static_range(ROWS * K):
            pixel = pixel + (tl.sum(moments[j], 1)[:, None],)
        dgain = corner(dgains, picture, top, left, dgains_b, dgains_y, dgains_x)
        own = (v - top) * dgains_y + (u - left) * dgains_x
        first = taps + row * K
        for _ in range(G):
            total = tl.zeros((PIXELS, 1), tl.float32)
            for j in tl.static_range(ROWS * K):
                total += tl.load(first + j) * pixel[j]
            if ADD:
                total += tl.load(dgain + own, (v < H) & (u < W), 0.0)
            tl.store(dgain + own, total, (v < H) & (u < W))
            dgain += dgains_c
            first += K * K

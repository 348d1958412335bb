"""Sharpening along one axis with a gain for each lag, and its transpose: the default basis in Triton.

With E = sum_k c_k D_k, e = sum_k (gains_k - 1) c_k D_k and D_k x = (x[i-k] + x[i+k]) / 2 - x[i], a pass makes
steered = e p and total = e p + (1 + E) q of two maps p and q. Columns first, p = q = x, it gives u = e_y x and
v = (1 + E_y + e_y) x; then rows, p = v and q = u, z(gains) - z(1) = e_x v + (1 + E_x) u.
"""

import triton
import triton.language as tl
from torch import Tensor

from sr_kernels.launch import Launch
from sr_kernels.magic_resample.bend_tiles import (
    Tiles,
    corner,
    inside,
    offset,
    place,
    read,
    unspecialized,
    zeros,
)

# pyright: reportPossiblyUnboundVariable=false, reportOperatorIssue=false, reportArgumentType=false, reportCallIssue=false
# pyright: reportIndexIssue=false, reportGeneralTypeIssues=false, reportAttributeAccessIssue=false
# ruff: noqa: RUF005 -- Triton has no starred expressions


def lag_pass(
    p: Tensor,
    q: Tensor,
    gains: Tensor,
    lags: tuple[float, ...],
    vertical: bool,
    *,
    steered: Tensor | None,
    total: Tensor,
) -> Launch:
    """steered = e p, unless None, and total = e p + (1 + E) q along one axis of maps [B C H W]."""
    return Tiles.of("lags", p, len(lags)).launch(
        sharpen,
        {"p": p, "q": q, "gains": gains, "steered": steered, "total": total},
        {},
        {"LAGS": lags, "COUNT": len(lags), "VERTICAL": vertical, "SAME": p is q, "STEERED": steered is not None},
    )


def transposed_lag_pass(
    p: Tensor,
    q: Tensor,
    source: Tensor,
    gains: Tensor,
    lags: tuple[float, ...],
    vertical: bool,
    *,
    steered: Tensor | None,
    total: Tensor,
    add: bool,
    dgains: Tensor,
    tiles: Tiles,
) -> Launch:
    """steered = e^T p, unless None, total = or with `add` += e^T p + (1 + E)^T q, and the gradient of gains.

    `dgains` [B G H W] gets sum over channels of p c_k D_k source, or, if it is [B tiles G 1], the sums of tiles.
    """
    return tiles.launch(
        sharpen_transposed,
        {"p": p, "q": q, "source": source, "gains": gains, "dgains": dgains, "steered": steered, "total": total},
        {},
        {"LAGS": lags, "COUNT": len(lags), "VERTICAL": vertical, "SAME": p is q, "STEERED": steered is not None}
        | {"ADD": add, "SHARED": gains.shape[2:] == (1, 1)},
    )


@triton.jit
def lag(
    map_, centre, k, v, u, top, left, H, W, step_y, step_x, used,
    VERTICAL: tl.constexpr, MASKED: tl.constexpr,
):  # fmt: skip
    """(m[i-k] + m[i+k]) / 2 - m[i] along one axis, replicated border; differences first: constants give exact zeros."""
    if VERTICAL:
        before = map_ + offset(v - k, u, top, left, H, W, step_y, step_x)
        after = map_ + offset(v + k, u, top, left, H, W, step_y, step_x)
    else:
        before = map_ + offset(v, u - k, top, left, H, W, step_y, step_x)
        after = map_ + offset(v, u + k, top, left, H, W, step_y, step_x)
    return 0.5 * ((read(before, used, MASKED) - centre) + (read(after, used, MASKED) - centre))


@triton.jit(do_not_specialize=unspecialized("p", "q", "gains", "steered", "total"))
def sharpen(
    p, q, gains, steered, total,
    H, W,
    p_b, p_c, p_y, p_x,
    q_b, q_c, q_y, q_x,
    gains_b, gains_c, gains_y, gains_x,
    steered_b, steered_c, steered_y, steered_x,
    total_b, total_c, total_y, total_x,
    LAGS: tl.constexpr, COUNT: tl.constexpr, C: tl.constexpr, PIXELS: tl.constexpr, COLUMNS: tl.constexpr,
    LANES: tl.constexpr, VERTICAL: tl.constexpr, SAME: tl.constexpr, STEERED: tl.constexpr,
):  # fmt: skip
    """steered = e p, total = e p + (1 + E) q.

    One program owns a tile of pixels of one picture, all channels: it reads its gains once, p and q at its pixels and
    COUNT pixels beyond both ends, and writes each result once. SAME: p is q, and read once.
    """
    picture, top, left, v, u = place(H, W, PIXELS, COLUMNS)
    channel = tl.arange(0, LANES)[None, :]
    gain = corner(gains, picture, top, left, gains_b, gains_y, gains_x)
    own = offset(v, u, top, left, H, W, gains_y, gains_x)
    excess = ()
    for k in tl.static_range(COUNT):
        excess = excess + (LAGS[k] * (tl.load(gain + own).to(tl.float32) - 1),)
        gain += gains_c
    p_at = corner(p, picture, top, left, p_b, p_y, p_x) + channel * p_c
    q_at = corner(q, picture, top, left, q_b, q_y, q_x) + channel * q_c
    if STEERED:
        steered_at = corner(steered, picture, top, left, steered_b, steered_y, steered_x) + channel * steered_c
    total_at = corner(total, picture, top, left, total_b, total_y, total_x) + channel * total_c
    for c in range(0, C, LANES):
        used = c + channel < C
        p_centre = read(p_at + offset(v, u, top, left, H, W, p_y, p_x), used, C % LANES != 0)
        q_centre = p_centre
        if not SAME:
            q_centre = read(q_at + offset(v, u, top, left, H, W, q_y, q_x), used, C % LANES != 0)
        bent, sharp = tl.zeros((PIXELS, LANES), tl.float32), q_centre
        for k in tl.static_range(COUNT):
            term = lag(p_at, p_centre, k + 1, v, u, top, left, H, W, p_y, p_x, used, VERTICAL, C % LANES != 0)
            bent += excess[k] * term
            if not SAME:
                term = lag(q_at, q_centre, k + 1, v, u, top, left, H, W, q_y, q_x, used, VERTICAL, C % LANES != 0)
            sharp += LAGS[k] * term
        keep = (v < H) & (u < W) & used
        if STEERED:
            tl.store(steered_at + offset(v, u, top, left, H, W, steered_y, steered_x), bent, keep)
        tl.store(total_at + offset(v, u, top, left, H, W, total_y, total_x), bent + sharp, keep)
        p_at += LANES * p_c
        q_at += LANES * q_c
        if STEERED:
            steered_at += LANES * steered_c
        total_at += LANES * total_c


@triton.jit(do_not_specialize=unspecialized("p", "q", "source", "gains", "dgains", "steered", "total"))
def sharpen_transposed(
    p, q, source, gains, dgains, steered, total,
    H, W,
    p_b, p_c, p_y, p_x,
    q_b, q_c, q_y, q_x,
    source_b, source_c, source_y, source_x,
    gains_b, gains_c, gains_y, gains_x,
    dgains_b, dgains_c, dgains_y, dgains_x,
    steered_b, steered_c, steered_y, steered_x,
    total_b, total_c, total_y, total_x,
    LAGS: tl.constexpr, COUNT: tl.constexpr, C: tl.constexpr, PIXELS: tl.constexpr, COLUMNS: tl.constexpr,
    LANES: tl.constexpr, VERTICAL: tl.constexpr, SAME: tl.constexpr, STEERED: tl.constexpr, ADD: tl.constexpr,
    SHARED: tl.constexpr,
):  # fmt: skip
    """steered = e^T p, total = (with ADD: +=) e^T p + (1 + E)^T q, dgains_k = sum over channels of p c_k D_k source.

    One program owns a tile of pixels of one picture, all channels. What its pixels receive from pixel i + d is
    weights[COUNT + d]: c_k / 2 at both ends of a lag, -c_k in the middle. The first pixel of the axis stands for all
    before it, so that any d < k gives it c_k / 2 more; the last likewise. It reads p, q and source once, COUNT
    pixels beyond both ends included, and writes each result once; with SHARED, dgains is one sum for each tile.
    """
    picture, top, left, v, u = place(H, W, PIXELS, COLUMNS)
    channel = tl.arange(0, LANES)[None, :]
    gain = corner(gains, picture, top, left, gains_b, gains_y, gains_x)
    first = ((v if VERTICAL else u) == 0).to(tl.float32)
    last = ((v if VERTICAL else u) == (H if VERTICAL else W) - 1).to(tl.float32)
    weights, neutral = (), ()
    for j in tl.static_range(2 * COUNT + 1):
        y, x = v + (j - COUNT if VERTICAL else 0), u + (0 if VERTICAL else j - COUNT)
        near = offset(y, x, top, left, H, W, gains_y, gains_x)
        weight, sharpening = tl.zeros((PIXELS, 1), tl.float32), tl.zeros((PIXELS, 1), tl.float32)
        for k in tl.static_range(COUNT):
            ends = 0.0
            if j - COUNT == k + 1 or COUNT - j == k + 1:
                ends = 0.5
            if j == COUNT:
                ends = -1.0
            tap = tl.zeros((PIXELS, 1), tl.float32) + ends
            if j - COUNT < k + 1:
                tap += 0.5 * first
            if COUNT - j < k + 1:
                tap += 0.5 * last
            sharpening += LAGS[k] * tap
            weight += LAGS[k] * tap * (tl.load(gain + k * gains_c + near).to(tl.float32) - 1)
        weights = weights + (weight,)
        neutral = neutral + (sharpening,)
    p_at = corner(p, picture, top, left, p_b, p_y, p_x) + channel * p_c
    q_at = corner(q, picture, top, left, q_b, q_y, q_x) + channel * q_c
    source_at = corner(source, picture, top, left, source_b, source_y, source_x) + channel * source_c
    if STEERED:
        steered_at = corner(steered, picture, top, left, steered_b, steered_y, steered_x) + channel * steered_c
    total_at = corner(total, picture, top, left, total_b, total_y, total_x) + channel * total_c
    moments = zeros(COUNT, PIXELS, LANES)
    for c in range(0, C, LANES):
        used = c + channel < C
        keep = (v < H) & (u < W) & used
        bent, sharp = tl.zeros((PIXELS, LANES), tl.float32), tl.zeros((PIXELS, LANES), tl.float32)
        for j in tl.static_range(2 * COUNT + 1):
            y, x = v + (j - COUNT if VERTICAL else 0), u + (0 if VERTICAL else j - COUNT)
            there = inside(y, x, H, W) & used
            gradient = tl.load(p_at + offset(y, x, top, left, H, W, p_y, p_x), there, 0.0)
            bent += weights[j] * gradient
            if not SAME:
                gradient = tl.load(q_at + offset(y, x, top, left, H, W, q_y, q_x), there, 0.0)
            sharp += neutral[j] * gradient
            if j == COUNT:
                sharp += gradient
        gradient = tl.load(p_at + offset(v, u, top, left, H, W, p_y, p_x), keep, 0.0)
        centre = read(source_at + offset(v, u, top, left, H, W, source_y, source_x), used, C % LANES != 0)
        sums = ()
        for k in tl.static_range(COUNT):
            term = lag(
                source_at, centre, k + 1, v, u, top, left, H, W, source_y, source_x, used, VERTICAL, C % LANES != 0
            )
            sums = sums + (moments[k] + gradient * term,)
        moments = sums
        if STEERED:
            tl.store(steered_at + offset(v, u, top, left, H, W, steered_y, steered_x), bent, keep)
        result, own = bent + sharp, total_at + offset(v, u, top, left, H, W, total_y, total_x)
        if ADD:
            result += tl.load(own, keep, 0.0)
        tl.store(own, result, keep)
        p_at += LANES * p_c
        q_at += LANES * q_c
        source_at += LANES * source_c
        if STEERED:
            steered_at += LANES * steered_c
        total_at += LANES * total_c
    if SHARED:
        tiles = tl.cdiv(W, COLUMNS) * tl.cdiv(H, PIXELS // COLUMNS)
        dgain = dgains + picture.to(tl.int64) * dgains_b + tl.program_id(0) % tiles * dgains_y
        for k in tl.static_range(COUNT):
            tl.store(dgain + k * dgains_c, LAGS[k] * tl.sum(tl.sum(moments[k], 1), 0))
    else:
        dgain = corner(dgains, picture, top, left, dgains_b, dgains_y, dgains_x)
        own = offset(v, u, top, left, H, W, dgains_y, dgains_x)
        for k in tl.static_range(COUNT):
            total_k = LAGS[k] * tl.sum(moments[k], 1)[:, None]
            tl.store(dgain + own, total_k.to(dgains.dtype.element_ty), (v < H) & (u < W))
            dgain += dgains_c

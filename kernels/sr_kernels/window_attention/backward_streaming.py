"""Backward kernels of window attention for large windows, given log sum exp of the logits from the forward pass.

Three passes over the scores, each owning what it sums, so that nothing is added atomically: gradients of the queries, of
keys and values, and of the bias (Dao, FlashAttention-2, arXiv 2307.08691, has the first two).
"""

import triton
import triton.language as tl

from sr_kernels.window_attention.tiles import (
    LOG2E,
    base,
    bias_tile,
    gather,
    kept,
    locate,
    logits,
    pixel,
    reciprocal_norm,
    scatter,
    spot,
    through_norm,
    window_of,
    with_token,
)


@triton.jit
def _queries(
    pointer, start, number, b, wy, wx, m, h, H, W, NY, NX, q_b, q_y, q_x, q_h, q_d,
    G: tl.constexpr, D: tl.constexpr, NQ: tl.constexpr, ALIGN: tl.constexpr, WIDE: tl.constexpr,
    BM: tl.constexpr, BD: tl.constexpr,
):  # fmt: skip
    """Vectors of queries m, what is kept of them, their pixels and their side of the seam."""
    y, x, inside, side = locate(wy, wx, tl.minimum(m, NQ - 1), H, W, NY, NX, G, False)
    keep = kept(inside, m, NQ, BM, G)
    own = base(pointer, start, b, h, q_b, q_h, ALIGN)
    value = gather(own, spot(y, x, q_y, q_x, ALIGN, WIDE), keep, q_d, D, BD, NQ % BM > 0 or G[11] > 0)
    return value, keep, pixel(b, y, x, H, W), side


@triton.jit
def _keys(
    k, v, token, k_start, v_start, b, wy, wx, n, h, H, W, NY, NX, k_b, k_y, k_x, k_h, k_d,
    G: tl.constexpr, HEADS: tl.constexpr, D: tl.constexpr, NK: tl.constexpr,
    ALIGN: tl.constexpr, WIDE: tl.constexpr, BN: tl.constexpr, BD: tl.constexpr,
):  # fmt: skip
    """Vectors of keys and values n, their rows and columns, whether inside the map, their side of the seam."""
    y, x, inside, side = locate(wy, wx, n, H, W, NY, NX, G, True)
    keep = kept(inside, n, NK, BN, G)
    offset = spot(y, x, k_y, k_x, ALIGN, WIDE)
    kt = gather(base(k, k_start, b, h, k_b, k_h, ALIGN), offset, keep, k_d, D, BD, NK % BN > 0 or G[11] > 0)
    vt = gather(base(v, v_start, b, h, k_b, k_h, ALIGN), offset, keep, k_d, D, BD, NK % BN > 0 or G[11] > 0)
    if G[11] == 2:
        kt = with_token(kt, inside, token, (HEADS + h) * D, D, BD)
        vt = with_token(vt, inside, token, (2 * HEADS + h) * D, D, BD)
    return kt, vt, y, x, inside, side


@triton.jit
def queries_backward(
    q, k, v, bias, logit_scale, token, out, grad, lse, delta, dq, d_scale,
    q_start, k_start, v_start, q_b, q_y, q_x, q_h, q_d, k_b, k_y, k_x, k_h, k_d, dq_start, dq_x,
    H, W, NY, NX, scale, penalty, bias_row, bias_head,
    G: tl.constexpr, HEADS: tl.constexpr, D: tl.constexpr, NQ: tl.constexpr, NK: tl.constexpr,
    BIAS: tl.constexpr, COSINE: tl.constexpr, SEAM: tl.constexpr, PRECISION: tl.constexpr,
    ALIGN: tl.constexpr, WIDE: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr, BD: tl.constexpr,
    STAGES: tl.constexpr,
):  # fmt: skip
    """A program owns one head of BM queries of one window and streams over its keys.

    Reads q, output and output gradient once, k and v once a program; writes the gradient of its queries, its part of
    that of the logit scale, and delta = <output, output gradient>, which the other kernels read.
    """
    h = tl.program_id(0) % HEADS
    TILES: tl.constexpr = (NQ + BM - 1) // BM
    number = tl.program_id(0) // HEADS // TILES
    m = tl.program_id(0) // HEADS % TILES * BM + tl.arange(0, BM)
    b, wy, wx = window_of(number, NY, NX)
    qt, keep, place, side_q = _queries(
        q, q_start, number, b, wy, wx, m, h, H, W, NY, NX, q_b, q_y, q_x, q_h, q_d, G, D, NQ, ALIGN, WIDE, BM, BD
    )  # fmt: skip
    gt = gather(grad + h * D, place * (HEADS * D), keep, 1, D, BD, True)
    ot = gather(out + h * D, place * (HEADS * D), keep, 1, D, BD, True)
    row = (number * HEADS + h).to(tl.int64) * NQ + m
    drop = tl.sum(ot.to(tl.float32) * gt.to(tl.float32), 1)
    tl.store(delta + row, drop, mask=m < NQ)
    top = tl.load(lse + row, mask=m < NQ, other=float("inf"))
    factor = scale
    rq = 0.0
    if COSINE:
        factor = tl.load(logit_scale + h).to(tl.float32)
        rq = reciprocal_norm(qt)[:, None]

    TAIL: tl.constexpr = NK % BN > 0
    dq_tile = tl.zeros((BM, BD), tl.float32)
    for start in tl.range(0, NK, BN, num_stages=STAGES):
        n = start + tl.arange(0, BN)
        kt, vt, _, _, _, side_k = _keys(
            k, v, token, k_start, v_start, b, wy, wx, n, h, H, W, NY, NX, k_b, k_y, k_x, k_h, k_d,
            G, HEADS, D, NK, ALIGN, WIDE, BN, BD,
        )  # fmt: skip
        b_tile = 0.0
        if BIAS > 0:
            b_tile = bias_tile(bias, h, m[:, None], n[None, :], bias_row, bias_head, NQ, NK, G, BIAS, TAIL)
        elif TAIL:
            b_tile = tl.where(n < NK, 0.0, float("-inf"))[None, :]
        rk = 0.0
        if COSINE:
            rk = reciprocal_norm(kt)[None, :]
        apart = side_q[:, None] != side_k[None, :]
        s = logits(qt, kt, factor, rq, rk, b_tile, apart, penalty, COSINE, BIAS > 0 or TAIL, SEAM, PRECISION)
        p = tl.exp2((s - top[:, None]) * LOG2E)
        ds = p * (tl.dot(gt, tl.trans(vt), input_precision=PRECISION) - drop[:, None])
        if COSINE:
            kt = (kt.to(tl.float32) * tl.trans(rk)).to(kt.dtype)
        dq_tile = tl.dot(ds.to(kt.dtype), kt, dq_tile, input_precision=PRECISION)
    if COSINE:
        unit = qt.to(tl.float32) * rq
        dq_tile, along = through_norm(dq_tile, unit, tl.reshape(rq, (BM,)))
        tl.store(d_scale + tl.program_id(0), tl.sum(along, 0))
    scatter(dq + dq_start + h * D, place * dq_x, keep, dq_tile * factor, D, BD)


@triton.jit
def keys_backward(
    q, k, v, bias, logit_scale, token, grad, lse, delta, dk, dv, d_token,
    q_start, k_start, v_start, q_b, q_y, q_x, q_h, q_d, k_b, k_y, k_x, k_h, k_d, dk_start, dv_start, dk_x,
    H, W, NY, NX, scale, penalty, bias_row, bias_head,
    G: tl.constexpr, HEADS: tl.constexpr, D: tl.constexpr, NQ: tl.constexpr, NK: tl.constexpr,
    BIAS: tl.constexpr, COSINE: tl.constexpr, SEAM: tl.constexpr, PRECISION: tl.constexpr, DIRECT: tl.constexpr,
    ALIGN: tl.constexpr, WIDE: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr, BD: tl.constexpr,
    STAGES: tl.constexpr,
):  # fmt: skip
    """A program owns one head of BN keys of one window and streams over its queries; scores are held transposed.

    Reads k and v once, q and output gradient once a program; writes the gradients of its keys and values (where windows
    share keys, one for each window, to be folded) and its part of that of the pad token.
    """
    h = tl.program_id(0) % HEADS
    TILES: tl.constexpr = (NK + BN - 1) // BN
    number = tl.program_id(0) // HEADS // TILES
    n = tl.program_id(0) // HEADS % TILES * BN + tl.arange(0, BN)
    c = tl.arange(0, BD)
    b, wy, wx = window_of(number, NY, NX)
    kt, vt, ky, kx, k_inside, side_k = _keys(
        k, v, token, k_start, v_start, b, wy, wx, n, h, H, W, NY, NX, k_b, k_y, k_x, k_h, k_d,
        G, HEADS, D, NK, ALIGN, WIDE, BN, BD,
    )  # fmt: skip
    TAIL: tl.constexpr = NK % BN > 0
    factor = scale
    rk = 0.0
    if COSINE:
        factor = tl.load(logit_scale + h).to(tl.float32)
        rk = reciprocal_norm(kt)[:, None]

    dk_tile = tl.zeros((BN, BD), tl.float32)
    dv_tile = tl.zeros((BN, BD), tl.float32)
    for start in tl.range(0, NQ, BM, num_stages=STAGES):
        m = start + tl.arange(0, BM)
        qt, keep, place, side_q = _queries(
            q, q_start, number, b, wy, wx, m, h, H, W, NY, NX, q_b, q_y, q_x, q_h, q_d, G, D, NQ, ALIGN, WIDE, BM, BD
        )  # fmt: skip
        gt = gather(grad + h * D, place * (HEADS * D), keep, 1, D, BD, NQ % BM > 0 or G[11] > 0)
        row = (number * HEADS + h).to(tl.int64) * NQ + m
        top = tl.load(lse + row, mask=m < NQ, other=float("inf"))
        drop = tl.load(delta + row, mask=m < NQ, other=0.0)
        b_tile = 0.0
        if BIAS > 0:
            b_tile = bias_tile(bias, h, m[None, :], n[:, None], bias_row, bias_head, NQ, NK, G, BIAS, TAIL)
        elif TAIL:
            b_tile = tl.where(n < NK, 0.0, float("-inf"))[:, None]
        rq = 0.0
        if COSINE:
            rq = reciprocal_norm(qt)[None, :]
        apart = side_k[:, None] != side_q[None, :]
        s = logits(kt, qt, factor, rk, rq, b_tile, apart, penalty, COSINE, BIAS > 0 or TAIL, SEAM, PRECISION)
        p = tl.exp2((s - top[None, :]) * LOG2E)
        dv_tile = tl.dot(p.to(gt.dtype), gt, dv_tile, input_precision=PRECISION)
        ds = p * (tl.dot(vt, tl.trans(gt), input_precision=PRECISION) - drop[None, :])
        if COSINE:
            qt = (qt.to(tl.float32) * tl.trans(rq)).to(qt.dtype)
        dk_tile = tl.dot(ds.to(qt.dtype), qt, dk_tile, input_precision=PRECISION)
    if COSINE:
        dk_tile, _ = through_norm(dk_tile, kt.to(tl.float32) * rk, tl.reshape(rk, (BN,)))
    dk_tile = dk_tile * factor
    if DIRECT:
        spots = pixel(b, ky, kx, H * G[6] // G[0], W * G[7] // G[1])
        keep = kept(k_inside, n, NK, BN, G)
    else:
        spots = n.to(tl.int64) + number * NK
        keep = n < NK
    scatter(dk + dk_start + h * D, spots * dk_x, keep, dk_tile, D, BD)
    scatter(dv + dv_start + h * D, spots * dk_x, keep, dv_tile, D, BD)
    if G[11] == 2:
        beyond = ((n < NK) & (k_inside == 0))[:, None]
        own = d_token + tl.program_id(0).to(tl.int64) * (2 * D)
        tl.store(own + c, tl.sum(tl.where(beyond, dk_tile, 0.0), 0), mask=c < D)
        tl.store(own + D + c, tl.sum(tl.where(beyond, dv_tile, 0.0), 0), mask=c < D)


@triton.jit
def bias_backward(
    q, k, v, bias, logit_scale, token, grad, lse, delta, d_bias,
    q_start, k_start, v_start, q_b, q_y, q_x, q_h, q_d, k_b, k_y, k_x, k_h, k_d,
    H, W, NY, NX, windows, scale, penalty, bias_row, bias_head, per_program,
    G: tl.constexpr, HEADS: tl.constexpr, D: tl.constexpr, NQ: tl.constexpr, NK: tl.constexpr,
    BIAS: tl.constexpr, COSINE: tl.constexpr, SEAM: tl.constexpr, PRECISION: tl.constexpr,
    ALIGN: tl.constexpr, WIDE: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr, BD: tl.constexpr,
):  # fmt: skip
    """A program owns BM x BN pairs of one head and adds up the gradient of their logits over `per_program` windows.

    Reads one tile of q, k, v and output gradient for each window; writes the sum once, one for each group of windows.
    """
    h = tl.program_id(0) % HEADS
    tile = tl.program_id(0) // HEADS
    ROWS: tl.constexpr = (NQ + BM - 1) // BM
    COLUMNS: tl.constexpr = (NK + BN - 1) // BN
    m = tile % ROWS * BM + tl.arange(0, BM)
    n = tile // ROWS % COLUMNS * BN + tl.arange(0, BN)
    group = tile // (ROWS * COLUMNS)
    TAIL: tl.constexpr = NK % BN > 0
    b_tile = bias_tile(bias, h, m[:, None], n[None, :], bias_row, bias_head, NQ, NK, G, BIAS, TAIL)
    factor = scale
    if COSINE:
        factor = tl.load(logit_scale + h).to(tl.float32)
    total = tl.zeros((BM, BN), tl.float32)
    for number in range(group * per_program, tl.minimum((group + 1) * per_program, windows)):
        b, wy, wx = window_of(number, NY, NX)
        qt, keep, place, side_q = _queries(
            q, q_start, number, b, wy, wx, m, h, H, W, NY, NX, q_b, q_y, q_x, q_h, q_d, G, D, NQ, ALIGN, WIDE, BM, BD
        )  # fmt: skip
        gt = gather(grad + h * D, place * (HEADS * D), keep, 1, D, BD, NQ % BM > 0 or G[11] > 0)
        kt, vt, _, _, _, side_k = _keys(
            k, v, token, k_start, v_start, b, wy, wx, n, h, H, W, NY, NX, k_b, k_y, k_x, k_h, k_d,
            G, HEADS, D, NK, ALIGN, WIDE, BN, BD,
        )  # fmt: skip
        row = (number * HEADS + h).to(tl.int64) * NQ + m
        top = tl.load(lse + row, mask=m < NQ, other=float("inf"))
        drop = tl.load(delta + row, mask=m < NQ, other=0.0)
        rq, rk = 0.0, 0.0
        if COSINE:
            rq, rk = reciprocal_norm(qt)[:, None], reciprocal_norm(kt)[None, :]
        apart = side_q[:, None] != side_k[None, :]
        s = logits(qt, kt, factor, rq, rk, b_tile, apart, penalty, COSINE, True, SEAM, PRECISION)
        p = tl.exp2((s - top[:, None]) * LOG2E)
        total += p * (tl.dot(gt, tl.trans(vt), input_precision=PRECISION) - drop[:, None])
    own = (group * HEADS + h).to(tl.int64) * (NQ * NK)
    tl.store(d_bias + own + m[:, None] * NK + n[None, :], total, (m < NQ)[:, None] & (n < NK)[None, :])

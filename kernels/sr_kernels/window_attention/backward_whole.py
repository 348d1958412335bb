"""Backward kernel of window attention for small windows."""

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
def whole_backward(
    q, k, v, bias, logit_scale, token, grad, dq, dk, dv, d_bias, d_scale, d_token,
    q_start, k_start, v_start, q_b, q_y, q_x, q_h, q_d, k_b, k_y, k_x, k_h, k_d,
    dq_start, dk_start, dv_start, dq_x, dk_x,
    H, W, NY, NX, windows, scale, penalty, bias_row, bias_head, per_program,
    G: tl.constexpr, HEADS: tl.constexpr, D: tl.constexpr, NQ: tl.constexpr, NK: tl.constexpr,
    BIAS: tl.constexpr, COSINE: tl.constexpr, SEAM: tl.constexpr, PRECISION: tl.constexpr,
    D_BIAS: tl.constexpr, DIRECT: tl.constexpr,
    ALIGN: tl.constexpr, WIDE: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr, BD: tl.constexpr,
):  # fmt: skip
    """A program owns one head of `per_program` windows of at most 64 tokens; it computes their softmax anew.

    Reads each q, k, v and output gradient vector once; writes each gradient vector once (where windows share keys, one
    for each window, to be folded). The gradient of the bias gathers in registers over the program's windows and is
    written once a program, as those of the logit scale and of the pad token are: summed later in a fixed order.
    """
    h = tl.program_id(0) % HEADS
    group = tl.program_id(0) // HEADS
    m, n, c = tl.arange(0, BM), tl.arange(0, BN), tl.arange(0, BD)
    BIASED: tl.constexpr = BIAS > 0 or NK < BN
    MASK_Q: tl.constexpr = NQ < BM or G[11] > 0
    MASK_K: tl.constexpr = NK < BN or G[11] > 0
    b_tile = 0.0
    if BIAS > 0:
        b_tile = bias_tile(bias, h, m[:, None], n[None, :], bias_row, bias_head, NQ, NK, G, BIAS, NK < BN)
    elif NK < BN:
        b_tile = tl.where(n < NK, 0.0, float("-inf"))[None, :]
    factor = scale
    if COSINE:
        factor = tl.load(logit_scale + h).to(tl.float32)
    sum_bias = tl.zeros((BM, BN) if D_BIAS else (1, 1), tl.float32)
    sum_scale = tl.zeros((BM,), tl.float32)
    sum_k, sum_v = tl.zeros((BD,), tl.float32), tl.zeros((BD,), tl.float32)

    for number in range(group * per_program, tl.minimum((group + 1) * per_program, windows)):
        b, wy, wx = window_of(number, NY, NX)
        y, x, inside, side_q = locate(wy, wx, tl.minimum(m, NQ - 1), H, W, NY, NX, G, False)
        keep = kept(inside, m, NQ, BM, G)
        q_base = base(q, q_start, b, h, q_b, q_h, ALIGN)
        qt = gather(q_base, spot(y, x, q_y, q_x, ALIGN, WIDE), keep, q_d, D, BD, MASK_Q)
        place = pixel(b, y, x, H, W)
        gt = gather(grad + h * D, place * (HEADS * D), keep, 1, D, BD, MASK_Q)
        ky, kx, k_inside, side_k = locate(wy, wx, n, H, W, NY, NX, G, True)
        k_keep = kept(k_inside, n, NK, BN, G)
        offset = spot(ky, kx, k_y, k_x, ALIGN, WIDE)
        kt = gather(base(k, k_start, b, h, k_b, k_h, ALIGN), offset, k_keep, k_d, D, BD, MASK_K)
        vt = gather(base(v, v_start, b, h, k_b, k_h, ALIGN), offset, k_keep, k_d, D, BD, MASK_K)
        if G[11] == 2:
            kt = with_token(kt, k_inside, token, (HEADS + h) * D, D, BD)
            vt = with_token(vt, k_inside, token, (2 * HEADS + h) * D, D, BD)

        rq, rk = 0.0, 0.0
        if COSINE:
            rq, rk = reciprocal_norm(qt), reciprocal_norm(kt)
            apart = side_q[:, None] != side_k[None, :]
            s = logits(qt, kt, factor, rq[:, None], rk[None, :], b_tile, apart, penalty, True, BIASED, SEAM, PRECISION)
            # Products of unit vectors: a reciprocal norm of 1e12 would overflow beside a half-precision gradient.
            qt = (qt.to(tl.float32) * rq[:, None]).to(qt.dtype)
            kt = (kt.to(tl.float32) * rk[:, None]).to(kt.dtype)
        else:
            apart = side_q[:, None] != side_k[None, :]
            s = logits(qt, kt, factor, rq, rk, b_tile, apart, penalty, False, BIASED, SEAM, PRECISION)
        p = tl.exp2(s * LOG2E - (tl.max(s, 1) * LOG2E)[:, None])
        p = p / tl.sum(p, 1)[:, None]
        dv_tile = tl.dot(tl.trans(p.to(vt.dtype)), gt, input_precision=PRECISION)
        dp = tl.dot(gt, tl.trans(vt), input_precision=PRECISION)
        ds = p * (dp - tl.sum(p * dp, 1)[:, None])
        if D_BIAS:
            sum_bias += ds
        ds = ds.to(qt.dtype)
        dq_tile = tl.dot(ds, kt, input_precision=PRECISION)
        dk_tile = tl.dot(tl.trans(ds), qt, input_precision=PRECISION)
        if COSINE:
            dq_tile, along = through_norm(dq_tile, qt, rq)
            dk_tile, _ = through_norm(dk_tile, kt, rk)
            sum_scale += along
        dq_tile, dk_tile = dq_tile * factor, dk_tile * factor

        scatter(dq + dq_start + h * D, place * dq_x, keep, dq_tile, D, BD)
        if DIRECT:
            spots = pixel(b, ky, kx, H * G[6] // G[0], W * G[7] // G[1])
        else:
            spots = n.to(tl.int64) + number * NK
            k_keep = n < NK
        scatter(dk + dk_start + h * D, spots * dk_x, k_keep, dk_tile, D, BD)
        scatter(dv + dv_start + h * D, spots * dk_x, k_keep, dv_tile, D, BD)
        if G[11] == 2:
            beyond = ((n < NK) & (k_inside == 0))[:, None]
            sum_k += tl.sum(tl.where(beyond, dk_tile, 0.0), 0)
            sum_v += tl.sum(tl.where(beyond, dv_tile, 0.0), 0)

    own = group * HEADS + h
    if D_BIAS:
        pairs = m[:, None] * NK + n[None, :]
        tl.store(d_bias + own.to(tl.int64) * (NQ * NK) + pairs, sum_bias, (m < NQ)[:, None] & (n < NK)[None, :])
    if COSINE:
        tl.store(d_scale + own, tl.sum(sum_scale, 0))
    if G[11] == 2:
        tl.store(d_token + own * (2 * D) + c, sum_k, mask=c < D)
        tl.store(d_token + own * (2 * D) + D + c, sum_v, mask=c < D)

"""Backward kernel of window attention for small windows."""

# What `triton.jit` compiles is no Python that a type checker knows: constexpr branches, tensors of one class.
# pyright: reportPossiblyUnboundVariable=false, reportOperatorIssue=false, reportArgumentType=false, reportCallIssue=false
# pyright: reportIndexIssue=false, reportGeneralTypeIssues=false, reportAttributeAccessIssue=false

import triton
import triton.language as tl

from sr_kernels.window_attention.tiles import (
    LOG2E,
    bias_tile,
    column_distances,
    gather,
    key_frames,
    logits,
    near_seam,
    offsets,
    origin,
    query_frames,
    reciprocal_norm,
    scatter,
    sum_by_distance,
    through_norm,
    unhoisted,
    window_of,
    with_token,
    within,
)


@triton.jit
def whole_backward(
    q, k, v, bias, logit_scale, token, grad, dq, dk, dv, d_bias, d_scale, d_token,
    q_start, k_start, v_start, q_b, q_y, q_x, q_h, q_d, k_b, k_y, k_x, k_h, k_d,
    dq_start, dk_start, dv_start, dq_x, dk_x,
    H, W, NY, NX, windows, scale, penalty, bias_row, bias_head, per_program,
    G: tl.constexpr, HEADS: tl.constexpr, D: tl.constexpr, NQ: tl.constexpr, NK: tl.constexpr,
    BIAS: tl.constexpr, COSINE: tl.constexpr, SEAM: tl.constexpr,
    SAME: tl.constexpr, PRECISION: tl.constexpr, COMPILED: tl.constexpr,
    D_BIAS: tl.constexpr, DIRECT: tl.constexpr,
    ALIGN: tl.constexpr, EVEN: tl.constexpr, WIDE: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr, BD: tl.constexpr,
):  # fmt: skip
    """A program owns one head of `per_program` windows of at most 64 tokens; it computes their softmax anew.

    Reads each q, k, v and output gradient vector once; writes each gradient vector once (where windows share keys, one
    for each window, to be folded). The gradient of the bias gathers in registers over the program's windows and is
    written once a program, as those of the logit scale and of the pad token are: summed later in a fixed order.

    D_BIAS: 0 no gradient of the bias, 1 that of every pair (NQ, NK), 2 summed by column distance (16, 64).
    """
    h = tl.program_id(0) % HEADS
    group = tl.program_id(0) // HEADS
    C: tl.constexpr = HEADS * D
    TAIL_Q: tl.constexpr = NQ < BM
    TAIL: tl.constexpr = NK < BN
    MASK_Q: tl.constexpr = TAIL_Q or G[11] > 0
    MASK_K: tl.constexpr = TAIL or G[11] > 0
    m, n, c = tl.arange(0, BM), tl.arange(0, BN), tl.arange(0, BD)
    if TAIL_Q:
        m = tl.minimum(m, NQ - 1)  # rows past NQ repeat the last query, so that their softmax stays finite
    my, mx, ny, nx = m // G[1], m % G[1], n // G[5], n % G[5]
    b_tile = 0.0
    if BIAS > 0 or TAIL:
        b_tile = bias_tile(
            bias, h, my[:, None], mx[:, None], ny[None, :], nx[None, :], (n < NK)[None, :],
            bias_row, bias_head, NK, G, BIAS, TAIL, COMPILED,
        )  # fmt: skip
    factor = scale
    if COSINE:
        factor = tl.load(logit_scale + h).to(tl.float32)
    sum_bias = tl.zeros((16, 64) if D_BIAS == 2 else (BM, BN), tl.float32)
    if D_BIAS == 2:
        distances = column_distances(q.dtype.element_ty)
    sum_scale = tl.zeros((BM,), tl.float32)
    sum_k, sum_v = tl.zeros((BD,), tl.float32), tl.zeros((BD,), tl.float32)

    for number in range(group * per_program, tl.minimum((group + 1) * per_program, windows)):
        zero = unhoisted(0, COMPILED)
        my, mx, ny, nx = (m + zero) // G[1], (m + zero) % G[1], (n + zero) // G[5], (n + zero) % G[5]
        b, wy, wx = window_of(number, NY, NX)
        b = b.to(tl.int64)
        qy, qx = query_frames(wy, wx, H, W, NY, NX, G)
        ky, kx = key_frames(wy, wx, H, W, NY, NX, G)
        keep_q, keep_k, inside_k = tl.arange(0, BM) < NQ, n < NK, n < NK
        if G[11] > 0:
            keep_q = keep_q & within(my, mx, qy, qx)
            inside_k = within(ny, nx, ky, kx)
            keep_k = keep_k & inside_k
        at_q = offsets(my, mx, qy, qx, q_y, q_x, G, ALIGN, WIDE)
        at_k = at_q
        if not SAME:
            at_k = offsets(ny, nx, ky, kx, k_y, k_x, G, ALIGN, WIDE)
        q_own = q + tl.multiple_of(b * q_b + h * q_h + q_start + origin(qy, qx, q_y, q_x), ALIGN)
        k_own = k + tl.multiple_of(b * k_b + h * k_h + k_start + origin(ky, kx, k_y, k_x), ALIGN)
        v_own = v + tl.multiple_of(b * k_b + h * k_h + v_start + origin(ky, kx, k_y, k_x), ALIGN)
        g_own = grad + tl.multiple_of(b * H * W * C + h * D + origin(qy, qx, W * C, C), EVEN)
        qt = gather(q_own, at_q, keep_q, q_d, D, BD, MASK_Q)
        kt = gather(k_own, at_k, keep_k, k_d, D, BD, MASK_K)
        vt = gather(v_own, at_k, keep_k, k_d, D, BD, MASK_K)
        gt = gather(g_own, offsets(my, mx, qy, qx, W * C, C, G, EVEN, WIDE), keep_q, 1, D, BD, MASK_Q)
        if G[11] == 2:
            kt = with_token(kt, inside_k, token, (HEADS + h) * D, D, BD)
            vt = with_token(vt, inside_k, token, (2 * HEADS + h) * D, D, BD)

        rq, rk, rq_column, rk_row = 0.0, 0.0, 0.0, 0.0
        if COSINE:
            rq, rk = reciprocal_norm(qt), reciprocal_norm(kt)
            rq_column, rk_row = rq[:, None], rk[None, :]
        s = logits(
            qt, kt, factor, rq_column, rk_row, b_tile,
            my[:, None], mx[:, None], ny[None, :], nx[None, :], qy, qx, ky, kx,
            near_seam(qy, qx, ky, kx, G), penalty, COSINE, BIAS > 0 or TAIL, SEAM, PRECISION,
        )  # fmt: skip
        if COSINE:
            # Products of unit vectors: a reciprocal norm of 1e12 would overflow beside a half-precision gradient.
            qt = (qt.to(tl.float32) * rq_column).to(qt.dtype)
            kt = (kt.to(tl.float32) * rk[:, None]).to(kt.dtype)
        p = tl.exp2(s * LOG2E - (tl.max(s, 1) * LOG2E)[:, None])
        p = p * (1.0 / tl.sum(p, 1))[:, None]
        dv_tile = tl.dot(tl.trans(p.to(vt.dtype)), gt, input_precision=PRECISION)
        dp = tl.dot(gt, tl.trans(vt), input_precision=PRECISION)
        ds = p * (dp - tl.sum(p * dp, 1)[:, None])
        if D_BIAS == 1:
            sum_bias += ds
        ds = ds.to(qt.dtype)
        if D_BIAS == 2:
            sum_bias += sum_by_distance(ds, distances, 64, PRECISION)
        dq_tile = tl.dot(ds, kt, input_precision=PRECISION)
        dk_tile = tl.dot(tl.trans(ds), qt, input_precision=PRECISION)
        if COSINE:
            dq_tile, along = through_norm(dq_tile, qt, rq)
            dk_tile, _ = through_norm(dk_tile, kt, rk)
            sum_scale += along
        dq_tile, dk_tile = dq_tile * factor, dk_tile * factor

        dq_own = dq + tl.multiple_of(b * H * W * dq_x + dq_start + h * D + origin(qy, qx, W * dq_x, dq_x), EVEN)
        at_dq = offsets(my, mx, qy, qx, W * dq_x, dq_x, G, EVEN, WIDE)
        scatter(dq_own, at_dq, keep_q, dq_tile, D, BD, MASK_Q)
        if DIRECT:
            width, height = kx[4], ky[4]
            dk_own = b * height * width * dk_x + h * D + origin(ky, kx, width * dk_x, dk_x)
            at_dk = at_dq
            if not SAME:
                at_dk = offsets(ny, nx, ky, kx, width * dk_x, dk_x, G, EVEN, WIDE)
        else:
            dk_own = (b * 0 + number) * NK * dk_x + h * D
            at_dk = tl.multiple_of(n * dk_x, EVEN)
            keep_k = n < NK
        scatter(dk + tl.multiple_of(dk_start + dk_own, EVEN), at_dk, keep_k, dk_tile, D, BD, MASK_K)
        scatter(dv + tl.multiple_of(dv_start + dk_own, EVEN), at_dk, keep_k, dv_tile, D, BD, MASK_K)
        if G[11] == 2:
            beyond = ((n < NK) & (inside_k == 0))[:, None]
            sum_k += tl.sum(tl.where(beyond, dk_tile, 0.0), 0)
            sum_v += tl.sum(tl.where(beyond, dv_tile, 0.0), 0)

    own = group * HEADS + h
    if D_BIAS == 1:
        live = (tl.arange(0, BM) < NQ)[:, None] & (n < NK)[None, :]
        tl.store(d_bias + own.to(tl.int64) * (NQ * NK) + m[:, None] * NK + n[None, :], sum_bias, mask=live)
    if D_BIAS == 2:
        at = tl.arange(0, 16)[:, None] * 64 + tl.arange(0, 64)[None, :]
        tl.store(d_bias + own.to(tl.int64) * 1024 + at, sum_bias)
    if COSINE:
        tl.store(d_scale + own, tl.sum(sum_scale, 0))
    if G[11] == 2:
        tl.store(d_token + own * (2 * D) + c, sum_k, mask=c < D)
        tl.store(d_token + own * (2 * D) + D + c, sum_v, mask=c < D)

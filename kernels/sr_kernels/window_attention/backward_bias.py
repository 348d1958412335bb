"""Backward kernels of window attention that sum the bias gradient of large windows in registers, window after window."""

import triton
import triton.language as tl

from sr_kernels.window_attention.backward_streaming import against_queries, load_keys, store_keys
from sr_kernels.window_attention.tiles import (
    LOG2E,
    bias_tile,
    gather,
    key_frames,
    logits,
    near_seam,
    offsets,
    origin,
    query_frames,
    reciprocal_norm,
    through_norm,
    unhoisted,
    window_of,
    within,
)


@triton.jit
def bias_backward(
    q, k, v, bias, logit_scale, token, grad, lse, delta, d_bias,
    q_start, k_start, v_start, q_b, q_y, q_x, q_h, q_d, k_b, k_y, k_x, k_h, k_d,
    H, W, NY, NX, windows, scale, penalty, bias_row, bias_head, per_program,
    G: tl.constexpr, HEADS: tl.constexpr, D: tl.constexpr, NQ: tl.constexpr, NK: tl.constexpr,
    BIAS: tl.constexpr, COSINE: tl.constexpr, SEAM: tl.constexpr, PRECISION: tl.constexpr, COMPILED: tl.constexpr,
    ALIGN: tl.constexpr, EVEN: tl.constexpr, WIDE: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr, BD: tl.constexpr,
):  # fmt: skip
    """A program owns BM x BN pairs of one head and adds up the gradient of their logits over `per_program` windows.

    Reads one tile of q, k, v and output gradient for each window; writes the sum once, one for each group of windows.
    """
    C: tl.constexpr = HEADS * D
    h = tl.program_id(0) % HEADS
    tile = tl.program_id(0) // HEADS
    ROWS: tl.constexpr = (NQ + BM - 1) // BM
    COLUMNS: tl.constexpr = (NK + BN - 1) // BN
    TAIL: tl.constexpr = NK % BN > 0
    m = tile % ROWS * BM + tl.arange(0, BM)
    n = tile // ROWS % COLUMNS * BN + tl.arange(0, BN)
    group = tile // (ROWS * COLUMNS)
    my, mx = tl.minimum(m, NQ - 1) // G[1], tl.minimum(m, NQ - 1) % G[1]
    ny, nx = tl.minimum(n, NK - 1) // G[5], tl.minimum(n, NK - 1) % G[5]
    b_tile = bias_tile(
        bias, h, my[:, None], mx[:, None], ny[None, :], nx[None, :], (n < NK)[None, :],
        bias_row, bias_head, NK, G, BIAS, False, COMPILED,
    )  # fmt: skip
    factor = scale
    if COSINE:
        factor = tl.load(logit_scale + h).to(tl.float32)
    total = tl.zeros((BM, BN), tl.float32)
    for number in range(group * per_program, tl.minimum((group + 1) * per_program, windows)):
        b, wy, wx = window_of(number, NY, NX)
        b = b.to(tl.int64)
        qy, qx = query_frames(wy, wx, H, W, NY, NX, G)
        ky, kx = key_frames(wy, wx, H, W, NY, NX, G)
        keep = m < NQ
        if G[11] > 0:
            keep = keep & within(my, mx, qy, qx)
        q_own = q + tl.multiple_of(b * q_b + h * q_h + q_start + origin(qy, qx, q_y, q_x), ALIGN)
        k_own = k + tl.multiple_of(b * k_b + h * k_h + k_start + origin(ky, kx, k_y, k_x), ALIGN)
        v_own = v + tl.multiple_of(b * k_b + h * k_h + v_start + origin(ky, kx, k_y, k_x), ALIGN)
        g_own = grad + tl.multiple_of(b * H * W * C + h * D + origin(qy, qx, W * C, C), EVEN)
        at_q = offsets(my, mx, qy, qx, q_y, q_x, G, ALIGN, WIDE)
        qt = gather(q_own, at_q, keep, q_d, D, BD, NQ % BM > 0 or G[11] > 0)
        at_g = offsets(my, mx, qy, qx, W * C, C, G, EVEN, WIDE)
        gt = gather(g_own, at_g, keep, 1, D, BD, NQ % BM > 0 or G[11] > 0)
        kt, vt, _ = load_keys(
            k_own, v_own, token, ny, nx, n < NK, ky, kx, h, k_y, k_x, k_d, G, HEADS, D, ALIGN, WIDE, BD, TAIL
        )
        row = (h + number * HEADS).to(tl.int64) * NQ + m
        top = tl.load(lse + row, mask=m < NQ, other=float("inf")) * LOG2E
        drop = tl.load(delta + row, mask=m < NQ, other=0.0)
        rq, rk = 0.0, 0.0
        if COSINE:
            rq, rk = reciprocal_norm(qt)[:, None], reciprocal_norm(kt)[None, :]
        s = logits(
            qt, kt, factor, rq, rk, b_tile, my[:, None], mx[:, None], ny[None, :], nx[None, :], qy, qx, ky, kx,
            near_seam(qy, qx, ky, kx, G), penalty, COSINE, True, SEAM, PRECISION,
        )  # fmt: skip
        p = tl.exp2(s * LOG2E - top[:, None])
        total += p * (tl.dot(gt, tl.trans(vt), input_precision=PRECISION) - drop[:, None])
    own = (group * HEADS + h).to(tl.int64) * (NQ * NK)
    tl.store(d_bias + own + m[:, None] * NK + n[None, :], total, mask=(m < NQ)[:, None] & (n < NK)[None, :])


@triton.jit
def keys_bias_backward(
    q, k, v, bias, logit_scale, token, grad, lse, delta, dk, dv, d_token, d_bias,
    q_start, k_start, v_start, q_b, q_y, q_x, q_h, q_d, k_b, k_y, k_x, k_h, k_d, dk_start, dv_start, dk_x,
    H, W, NY, NX, windows, scale, penalty, bias_row, bias_head, per_program,
    G: tl.constexpr, HEADS: tl.constexpr, D: tl.constexpr, NQ: tl.constexpr, NK: tl.constexpr,
    BIAS: tl.constexpr, COSINE: tl.constexpr, SEAM: tl.constexpr, PRECISION: tl.constexpr, COMPILED: tl.constexpr,
    DIRECT: tl.constexpr,
    ALIGN: tl.constexpr, EVEN: tl.constexpr, WIDE: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr, BD: tl.constexpr,
    MC: tl.constexpr,
):  # fmt: skip
    """`keys_backward` and `bias_backward` in one pass, for at most four tiles of queries.

    A program owns one head of BN keys and works on `per_program` windows one after the other, so that the gradient of
    the logits of all queries with its keys gathers in registers: up to four tiles (BN, BM), written once.
    """
    C: tl.constexpr = HEADS * D
    h = tl.program_id(0) % HEADS
    TILES: tl.constexpr = (NK + BN - 1) // BN
    TAIL: tl.constexpr = NK % BN > 0
    group = tl.program_id(0) // HEADS // TILES
    tile = tl.program_id(0) // HEADS % TILES
    factor = scale
    if COSINE:
        factor = tl.load(logit_scale + h).to(tl.float32)
    MR: tl.constexpr = BM // MC
    ACROSS: tl.constexpr = (G[1] + MC - 1) // MC
    DOWN: tl.constexpr = (G[0] + MR - 1) // MR
    TAIL_Q: tl.constexpr = G[1] % MC > 0 or G[0] % MR > 0
    tl.static_assert(DOWN * ACROSS <= 8)
    m = tl.arange(0, BM)
    total_0 = tl.zeros((BN, BM), tl.float32)
    total_1, total_2, total_3, total_4, total_5, total_6, total_7 = (
        total_0, total_0, total_0, total_0, total_0, total_0, total_0,
    )  # fmt: skip
    sum_k, sum_v = tl.zeros((BD,), tl.float32), tl.zeros((BD,), tl.float32)

    for number in range(group * per_program, tl.minimum((group + 1) * per_program, windows)):
        n = unhoisted(tile, COMPILED) * BN + tl.arange(0, BN)
        ny, nx = tl.minimum(n, NK - 1) // G[5], tl.minimum(n, NK - 1) % G[5]
        b, wy, wx = window_of(number, NY, NX)
        b = b.to(tl.int64)
        qy, qx = query_frames(wy, wx, H, W, NY, NX, G)
        ky, kx = key_frames(wy, wx, H, W, NY, NX, G)
        q_own = q + tl.multiple_of(b * q_b + h * q_h + q_start + origin(qy, qx, q_y, q_x), ALIGN)
        g_own = grad + tl.multiple_of(b * H * W * C + h * D + origin(qy, qx, W * C, C), EVEN)
        k_own = k + tl.multiple_of(b * k_b + h * k_h + k_start + origin(ky, kx, k_y, k_x), ALIGN)
        v_own = v + tl.multiple_of(b * k_b + h * k_h + v_start + origin(ky, kx, k_y, k_x), ALIGN)
        kt, vt, keep_k = load_keys(
            k_own, v_own, token, ny, nx, n < NK, ky, kx, h, k_y, k_x, k_d, G, HEADS, D, ALIGN, WIDE, BD, TAIL
        )
        near = near_seam(qy, qx, ky, kx, G)
        rk = 0.0
        if COSINE:
            rk = reciprocal_norm(kt)[:, None]
        dk_tile = tl.zeros((BN, BD), tl.float32)
        dv_tile = tl.zeros((BN, BD), tl.float32)
        for step in range(DOWN * ACROSS):
            my, mx = step // ACROSS * MR + m // MC, step % ACROSS * MC + m % MC
            dk_tile, dv_tile, ds = against_queries(
                kt, vt, q_own, g_own, bias, lse, delta, dk_tile, dv_tile, (h + number * HEADS).to(tl.int64) * NQ,
                my, mx, ny, nx, qy, qx, ky, kx, h, near, factor, rk, penalty, q_y, q_x, q_d, W, bias_row, bias_head,
                G, HEADS, D, NK, BIAS, COSINE, SEAM, PRECISION, COMPILED, ALIGN, EVEN, WIDE, BD, TAIL_Q,
            )  # fmt: skip
            if step == 0:
                total_0 += ds
            if step == 1:
                total_1 += ds
            if step == 2:
                total_2 += ds
            if step == 3:
                total_3 += ds
            if step == 4:
                total_4 += ds
            if step == 5:
                total_5 += ds
            if step == 6:
                total_6 += ds
            if step == 7:
                total_7 += ds
        if COSINE:
            dk_tile, _ = through_norm(dk_tile, kt.to(tl.float32) * rk, tl.reshape(rk, (BN,)))
        dk_tile = dk_tile * factor
        n = unhoisted(tile, COMPILED) * BN + tl.arange(0, BN)
        ny, nx = tl.minimum(n, NK - 1) // G[5], tl.minimum(n, NK - 1) % G[5]
        keep_k = n < NK
        if G[11] > 0:
            keep_k = keep_k & within(ny, nx, ky, kx)
        store_keys(
            dk, dv, dk_tile, dv_tile, b, number, n, ny, nx, ky, kx, keep_k, h, dk_start, dv_start, dk_x,
            G, D, NK, DIRECT, EVEN, WIDE, BD, TAIL,
        )  # fmt: skip
        if G[11] == 2:
            beyond = ((n < NK) & (keep_k == 0))[:, None]
            sum_k += tl.sum(tl.where(beyond, dk_tile, 0.0), 0)
            sum_v += tl.sum(tl.where(beyond, dv_tile, 0.0), 0)

    n = tile * BN + tl.arange(0, BN)
    own = d_bias + (group * HEADS + h).to(tl.int64) * (NQ * NK) + n[:, None]
    for step in tl.static_range(DOWN * ACROSS):
        my, mx = step // ACROSS * MR + m // MC, step % ACROSS * MC + m % MC
        at = own + (my * G[1] + mx)[None, :] * NK
        live = (n < NK)[:, None] & ((my < G[0]) & (mx < G[1]))[None, :]
        total = total_0
        if step == 1:
            total = total_1
        if step == 2:
            total = total_2
        if step == 3:
            total = total_3
        if step == 4:
            total = total_4
        if step == 5:
            total = total_5
        if step == 6:
            total = total_6
        if step == 7:
            total = total_7
        tl.store(at, total, mask=live)
    if G[11] == 2:
        c = tl.arange(0, BD)
        sums = d_token + tl.program_id(0).to(tl.int64) * (2 * D)
        tl.store(sums + c, sum_k, mask=c < D)
        tl.store(sums + D + c, sum_v, mask=c < D)

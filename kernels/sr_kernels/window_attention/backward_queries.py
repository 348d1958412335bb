"""Backward kernel of window attention for the queries of large windows, given log sum exp from the forward pass.

Two or three passes over the scores, each owning what it sums, so that nothing is added atomically: gradients of the
queries (with those of the bias table where that pays), of keys and values (backward_keys.py), and of other biases
(backward_bias.py). Dao, FlashAttention-2, arXiv 2307.08691, has the first two.
"""

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
def load_keys(
    k_own, v_own, token, ny, nx, live, ky, kx, h, k_y, k_x, k_d,
    G: tl.constexpr, HEADS: tl.constexpr, D: tl.constexpr, ALIGN: tl.constexpr, WIDE: tl.constexpr, BD: tl.constexpr,
    TAIL: tl.constexpr,
):  # fmt: skip
    """Vectors of keys and values at (ny, nx) of a window, and which of them lie inside the map."""
    keep = live
    if G[11] > 0:
        keep = live & within(ny, nx, ky, kx)
    offset = offsets(ny, nx, ky, kx, k_y, k_x, G, ALIGN, WIDE)
    kt = gather(k_own, offset, keep, k_d, D, BD, TAIL or G[11] > 0)
    vt = gather(v_own, offset, keep, k_d, D, BD, TAIL or G[11] > 0)
    if G[11] == 2:
        kt = with_token(kt, keep, token, (HEADS + h) * D, D, BD)
        vt = with_token(vt, keep, token, (2 * HEADS + h) * D, D, BD)
    return kt, vt, keep


@triton.jit
def queries_backward(
    q, k, v, bias, logit_scale, token, out, grad, lse, delta, dq, d_scale, d_bias,
    q_start, k_start, v_start, q_b, q_y, q_x, q_h, q_d, k_b, k_y, k_x, k_h, k_d, dq_start, dq_x,
    H, W, NY, NX, windows, scale, penalty, bias_row, bias_head, per_program,
    G: tl.constexpr, HEADS: tl.constexpr, D: tl.constexpr, NQ: tl.constexpr, NK: tl.constexpr,
    BIAS: tl.constexpr, COSINE: tl.constexpr, SEAM: tl.constexpr, PRECISION: tl.constexpr, COMPILED: tl.constexpr,
    ALIGN: tl.constexpr, EVEN: tl.constexpr, WIDE: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr, BD: tl.constexpr,
    MC: tl.constexpr, KC: tl.constexpr, D_TABLE: tl.constexpr, STAGES: tl.constexpr,
):  # fmt: skip
    """A program owns one head of BM queries in each of `per_program` windows and streams over their keys.

    Reads q, output and output gradient once, k and v once a program; writes the gradient of its queries, its part of
    that of the logit scale, and delta = <output, output gradient>, which the other kernels read.

    D_TABLE: it also sums the gradient of the bias table in registers, for each key tile by column distance, and writes
    it once. Tiles are then of 8 x 8 queries and BN / 8 x 8 keys, at most nine of these.
    """
    C: tl.constexpr = HEADS * D
    h = tl.program_id(0) % HEADS
    MR: tl.constexpr = BM // MC
    M_ACROSS: tl.constexpr = (G[1] + MC - 1) // MC
    M_DOWN: tl.constexpr = (G[0] + MR - 1) // MR
    TAIL_Q: tl.constexpr = G[1] % MC > 0 or G[0] % MR > 0
    MASK_Q: tl.constexpr = TAIL_Q or G[11] > 0
    tile = tl.program_id(0) // HEADS % (M_DOWN * M_ACROSS)
    group = tl.program_id(0) // HEADS // (M_DOWN * M_ACROSS)
    m, n = tl.arange(0, BM), tl.arange(0, BN)
    factor = scale
    if COSINE:
        factor = tl.load(logit_scale + h).to(tl.float32)
    KR: tl.constexpr = BN // KC
    ACROSS: tl.constexpr = (G[5] + KC - 1) // KC
    DOWN: tl.constexpr = (G[4] + KR - 1) // KR
    TAIL: tl.constexpr = G[5] % KC > 0 or G[4] % KR > 0
    sum_scale = tl.zeros((BM,), tl.float32)
    if D_TABLE:
        tl.static_assert(BM == 64 and MC == 8 and KC == 8 and DOWN * ACROSS <= 9)
        distances = column_distances(q.dtype.element_ty)
        sum_0 = tl.zeros((16, BN), tl.float32)
        sum_1, sum_2, sum_3, sum_4, sum_5, sum_6, sum_7, sum_8 = (
            sum_0, sum_0, sum_0, sum_0, sum_0, sum_0, sum_0, sum_0,
        )  # fmt: skip

    for number in range(group * per_program, tl.minimum((group + 1) * per_program, windows)):
        cell = unhoisted(tile, COMPILED)
        my, mx = cell // M_ACROSS * MR + m // MC, cell % M_ACROSS * MC + m % MC
        live_q = (my < G[0]) & (mx < G[1])
        if TAIL_Q:
            my, mx = tl.minimum(my, G[0] - 1), tl.minimum(mx, G[1] - 1)
        b, wy, wx = window_of(number, NY, NX)
        b = b.to(tl.int64)
        qy, qx = query_frames(wy, wx, H, W, NY, NX, G)
        ky, kx = key_frames(wy, wx, H, W, NY, NX, G)
        near = near_seam(qy, qx, ky, kx, G)
        keep = live_q
        if G[11] > 0:
            keep = keep & within(my, mx, qy, qx)
        q_own = q + tl.multiple_of(b * q_b + h * q_h + q_start + origin(qy, qx, q_y, q_x), ALIGN)
        k_own = k + tl.multiple_of(b * k_b + h * k_h + k_start + origin(ky, kx, k_y, k_x), ALIGN)
        v_own = v + tl.multiple_of(b * k_b + h * k_h + v_start + origin(ky, kx, k_y, k_x), ALIGN)
        o_own = tl.multiple_of(b * H * W * C + h * D + origin(qy, qx, W * C, C), EVEN)
        at_o = offsets(my, mx, qy, qx, W * C, C, G, EVEN, WIDE)
        qt = gather(q_own, offsets(my, mx, qy, qx, q_y, q_x, G, ALIGN, WIDE), keep, q_d, D, BD, MASK_Q)
        gt = gather(grad + o_own, at_o, keep, 1, D, BD, MASK_Q)
        ot = gather(out + o_own, at_o, keep, 1, D, BD, MASK_Q)
        row = (h + number * HEADS).to(tl.int64) * NQ + my * G[1] + mx
        drop = tl.sum(ot.to(tl.float32) * gt.to(tl.float32), 1)
        tl.store(delta + row, drop, mask=live_q)
        top = tl.load(lse + row, mask=live_q, other=float("inf")) * LOG2E
        rq = 0.0
        if COSINE:
            rq = reciprocal_norm(qt)[:, None]

        dq_tile = tl.zeros((BM, BD), tl.float32)
        for step in tl.range(0, DOWN * ACROSS, num_stages=STAGES):
            ny, nx = step // ACROSS * KR + n // KC, step % ACROSS * KC + n % KC
            live = (ny < G[4]) & (nx < G[5])
            kt, vt, _ = load_keys(
                k_own, v_own, token, ny, nx, live, ky, kx, h, k_y, k_x, k_d, G, HEADS, D, ALIGN, WIDE, BD, TAIL
            )
            b_tile, rk = 0.0, 0.0
            if BIAS > 0 or TAIL:
                b_tile = bias_tile(
                    bias, h, my[:, None], mx[:, None], ny[None, :], nx[None, :], live[None, :],
                    bias_row, bias_head, NK, G, BIAS, TAIL, COMPILED,
                )  # fmt: skip
            if COSINE:
                rk = reciprocal_norm(kt)[None, :]
            s = logits(
                qt, kt, factor, rq, rk, b_tile, my[:, None], mx[:, None], ny[None, :], nx[None, :], qy, qx, ky, kx,
                near, penalty, COSINE, BIAS > 0 or TAIL, SEAM, PRECISION,
            )  # fmt: skip
            p = tl.exp2(s * LOG2E - top[:, None])
            ds = p * (tl.dot(gt, tl.trans(vt), input_precision=PRECISION) - drop[:, None])
            if COSINE:
                kt = (kt.to(tl.float32) * tl.trans(rk)).to(kt.dtype)
            ds = ds.to(kt.dtype)
            dq_tile = tl.dot(ds, kt, dq_tile, input_precision=PRECISION)
            if D_TABLE:
                added = sum_by_distance(ds, distances, BN, PRECISION)
                if step == 0:
                    sum_0 += added
                if DOWN * ACROSS > 1:  # noqa: SIM102, the first is decided at compile time
                    if step == 1:
                        sum_1 += added
                if DOWN * ACROSS > 2:  # noqa: SIM102, the first is decided at compile time
                    if step == 2:
                        sum_2 += added
                if DOWN * ACROSS > 3:  # noqa: SIM102, the first is decided at compile time
                    if step == 3:
                        sum_3 += added
                if DOWN * ACROSS > 4:  # noqa: SIM102, the first is decided at compile time
                    if step == 4:
                        sum_4 += added
                if DOWN * ACROSS > 5:  # noqa: SIM102, the first is decided at compile time
                    if step == 5:
                        sum_5 += added
                if DOWN * ACROSS > 6:  # noqa: SIM102, the first is decided at compile time
                    if step == 6:
                        sum_6 += added
                if DOWN * ACROSS > 7:  # noqa: SIM102, the first is decided at compile time
                    if step == 7:
                        sum_7 += added
                if DOWN * ACROSS > 8:  # noqa: SIM102, the first is decided at compile time
                    if step == 8:
                        sum_8 += added
        if COSINE:
            unit = qt.to(tl.float32) * rq
            dq_tile, along = through_norm(dq_tile, unit, tl.reshape(rq, (BM,)))
            sum_scale += along
        dq_own = dq + tl.multiple_of(b * H * W * dq_x + dq_start + h * D + origin(qy, qx, W * dq_x, dq_x), EVEN)
        scatter(dq_own, offsets(my, mx, qy, qx, W * dq_x, dq_x, G, EVEN, WIDE), keep, dq_tile * factor, D, BD, MASK_Q)

    if COSINE:
        tl.store(d_scale + tl.program_id(0), tl.sum(sum_scale, 0))
    if D_TABLE:
        own = d_bias + tl.program_id(0).to(tl.int64) * (DOWN * ACROSS * 16 * BN)
        at = own + tl.arange(0, 16)[:, None] * BN + n[None, :]
        for step in tl.static_range(DOWN * ACROSS):
            total = sum_0
            if step == 1:
                total = sum_1
            if step == 2:
                total = sum_2
            if step == 3:
                total = sum_3
            if step == 4:
                total = sum_4
            if step == 5:
                total = sum_5
            if step == 6:
                total = sum_6
            if step == 7:
                total = sum_7
            if step == 8:
                total = sum_8
            tl.store(at + step * (16 * BN), total)

"""Backward kernel of window attention for the bias of large windows that `queries_backward` cannot sum by distances."""

# What `triton.jit` compiles is no Python that a type checker knows: constexpr branches, tensors of one class.
# pyright: reportPossiblyUnboundVariable=false, reportOperatorIssue=false, reportArgumentType=false, reportCallIssue=false
# pyright: reportIndexIssue=false, reportGeneralTypeIssues=false, reportAttributeAccessIssue=false

import triton
import triton.language as tl

from sr_kernels.window_attention.backward_queries import load_keys
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

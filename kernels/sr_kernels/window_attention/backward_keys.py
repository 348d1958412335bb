"""Backward kernel of window attention for the keys and values of large windows."""

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
    scatter,
    through_norm,
    window_of,
    within,
)


@triton.jit
def against_queries(
    kt, vt, q_own, g_own, bias, lse, delta, dk_tile, dv_tile, rows,
    my, mx, ny, nx, qy, qx, ky, kx, h, near, factor, rk, penalty, q_y, q_x, q_d, W, bias_row, bias_head,
    G: tl.constexpr, HEADS: tl.constexpr, D: tl.constexpr, NK: tl.constexpr,
    BIAS: tl.constexpr, COSINE: tl.constexpr, SEAM: tl.constexpr, PRECISION: tl.constexpr, COMPILED: tl.constexpr,
    ALIGN: tl.constexpr, EVEN: tl.constexpr, WIDE: tl.constexpr, BD: tl.constexpr, TAIL_Q: tl.constexpr,
):  # fmt: skip
    """Keys and values of a tile against queries (my, mx): their gradients so far and that of the transposed logits."""
    C: tl.constexpr = HEADS * D
    live = (my < G[0]) & (mx < G[1])
    if TAIL_Q:
        my, mx = tl.minimum(my, G[0] - 1), tl.minimum(mx, G[1] - 1)
    keep = live
    if G[11] > 0:
        keep = live & within(my, mx, qy, qx)
    qt = gather(q_own, offsets(my, mx, qy, qx, q_y, q_x, G, ALIGN, WIDE), keep, q_d, D, BD, TAIL_Q or G[11] > 0)
    gt = gather(g_own, offsets(my, mx, qy, qx, W * C, C, G, EVEN, WIDE), keep, 1, D, BD, TAIL_Q or G[11] > 0)
    row = rows + my * G[1] + mx
    top = tl.load(lse + row, mask=live, other=float("inf")) * LOG2E
    drop = tl.load(delta + row, mask=live, other=0.0)
    b_tile, rq = 0.0, 0.0
    if BIAS > 0:
        b_tile = bias_tile(
            bias, h, my[None, :], mx[None, :], ny[:, None], nx[:, None], live[None, :],
            bias_row, bias_head, NK, G, BIAS, False, COMPILED,
        )  # fmt: skip
    if COSINE:
        rq = reciprocal_norm(qt)[None, :]
    s = logits(
        kt, qt, factor, rk, rq, b_tile, ny[:, None], nx[:, None], my[None, :], mx[None, :], ky, kx, qy, qx,
        near, penalty, COSINE, BIAS > 0, SEAM, PRECISION,
    )  # fmt: skip
    p = tl.exp2(s * LOG2E - top[None, :])
    dv_tile = tl.dot(p.to(gt.dtype), gt, dv_tile, input_precision=PRECISION)
    ds = p * (tl.dot(vt, tl.trans(gt), input_precision=PRECISION) - drop[None, :])
    if COSINE:
        qt = (qt.to(tl.float32) * tl.trans(rq)).to(qt.dtype)
    dk_tile = tl.dot(ds.to(qt.dtype), qt, dk_tile, input_precision=PRECISION)
    return dk_tile, dv_tile, ds


@triton.jit
def store_keys(
    dk, dv, dk_tile, dv_tile, b, number, n, ny, nx, ky, kx, keep, h, dk_start, dv_start, dk_x,
    G: tl.constexpr, D: tl.constexpr, NK: tl.constexpr, DIRECT: tl.constexpr,
    EVEN: tl.constexpr, WIDE: tl.constexpr, BD: tl.constexpr, TAIL: tl.constexpr,
):  # fmt: skip
    """Gradients of keys and values n of a window: onto their map, or if windows share keys, apart for each window."""
    if DIRECT:
        width, height = kx[4], ky[4]
        own = b * height * width * dk_x + h * D + origin(ky, kx, width * dk_x, dk_x)
        at = offsets(ny, nx, ky, kx, width * dk_x, dk_x, G, EVEN, WIDE)
    else:
        own = (b * 0 + number) * NK * dk_x + h * D
        at = tl.multiple_of(n * dk_x, EVEN)
        keep = n < NK
    scatter(dk + tl.multiple_of(dk_start + own, EVEN), at, keep, dk_tile, D, BD, TAIL or G[11] > 0)
    scatter(dv + tl.multiple_of(dv_start + own, EVEN), at, keep, dv_tile, D, BD, TAIL or G[11] > 0)


@triton.jit
def keys_backward(
    q, k, v, bias, logit_scale, token, grad, lse, delta, dk, dv, d_token,
    q_start, k_start, v_start, q_b, q_y, q_x, q_h, q_d, k_b, k_y, k_x, k_h, k_d, dk_start, dv_start, dk_x,
    H, W, NY, NX, scale, penalty, bias_row, bias_head,
    G: tl.constexpr, HEADS: tl.constexpr, D: tl.constexpr, NQ: tl.constexpr, NK: tl.constexpr,
    BIAS: tl.constexpr, COSINE: tl.constexpr, SEAM: tl.constexpr,
    PRECISION: tl.constexpr, COMPILED: tl.constexpr, DIRECT: tl.constexpr,
    ALIGN: tl.constexpr, EVEN: tl.constexpr, WIDE: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr, BD: tl.constexpr,
    MC: tl.constexpr, STAGES: tl.constexpr,
):  # fmt: skip
    """A program owns one head of BN keys of one window and streams over its queries, BM / MC rows of MC at a time.

    Scores are held transposed. Reads k and v once, q and output gradient once a program; writes the gradients of its
    keys and values (where windows share keys, one for each window, to be folded) and its part of that of the pad token.
    """
    C: tl.constexpr = HEADS * D
    h = tl.program_id(0) % HEADS
    TILES: tl.constexpr = (NK + BN - 1) // BN
    TAIL: tl.constexpr = NK % BN > 0
    number = tl.program_id(0) // HEADS // TILES
    n = tl.program_id(0) // HEADS % TILES * BN + tl.arange(0, BN)
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
    factor = scale
    rk = 0.0
    if COSINE:
        factor = tl.load(logit_scale + h).to(tl.float32)
        rk = reciprocal_norm(kt)[:, None]

    MR: tl.constexpr = BM // MC
    ACROSS: tl.constexpr = (G[1] + MC - 1) // MC
    DOWN: tl.constexpr = (G[0] + MR - 1) // MR
    TAIL_Q: tl.constexpr = G[1] % MC > 0 or G[0] % MR > 0
    m = tl.arange(0, BM)
    rows = (number * HEADS + h).to(tl.int64) * NQ
    dk_tile = tl.zeros((BN, BD), tl.float32)
    dv_tile = tl.zeros((BN, BD), tl.float32)
    for step in tl.range(0, DOWN * ACROSS, num_stages=STAGES):
        my, mx = step // ACROSS * MR + m // MC, step % ACROSS * MC + m % MC
        dk_tile, dv_tile, _ = against_queries(
            kt, vt, q_own, g_own, bias, lse, delta, dk_tile, dv_tile, rows,
            my, mx, ny, nx, qy, qx, ky, kx, h, near, factor, rk, penalty, q_y, q_x, q_d, W, bias_row, bias_head,
            G, HEADS, D, NK, BIAS, COSINE, SEAM, PRECISION, COMPILED, ALIGN, EVEN, WIDE, BD, TAIL_Q,
        )  # fmt: skip
    if COSINE:
        dk_tile, _ = through_norm(dk_tile, kt.to(tl.float32) * rk, tl.reshape(rk, (BN,)))
    dk_tile = dk_tile * factor
    store_keys(
        dk, dv, dk_tile, dv_tile, b, number, n, ny, nx, ky, kx, keep_k, h, dk_start, dv_start, dk_x,
        G, D, NK, DIRECT, EVEN, WIDE, BD, TAIL,
    )  # fmt: skip
    if G[11] == 2:
        beyond = ((n < NK) & (keep_k == 0))[:, None]
        c = tl.arange(0, BD)
        sums = d_token + tl.program_id(0).to(tl.int64) * (2 * D)
        tl.store(sums + c, tl.sum(tl.where(beyond, dk_tile, 0.0), 0), mask=c < D)
        tl.store(sums + D + c, tl.sum(tl.where(beyond, dv_tile, 0.0), 0), mask=c < D)

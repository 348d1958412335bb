"""Forward kernels of window attention and their launcher.

Both read pixels of the unrolled maps where they lie and write output pixels once; nothing else touches memory but the
bias and, for a later backward of large windows, one float32 per query and head.
"""

# What `triton.jit` compiles is no Python that a type checker knows: constexpr branches, tensors of one class.
# pyright: reportPossiblyUnboundVariable=false, reportOperatorIssue=false, reportArgumentType=false, reportCallIssue=false
# pyright: reportIndexIssue=false, reportGeneralTypeIssues=false, reportAttributeAccessIssue=false

import torch
import triton
import triton.language as tl
from torch import Tensor

from sr_kernels.launch import Launch, Steps
from sr_kernels.window_attention import configs
from sr_kernels.window_attention.arguments import Problem, columns
from sr_kernels.window_attention.tiles import (
    LOG2E,
    LOWEST,
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
    window_of,
    with_token,
    within,
)


@triton.jit
def whole_forward(
    q, k, v, bias, logit_scale, token, out,
    q_start, k_start, v_start, q_b, q_y, q_x, q_h, q_d, k_b, k_y, k_x, k_h, k_d,
    H, W, NY, NX, windows, scale, penalty, bias_row, bias_head, per_program,
    G: tl.constexpr, HEADS: tl.constexpr, D: tl.constexpr, NQ: tl.constexpr, NK: tl.constexpr,
    BIAS: tl.constexpr, COSINE: tl.constexpr, SEAM: tl.constexpr,
    SAME: tl.constexpr, PRECISION: tl.constexpr, COMPILED: tl.constexpr,
    ALIGN: tl.constexpr, EVEN: tl.constexpr, WIDE: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr, BD: tl.constexpr,
):  # fmt: skip
    """A program owns one head of `per_program` windows of at most 64 tokens: all scores of a window in registers.

    Reads the head's bias once, then each q, k and v vector once; writes each output vector once.
    """
    h = tl.program_id(0) % HEADS
    first = tl.program_id(0) // HEADS * per_program
    TAIL_Q: tl.constexpr = NQ < BM
    TAIL: tl.constexpr = NK < BN
    m, n = tl.arange(0, BM), tl.arange(0, BN)
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

    for number in range(first, tl.minimum(first + per_program, windows)):
        b, wy, wx = window_of(number, NY, NX)
        b = b.to(tl.int64)
        qy, qx = query_frames(wy, wx, H, W, NY, NX, G)
        ky, kx = key_frames(wy, wx, H, W, NY, NX, G)
        keep_q, keep_k, inside_k = m < NQ, n < NK, n < NK
        if TAIL_Q:
            keep_q = tl.arange(0, BM) < NQ
        if G[11] > 0:
            keep_q = keep_q & within(my, mx, qy, qx)
            inside_k = within(ny, nx, ky, kx)
            keep_k = keep_k & inside_k
        at_q = offsets(my, mx, qy, qx, q_y, q_x, G, ALIGN, WIDE)
        at_k = at_q
        if not SAME:
            at_k = offsets(ny, nx, ky, kx, k_y, k_x, G, ALIGN, WIDE)
        q_own = q + tl.multiple_of(b * q_b + h * q_h + q_start + origin(qy, qx, q_y, q_x), ALIGN)
        k_own = tl.multiple_of(b * k_b + h * k_h + k_start + origin(ky, kx, k_y, k_x), ALIGN)
        v_own = tl.multiple_of(b * k_b + h * k_h + v_start + origin(ky, kx, k_y, k_x), ALIGN)
        qt = gather(q_own, at_q, keep_q, q_d, D, BD, TAIL_Q or G[11] > 0)
        kt = gather(k + k_own, at_k, keep_k, k_d, D, BD, TAIL or G[11] > 0)
        vt = gather(v + v_own, at_k, keep_k, k_d, D, BD, TAIL or G[11] > 0)
        if G[11] == 2:
            kt = with_token(kt, inside_k, token, (HEADS + h) * D, D, BD)
            vt = with_token(vt, inside_k, token, (2 * HEADS + h) * D, D, BD)

        rq, rk = 0.0, 0.0
        if COSINE:
            rq, rk = reciprocal_norm(qt)[:, None], reciprocal_norm(kt)[None, :]
        s = logits(
            qt, kt, factor, rq, rk, b_tile, my[:, None], mx[:, None], ny[None, :], nx[None, :], qy, qx, ky, kx,
            near_seam(qy, qx, ky, kx, G), penalty, COSINE, BIAS > 0 or TAIL, SEAM, PRECISION,
        )  # fmt: skip
        p = tl.exp2(s * LOG2E - (tl.max(s, 1) * LOG2E)[:, None])
        o = tl.dot(p.to(vt.dtype), vt, input_precision=PRECISION) * (1.0 / tl.sum(p, 1))[:, None]
        C: tl.constexpr = HEADS * D
        o_own = out + b * H * W * C + h * D + origin(qy, qx, W * C, C)
        scatter(o_own, offsets(my, mx, qy, qx, W * C, C, G, EVEN, WIDE), keep_q, o, D, BD, TAIL_Q or G[11] > 0)


@triton.jit
def streaming_forward(
    q, k, v, bias, logit_scale, token, out, lse,
    q_start, k_start, v_start, q_b, q_y, q_x, q_h, q_d, k_b, k_y, k_x, k_h, k_d,
    H, W, NY, NX, scale, penalty, bias_row, bias_head,
    G: tl.constexpr, HEADS: tl.constexpr, D: tl.constexpr, NQ: tl.constexpr, NK: tl.constexpr,
    BIAS: tl.constexpr, COSINE: tl.constexpr, SEAM: tl.constexpr,
    PRECISION: tl.constexpr, COMPILED: tl.constexpr, SAVE: tl.constexpr,
    ALIGN: tl.constexpr, EVEN: tl.constexpr, WIDE: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr, BD: tl.constexpr,
    KC: tl.constexpr, STAGES: tl.constexpr,
):  # fmt: skip
    """A program owns one head of BM queries of one window and streams over its keys, BN / KC rows of KC at a time.

    Reads its q vectors once, the window's k and v once (other programs of the window find them in L2); writes each
    output vector once. The softmax is the online one of Milakov & Gimelshein (arXiv 1805.02867).
    """
    h = tl.program_id(0) % HEADS
    tile = tl.program_id(0) // HEADS
    TILES: tl.constexpr = (NQ + BM - 1) // BM
    TAIL_Q: tl.constexpr = NQ % BM > 0
    number = tile // TILES
    m = tile % TILES * BM + tl.arange(0, BM)
    my, mx = tl.minimum(m, NQ - 1) // G[1], tl.minimum(m, NQ - 1) % G[1]
    b, wy, wx = window_of(number, NY, NX)
    b = b.to(tl.int64)
    qy, qx = query_frames(wy, wx, H, W, NY, NX, G)
    ky, kx = key_frames(wy, wx, H, W, NY, NX, G)
    keep_q = m < NQ
    if G[11] > 0:
        keep_q = keep_q & within(my, mx, qy, qx)
    q_own = q + tl.multiple_of(b * q_b + h * q_h + q_start + origin(qy, qx, q_y, q_x), ALIGN)
    k_own = k + tl.multiple_of(b * k_b + h * k_h + k_start + origin(ky, kx, k_y, k_x), ALIGN)
    v_own = v + tl.multiple_of(b * k_b + h * k_h + v_start + origin(ky, kx, k_y, k_x), ALIGN)
    at_q = offsets(my, mx, qy, qx, q_y, q_x, G, ALIGN, WIDE)
    qt = gather(q_own, at_q, keep_q, q_d, D, BD, TAIL_Q or G[11] > 0)
    near = near_seam(qy, qx, ky, kx, G)
    factor = scale
    rq = 0.0
    if COSINE:
        factor = tl.load(logit_scale + h).to(tl.float32)
        rq = reciprocal_norm(qt)[:, None]

    KR: tl.constexpr = BN // KC
    ACROSS: tl.constexpr = (G[5] + KC - 1) // KC
    DOWN: tl.constexpr = (G[4] + KR - 1) // KR
    TAIL: tl.constexpr = G[5] % KC > 0 or G[4] % KR > 0
    n = tl.arange(0, BN)
    top = tl.full((BM,), LOWEST, tl.float32)
    total = tl.zeros((BM,), tl.float32)
    o = tl.zeros((BM, BD), tl.float32)
    for step in tl.range(0, DOWN * ACROSS, num_stages=STAGES):
        ny, nx = step // ACROSS * KR + n // KC, step % ACROSS * KC + n % KC
        keep_k = (ny < G[4]) & (nx < G[5])
        live = keep_k[None, :]
        if G[11] > 0:
            inside_k = within(ny, nx, ky, kx)
            keep_k = keep_k & inside_k
        at_k = offsets(ny, nx, ky, kx, k_y, k_x, G, ALIGN, WIDE)
        kt = gather(k_own, at_k, keep_k, k_d, D, BD, TAIL or G[11] > 0)
        vt = gather(v_own, at_k, keep_k, k_d, D, BD, TAIL or G[11] > 0)
        if G[11] == 2:
            kt = with_token(kt, inside_k, token, (HEADS + h) * D, D, BD)
            vt = with_token(vt, inside_k, token, (2 * HEADS + h) * D, D, BD)
        rk = 0.0
        if COSINE:
            rk = reciprocal_norm(kt)[None, :]
        b_tile = 0.0
        if BIAS > 0 or TAIL:
            b_tile = bias_tile(
                bias, h, my[:, None], mx[:, None], ny[None, :], nx[None, :], live,
                bias_row, bias_head, NK, G, BIAS, TAIL, COMPILED,
            )  # fmt: skip
        s = logits(
            qt, kt, factor, rq, rk, b_tile, my[:, None], mx[:, None], ny[None, :], nx[None, :], qy, qx, ky, kx,
            near, penalty, COSINE, BIAS > 0 or TAIL, SEAM, PRECISION,
        )  # fmt: skip
        new_top = tl.maximum(top, tl.max(s, 1))
        p = tl.exp2(s * LOG2E - (new_top * LOG2E)[:, None])
        shrink = tl.exp2((top - new_top) * LOG2E)
        total = total * shrink + tl.sum(p, 1)
        o = tl.dot(p.to(vt.dtype), vt, o * shrink[:, None], input_precision=PRECISION)
        top = new_top
    C: tl.constexpr = HEADS * D
    o_own = out + b * H * W * C + h * D + origin(qy, qx, W * C, C)
    at_o = offsets(my, mx, qy, qx, W * C, C, G, EVEN, WIDE)
    scatter(o_own, at_o, keep_q, o * (1.0 / total)[:, None], D, BD, TAIL_Q or G[11] > 0)
    if SAVE:
        tl.store(lse + (number * HEADS + h).to(tl.int64) * NQ + m, top + tl.log(total), mask=m < NQ)


def forward(problem: Problem) -> Steps[tuple[Tensor, Tensor]]:
    """The output (B,H,W,C), and for a streaming backward log sum exp of the logits, (windows, heads, Nq) float32.

    The second is empty unless `problem.training`, and where all scores of a window stay in registers.
    """
    B, H, W = problem.q.shape[:3]
    out = problem.q.new_empty(B, H, W, problem.heads * problem.head_dim)
    lse = out.new_empty(0, dtype=torch.float32)
    if problem.training and not problem.whole:
        lse = lse.new_empty(problem.count, problem.heads, problem.tokens[0])

    def make(config: configs.Config) -> Launch:
        if problem.whole:
            programs = -(-problem.count // config.windows)
            given = {"out": out, "windows": problem.count, "per_program": config.windows}
            return problem.launch(whole_forward, programs * problem.heads, config, given)
        programs = problem.count * -(-problem.tokens[0] // config.queries)
        constants = {
            "SAVE": problem.training,
            "STAGES": config.stages,
            "KC": columns(problem.windows.keys, config.keys),
        }
        given = {"out": out, "lse": lse}
        return problem.launch(streaming_forward, programs * problem.heads, config, given, constants)

    yield configs.best("forward", problem, make)
    return out, lse

"""Forward kernels of window attention and their launcher.

Both read pixels of the unrolled maps where they lie and write output pixels once; nothing else touches memory but the
bias and, for a later backward of large windows, one float32 per query and head.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from sr_kernels.launch import Launch, Steps
from sr_kernels.window_attention import configs
from sr_kernels.window_attention.arguments import Problem
from sr_kernels.window_attention.tiles import (
    LOG2E,
    LOWEST,
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
    window_of,
    with_token,
)


@triton.jit
def whole_forward(
    q, k, v, bias, logit_scale, token, out,
    q_start, k_start, v_start, q_b, q_y, q_x, q_h, q_d, k_b, k_y, k_x, k_h, k_d,
    H, W, NY, NX, windows, scale, penalty, bias_row, bias_head, per_program,
    G: tl.constexpr, HEADS: tl.constexpr, D: tl.constexpr, NQ: tl.constexpr, NK: tl.constexpr,
    BIAS: tl.constexpr, COSINE: tl.constexpr, SEAM: tl.constexpr, PRECISION: tl.constexpr,
    ALIGN: tl.constexpr, WIDE: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr, BD: tl.constexpr,
):  # fmt: skip
    """A program owns one head of `per_program` windows of at most 64 tokens: all scores of a window in registers.

    Reads the head's bias once, then each q, k and v vector once; writes each output vector once.
    """
    h = tl.program_id(0) % HEADS
    first = tl.program_id(0) // HEADS * per_program
    m, n = tl.arange(0, BM), tl.arange(0, BN)
    BIASED: tl.constexpr = BIAS > 0 or NK < BN
    b_tile = 0.0
    if BIAS > 0:
        b_tile = bias_tile(bias, h, m[:, None], n[None, :], bias_row, bias_head, NQ, NK, G, BIAS, NK < BN)
    elif NK < BN:
        b_tile = tl.where(n < NK, 0.0, float("-inf"))[None, :]
    factor = scale
    if COSINE:
        factor = tl.load(logit_scale + h).to(tl.float32)

    for number in range(first, tl.minimum(first + per_program, windows)):
        b, wy, wx = window_of(number, NY, NX)
        y, x, inside, side_q = locate(wy, wx, tl.minimum(m, NQ - 1), H, W, NY, NX, G, False)
        keep = kept(inside, m, NQ, BM, G)
        MASK_Q: tl.constexpr = NQ < BM or G[11] > 0
        q_base = base(q, q_start, b, h, q_b, q_h, ALIGN)
        qt = gather(q_base, spot(y, x, q_y, q_x, ALIGN, WIDE), keep, q_d, D, BD, MASK_Q)
        ky, kx, k_inside, side_k = locate(wy, wx, n, H, W, NY, NX, G, True)
        k_keep = kept(k_inside, n, NK, BN, G)
        MASK_K: tl.constexpr = NK < BN or G[11] > 0
        offset = spot(ky, kx, k_y, k_x, ALIGN, WIDE)
        kt = gather(base(k, k_start, b, h, k_b, k_h, ALIGN), offset, k_keep, k_d, D, BD, MASK_K)
        vt = gather(base(v, v_start, b, h, k_b, k_h, ALIGN), offset, k_keep, k_d, D, BD, MASK_K)
        if G[11] == 2:
            kt = with_token(kt, k_inside, token, (HEADS + h) * D, D, BD)
            vt = with_token(vt, k_inside, token, (2 * HEADS + h) * D, D, BD)

        rq, rk = 0.0, 0.0
        if COSINE:
            rq, rk = reciprocal_norm(qt)[:, None], reciprocal_norm(kt)[None, :]
        apart = side_q[:, None] != side_k[None, :]
        s = logits(qt, kt, factor, rq, rk, b_tile, apart, penalty, COSINE, BIASED, SEAM, PRECISION)
        p = tl.exp2(s * LOG2E - (tl.max(s, 1) * LOG2E)[:, None])
        o = tl.dot(p.to(vt.dtype), vt, input_precision=PRECISION) / tl.sum(p, 1)[:, None]
        scatter(out + h * D, pixel(b, y, x, H, W) * (HEADS * D), keep, o, D, BD)


@triton.jit
def streaming_forward(
    q, k, v, bias, logit_scale, token, out, lse,
    q_start, k_start, v_start, q_b, q_y, q_x, q_h, q_d, k_b, k_y, k_x, k_h, k_d,
    H, W, NY, NX, scale, penalty, bias_row, bias_head,
    G: tl.constexpr, HEADS: tl.constexpr, D: tl.constexpr, NQ: tl.constexpr, NK: tl.constexpr,
    BIAS: tl.constexpr, COSINE: tl.constexpr, SEAM: tl.constexpr, PRECISION: tl.constexpr, SAVE: tl.constexpr,
    ALIGN: tl.constexpr, WIDE: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr, BD: tl.constexpr,
    STAGES: tl.constexpr,
):  # fmt: skip
    """A program owns one head of BM queries of one window and streams over its keys, BN at a time.

    Reads its q vectors once, the window's k and v once (other programs of the window find them in L2); writes each
    output vector once. The softmax is the online one of Milakov & Gimelshein (arXiv 1805.02867).
    """
    h = tl.program_id(0) % HEADS
    tile = tl.program_id(0) // HEADS
    TILES: tl.constexpr = (NQ + BM - 1) // BM
    number = tile // TILES
    m = tile % TILES * BM + tl.arange(0, BM)
    b, wy, wx = window_of(number, NY, NX)
    y, x, inside, side_q = locate(wy, wx, tl.minimum(m, NQ - 1), H, W, NY, NX, G, False)
    keep = kept(inside, m, NQ, BM, G)
    q_base = base(q, q_start, b, h, q_b, q_h, ALIGN)
    qt = gather(q_base, spot(y, x, q_y, q_x, ALIGN, WIDE), keep, q_d, D, BD, NQ % BM > 0 or G[11] > 0)
    k_base, v_base = base(k, k_start, b, h, k_b, k_h, ALIGN), base(v, v_start, b, h, k_b, k_h, ALIGN)
    factor = scale
    rq = 0.0
    if COSINE:
        factor = tl.load(logit_scale + h).to(tl.float32)
        rq = reciprocal_norm(qt)[:, None]

    TAIL: tl.constexpr = NK % BN > 0
    MASK_K: tl.constexpr = TAIL or G[11] > 0
    top = tl.full((BM,), LOWEST, tl.float32)
    total = tl.zeros((BM,), tl.float32)
    o = tl.zeros((BM, BD), tl.float32)
    for start in tl.range(0, NK, BN, num_stages=STAGES):
        n = start + tl.arange(0, BN)
        ky, kx, k_inside, side_k = locate(wy, wx, n, H, W, NY, NX, G, True)
        k_keep = kept(k_inside, n, NK, BN, G)
        offset = spot(ky, kx, k_y, k_x, ALIGN, WIDE)
        kt = gather(k_base, offset, k_keep, k_d, D, BD, MASK_K)
        vt = gather(v_base, offset, k_keep, k_d, D, BD, MASK_K)
        if G[11] == 2:
            kt = with_token(kt, k_inside, token, (HEADS + h) * D, D, BD)
            vt = with_token(vt, k_inside, token, (2 * HEADS + h) * D, D, BD)
        rk = 0.0
        if COSINE:
            rk = reciprocal_norm(kt)[None, :]
        b_tile = 0.0
        if BIAS > 0:
            b_tile = bias_tile(bias, h, m[:, None], n[None, :], bias_row, bias_head, NQ, NK, G, BIAS, TAIL)
        elif TAIL:
            b_tile = tl.where(n < NK, 0.0, float("-inf"))[None, :]
        apart = side_q[:, None] != side_k[None, :]
        s = logits(qt, kt, factor, rq, rk, b_tile, apart, penalty, COSINE, BIAS > 0 or TAIL, SEAM, PRECISION)
        new_top = tl.maximum(top, tl.max(s, 1))
        p = tl.exp2(s * LOG2E - (new_top * LOG2E)[:, None])
        shrink = tl.exp2((top - new_top) * LOG2E)
        total = total * shrink + tl.sum(p, 1)
        o = tl.dot(p.to(vt.dtype), vt, o * shrink[:, None], input_precision=PRECISION)
        top = new_top
    scatter(out + h * D, pixel(b, y, x, H, W) * (HEADS * D), keep, o / total[:, None], D, BD)
    if SAVE:
        tl.store(lse + (number * HEADS + h).to(tl.int64) * NQ + m, top + tl.log(total), mask=m < NQ)


def forward(problem: Problem, save: bool) -> Steps[tuple[Tensor, Tensor]]:
    """The output (B,H,W,C), and for a backward of large windows log sum exp of the logits, (windows, heads, Nq) float32.

    The second is empty unless `save`, and for small windows, whose backward recomputes it.
    """
    B, H, W = problem.q.shape[:3]
    out = problem.q.new_empty(B, H, W, problem.heads * problem.head_dim)
    lse = out.new_empty(0, dtype=torch.float32)
    if save and not problem.whole:
        lse = lse.new_empty(problem.count, problem.heads, problem.tokens[0])

    def make(config: configs.Config) -> Launch:
        if problem.whole:
            programs = -(-problem.count // config.windows)
            given = {"out": out, "windows": problem.count, "per_program": config.windows}
            return problem.launch(whole_forward, programs * problem.heads, config, given)
        programs = problem.count * -(-problem.tokens[0] // config.queries)
        constants = {"SAVE": save, "STAGES": config.stages}
        given = {"out": out, "lse": lse}
        return problem.launch(streaming_forward, programs * problem.heads, config, given, constants)

    yield configs.best("forward", problem, make)
    return out, lse

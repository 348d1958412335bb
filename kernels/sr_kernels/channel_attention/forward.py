"""Channel attention in three Triton kernels: products over spans of pixels, d x d weights, a mix of channels."""

import triton
import triton.language as tl
from torch import Tensor

from sr_kernels.channel_attention import tiling
from sr_kernels.channel_attention.kernels import gram, head_of, row_of_spans, tile_of
from sr_kernels.channel_attention.layout import by_head, empty_output, unpack
from sr_kernels.launch import Launch

Results = tuple[Tensor, Tensor, Tensor, Tensor]


def forward(qkv: list[Tensor], temperature: Tensor, heads: int, layout: str, precision: str) -> Results:
    """The result (B,H,W,C) or (B,C,H,W), A and S (B, heads, d, d), norms (B, heads, 2, d). Checked in api.py."""
    results, launches = plan(qkv, temperature, heads, layout, precision)
    for launch in launches:
        launch.run()
    return results


def plan(
    qkv: list[Tensor], temperature: Tensor, heads: int, layout: str, precision: str
) -> tuple[Results, list[Launch]]:
    """What `forward` returns, not yet filled, and the launches that fill it. Takes `meta` tensors."""
    q, k, v = unpack(qkv, heads, layout)
    problem = tiling.Problem(q, precision)
    d, by_span, by_tile = problem.head_dim, tiling.choose("gram", problem), tiling.choose("mix", problem)
    out = empty_output(qkv, layout)
    attention, cosines, norms = problem.empty(d, d), problem.empty(d, d), problem.empty(2, d)
    count, _ = problem.spans(by_span)
    sums = {"products": problem.empty(count, d, d), "squares": problem.empty(count, 2, d)}
    small = {"temperature": temperature.flatten().contiguous(), "cosines": cosines, "norms": norms}
    launches = [
        problem.over_pixels("gram", gram, by_span, {"x": q, "y": k}, sums, {"SQUARES": True}),
        problem.over_channels("weights", weights, sums | small | {"attention": attention}),
        problem.over_pixels(
            "mix", mix, by_tile, {"v": v, "out": by_head(out, heads, layout)}, {"attention": attention}, {}
        ),
    ]
    return (out, attention, cosines, norms), launches


@triton.jit
def weights(
    products,
    squares,
    temperature,
    attention,
    cosines,
    norms,
    heads,
    spans,
    DIM: tl.constexpr,
    D: tl.constexpr,
    SPANS: tl.constexpr,
    EPS: tl.constexpr,
):
    """One row of the cosines and of their softmax.

    One program owns channel i of q in one head of one picture: it sums row i of the spans' products and the spans'
    squares of k, and writes row i of `cosines` and `attention`, element i of the norms of q and of those of k.
    """
    program = tl.program_id(0)
    i = program % DIM
    head = (program // DIM).to(tl.int64)
    channel = tl.arange(0, D)
    used = channel < DIM
    product = row_of_spans(products + head * spans * (DIM * DIM), i * DIM, channel, spans, DIM * DIM, DIM, D, SPANS)
    q_norm = tl.sqrt(row_of_spans(squares + head * spans * (2 * DIM), 0, channel, spans, 2 * DIM, DIM, D, SPANS))
    k_norm = tl.sqrt(row_of_spans(squares + head * spans * (2 * DIM), DIM, channel, spans, 2 * DIM, DIM, D, SPANS))
    own = channel == i
    length = tl.sum(tl.where(own, q_norm, 0.0), 0)
    cosine = product / tl.maximum(length, EPS) / tl.maximum(k_norm, EPS)
    logit = cosine * tl.load(temperature + head % heads).to(tl.float32)
    weight = tl.where(used, tl.exp(logit - tl.max(tl.where(used, logit, float("-inf")), 0)), 0.0)
    row = head * (DIM * DIM) + i * DIM + channel
    tl.store(cosines + row, cosine, used)
    tl.store(attention + row, weight / tl.sum(weight, 0), used)
    tl.store(norms + head * (2 * DIM) + channel, q_norm, own)
    tl.store(norms + head * (2 * DIM) + DIM + channel, k_norm, own)


@triton.jit
def mix(
    v,
    attention,
    out,
    v_b,
    v_h,
    v_c,
    v_y,
    v_x,
    out_b,
    out_h,
    out_c,
    out_y,
    out_x,
    heads,
    pixels,
    width,
    spans,
    span,
    DIM: tl.constexpr,
    D: tl.constexpr,
    PIXELS: tl.constexpr,
    COLUMNS: tl.constexpr,
    FLAT: tl.constexpr,
    ALIGN: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """out_i = sum_j A_ij v_j over one span of pixels.

    One program owns COLUMNS channels of the result (all, but for the widest heads), in one span of one head of one
    picture: it reads its part of v once and writes that of out once.
    """
    program = tl.program_id(0)
    to = program % (D // COLUMNS) * COLUMNS + tl.arange(0, COLUMNS)
    head = program // (D // COLUMNS) % heads
    index = program // (D // COLUMNS) // heads % spans
    batch = program // (D // COLUMNS) // heads // spans
    channel = tl.arange(0, D)
    v_head = head_of(v, batch, head, v_b, v_h, ALIGN)
    out_head = head_of(out, batch, head, out_b, out_h, ALIGN)
    matrix = attention + (batch * heads + head).to(tl.int64) * (DIM * DIM)
    both = (channel < DIM)[:, None] & (to < DIM)[None, :]
    weight = tl.load(matrix + channel[:, None] + to[None, :] * DIM, both, 0.0).to(v.dtype.element_ty)
    first = index * span
    for start in range(first, tl.minimum(first + span, pixels), PIXELS):
        pixel = start + tl.arange(0, PIXELS)
        inside = (pixel < pixels)[:, None]
        at = tile_of(v_head, start, channel, width, v_c, v_y, v_x, PIXELS, FLAT, ALIGN)
        tile = tl.load(at, inside & (channel < DIM)[None, :], 0.0)
        mixed = tl.dot(tile, weight, input_precision=PRECISION).to(out.dtype.element_ty)
        at = tile_of(out_head, start, to, width, out_c, out_y, out_x, PIXELS, FLAT, ALIGN)
        tl.store(at, mixed, inside & (to < DIM)[None, :])

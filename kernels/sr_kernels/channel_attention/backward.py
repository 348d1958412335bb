"""Gradients of channel attention in three Triton kernels, shaped like the forward's. kernels/README.md derives them."""

# Names bound under one compile-time condition are read under the same; tl's functions return tensors.
# pyright: reportPossiblyUnboundVariable=false, reportOperatorIssue=false, reportArgumentType=false, reportCallIssue=false

import triton
import triton.language as tl
from torch import Tensor

from sr_kernels.channel_attention import tiling
from sr_kernels.channel_attention.kernels import gram, head_of, row_of_spans, tile_of
from sr_kernels.channel_attention.layout import by_head, empty_gradients, unpack
from sr_kernels.channel_attention.reference import NORM_EPS
from sr_kernels.launch import Launch


def backward(
    grad: Tensor,
    qkv: list[Tensor],
    temperature: Tensor,
    attention: Tensor,
    cosines: Tensor,
    norms: Tensor,
    heads: int,
    layout: str,
    precision: str,
) -> list[Tensor]:
    """Gradients of the maps and of temperature, given that of the result and what `forward` returned beside it."""
    results, launches = plan(grad, qkv, temperature, attention, cosines, norms, heads, layout, precision)
    for launch in launches:
        launch.run()
    *grads, rows = results
    return [*grads, rows.sum((0, 2)).view_as(temperature).to(temperature.dtype)]


def plan(
    grad: Tensor,
    qkv: list[Tensor],
    temperature: Tensor,
    attention: Tensor,
    cosines: Tensor,
    norms: Tensor,
    heads: int,
    layout: str,
    precision: str,
) -> tuple[list[Tensor], list[Launch]]:
    """Gradients of the maps and (B, heads, d), whose sum per head is that of temperature; and the launches.

    Nothing is filled yet. Takes `meta` tensors.
    """
    q, k, v = unpack(qkv, heads, layout)
    g = by_head(grad, heads, layout)
    problem = tiling.Problem(q, precision)
    d, by_span, by_tile = problem.head_dim, tiling.choose("gram", problem), tiling.choose("gradients", problem)
    count, _ = problem.spans(by_span)
    products, d_temperature = problem.empty(count, d, d), problem.empty(d)
    small = {"weights": problem.empty(d, d), "along": problem.empty(d, d), "attention": attention, "norms": norms}
    rest = {"cosines": cosines, "temperature": temperature.flatten().contiguous(), "d_temperature": d_temperature}
    grads = empty_gradients(qkv, layout)
    dq, dk, dv = unpack(grads, heads, layout)
    read = {"q": q, "k": k, "grad": g}
    launches = [
        problem.over_pixels(
            "gram", gram, by_span, {"x": g, "y": v}, {"products": products, "squares": None}, {"SQUARES": False}
        ),
        problem.over_channels("mixing", mixing, {"products": products, **small, **rest}),
    ]
    results = [("TO_Q",), ("TO_K",), ("TO_V",)] if by_tile.apart else [("TO_Q", "TO_K", "TO_V")]
    launches += [
        problem.over_pixels(
            "gradients",
            gradients,
            by_tile,
            read | {"dq": dq, "dk": dk, "dv": dv},
            small,
            {"EPS": NORM_EPS} | {name: name in computed for name in ("TO_Q", "TO_K", "TO_V")},
            strided=read | {"to": dq},
        )
        for computed in results
    ]
    return [*grads, d_temperature], launches


@triton.jit
def mixing(
    products,
    attention,
    cosines,
    norms,
    temperature,
    weights,
    along,
    d_temperature,
    heads,
    spans,
    DIM: tl.constexpr,
    D: tl.constexpr,
    SPANS: tl.constexpr,
    EPS: tl.constexpr,
):
    """One row of the matrix that mixes k into dq and q into dk.

    One program owns channel i of q in one head of one picture: it sums row i of the spans' products of dO and v,
    goes back through the softmax, and writes row i of M (`weights`), row i of dS S (`along`), whose sums over rows
    and columns are what the norms take away, and its part of the gradient of temperature.
    """
    program = tl.program_id(0)
    i = program % DIM
    head = (program // DIM).to(tl.int64)
    channel = tl.arange(0, D)
    used = channel < DIM
    row = head * (DIM * DIM) + i * DIM + channel
    d_weight = row_of_spans(products + head * spans * (DIM * DIM), i * DIM, channel, spans, DIM * DIM, DIM, D, SPANS)
    weight = tl.load(attention + row, used, 0.0)
    cosine = tl.load(cosines + row, used, 0.0)
    d_logit = weight * (d_weight - tl.sum(weight * d_weight, 0))
    tl.store(d_temperature + program, tl.sum(d_logit * cosine, 0))
    d_cosine = d_logit * tl.load(temperature + head % heads).to(tl.float32)
    q_length = tl.maximum(tl.load(norms + head * (2 * DIM) + i), EPS)
    k_length = tl.maximum(tl.load(norms + head * (2 * DIM) + DIM + channel, used, 1.0), EPS)
    tl.store(weights + row, d_cosine / q_length / k_length, used)
    tl.store(along + row, d_cosine * cosine, used)


@triton.jit
def toward(weights, along, norm, at, used, dtype: tl.constexpr, EPS: tl.constexpr):
    """What turns tiles of one map into the gradient of the other: M to magnitude 1 by columns, their magnitudes, and
    the factors on the other map itself. A vector shorter than EPS was only scaled, so nothing was taken from it.

    M is rounded to the type of the maps; its numbers shrink with the number of pixels, beyond what float16 holds.
    """
    matrix = tl.load(weights + at, used, 0.0)
    scale = tl.max(tl.abs(matrix), 0)
    matrix = (matrix / tl.where(scale > 0, scale, 1.0)[None, :]).to(dtype)
    own = tl.sum(tl.load(along + at, used, 0.0), 0)
    length = tl.where(norm > EPS, norm, 1.0)
    return matrix, scale[None, :], tl.where(norm > EPS, own / length / length, 0.0)[None, :]


@triton.jit
def gradients(
    q,
    k,
    grad,
    dq,
    dk,
    dv,
    attention,
    weights,
    along,
    norms,
    q_b,
    q_h,
    q_c,
    q_y,
    q_x,
    k_b,
    k_h,
    k_c,
    k_y,
    k_x,
    grad_b,
    grad_h,
    grad_c,
    grad_y,
    grad_x,
    to_b,
    to_h,
    to_c,
    to_y,
    to_x,
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
    EPS: tl.constexpr,
    TO_Q: tl.constexpr,
    TO_K: tl.constexpr,
    TO_V: tl.constexpr,
):
    """dq = M k - a q, dk = M^T q - b k, dv = A^T dO over one span of pixels.

    One program owns COLUMNS channels of the results (all, but for the widest heads), in one span of one head of one
    picture: it reads its part of q, k and dO once and writes that of dq, dk and dv once. TO_Q, TO_K, TO_V: which of
    the results a launch computes, all but for the widest heads of float32.
    """
    program = tl.program_id(0)
    to = program % (D // COLUMNS) * COLUMNS + tl.arange(0, COLUMNS)
    head = program // (D // COLUMNS) % heads
    index = program // (D // COLUMNS) // heads % spans
    batch = program // (D // COLUMNS) // heads // spans
    channel = tl.arange(0, D)
    used = (channel < DIM)[:, None] & (to < DIM)[None, :]
    place = (batch * heads + head).to(tl.int64)
    rows = place * (DIM * DIM) + channel[:, None] * DIM + to[None, :]
    columns = place * (DIM * DIM) + channel[:, None] + to[None, :] * DIM
    dtype = q.dtype.element_ty
    q_norm = tl.load(norms + place * (2 * DIM) + to, to < DIM, 0.0)
    k_norm = tl.load(norms + place * (2 * DIM) + DIM + to, to < DIM, 0.0)
    if TO_Q:
        to_q, q_scale, q_own = toward(weights, along, q_norm, columns, used, dtype, EPS)
    if TO_K:
        to_k, k_scale, k_own = toward(weights, along, k_norm, rows, used, dtype, EPS)
    if TO_V:
        to_v = tl.load(attention + rows, used, 0.0).to(dtype)

    q_head = head_of(q, batch, head, q_b, q_h, ALIGN)
    k_head = head_of(k, batch, head, k_b, k_h, ALIGN)
    grad_head = head_of(grad, batch, head, grad_b, grad_h, ALIGN)
    dq_head = head_of(dq, batch, head, to_b, to_h, ALIGN)
    dk_head = head_of(dk, batch, head, to_b, to_h, ALIGN)
    dv_head = head_of(dv, batch, head, to_b, to_h, ALIGN)
    first = index * span
    for start in range(first, tl.minimum(first + span, pixels), PIXELS):
        pixel = start + tl.arange(0, PIXELS)
        inside = (pixel < pixels)[:, None] & (channel < DIM)[None, :]
        written = (pixel < pixels)[:, None] & (to < DIM)[None, :]
        if TO_Q or TO_K:
            at = tile_of(q_head, start, channel, width, q_c, q_y, q_x, PIXELS, FLAT, ALIGN)
            q_tile = tl.load(at, inside, 0.0)
            at = tile_of(k_head, start, channel, width, k_c, k_y, k_x, PIXELS, FLAT, ALIGN)
            k_tile = tl.load(at, inside, 0.0)
        if TO_Q:
            d_q = tl.dot(k_tile, to_q, input_precision=PRECISION) * q_scale
            if COLUMNS == D:
                d_q -= q_tile.to(tl.float32) * q_own
            else:
                at = tile_of(q_head, start, to, width, q_c, q_y, q_x, PIXELS, FLAT, ALIGN)
                d_q -= tl.load(at, written, 0.0).to(tl.float32) * q_own
            at = tile_of(dq_head, start, to, width, to_c, to_y, to_x, PIXELS, FLAT, ALIGN)
            tl.store(at, d_q.to(dtype), written)
        if TO_K:
            d_k = tl.dot(q_tile, to_k, input_precision=PRECISION) * k_scale
            if COLUMNS == D:
                d_k -= k_tile.to(tl.float32) * k_own
            else:
                at = tile_of(k_head, start, to, width, k_c, k_y, k_x, PIXELS, FLAT, ALIGN)
                d_k -= tl.load(at, written, 0.0).to(tl.float32) * k_own
            at = tile_of(dk_head, start, to, width, to_c, to_y, to_x, PIXELS, FLAT, ALIGN)
            tl.store(at, d_k.to(dtype), written)
        if TO_V:
            at = tile_of(grad_head, start, channel, width, grad_c, grad_y, grad_x, PIXELS, FLAT, ALIGN)
            grad_tile = tl.load(at, inside, 0.0)
            at = tile_of(dv_head, start, to, width, to_c, to_y, to_x, PIXELS, FLAT, ALIGN)
            tl.store(at, tl.dot(grad_tile, to_v, input_precision=PRECISION).to(dtype), written)

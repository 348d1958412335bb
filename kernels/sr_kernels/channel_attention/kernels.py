"""What the kernels of both directions share: where pixels lie, and the products of all channels over a span of them."""

import triton
import triton.language as tl


@triton.jit
def pixel_offsets(pixel, width, step_y, step_x, FLAT: tl.constexpr, ALIGN: tl.constexpr):
    """Offsets of pixels counted row by row, 64 bits wide."""
    if FLAT:
        offset = pixel.to(tl.int64) * step_x
    else:
        offset = (pixel // width).to(tl.int64) * step_y + (pixel % width).to(tl.int64) * step_x
    if ALIGN > 1:
        offset = tl.multiple_of(offset, ALIGN)
    return offset


@triton.jit
def channel_rows(base, batch, head, channel, step_b, step_h, step_c, ALIGN: tl.constexpr):
    """Pointers to the first pixel of each channel of one head of one picture."""
    first = base + batch.to(tl.int64) * step_b + head.to(tl.int64) * step_h
    if ALIGN > 1:
        first = tl.multiple_of(first, ALIGN * (base.dtype.element_ty.primitive_bitwidth // 8))
    return first + channel.to(tl.int64) * step_c


@triton.jit
def gram(
    x,
    y,
    products,
    squares,
    x_b,
    x_h,
    x_c,
    x_y,
    x_x,
    y_b,
    y_h,
    y_c,
    y_y,
    y_x,
    heads,
    pixels,
    width,
    spans,
    span,
    DIM: tl.constexpr,
    D: tl.constexpr,
    PIXELS: tl.constexpr,
    SQUARES: tl.constexpr,
    FLAT: tl.constexpr,
    ALIGN: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """<x_i, y_j> of one head of one picture over one span of pixels.

    One program owns one span of one head: it reads its part of x and y once and writes products
    (B, heads, spans, d, d) and, with SQUARES, <x_i, x_i> and <y_j, y_j> (B, heads, spans, 2, d), all float32.
    Heads of one span are neighbours, since they share cache lines where channels lie side by side.
    """
    program = tl.program_id(0)
    head = program % heads
    index = program // heads % spans
    batch = program // (heads * spans)
    channel = tl.arange(0, D)
    used = channel < DIM
    x_row = channel_rows(x, batch, head, channel, x_b, x_h, x_c, ALIGN)
    y_row = channel_rows(y, batch, head, channel, y_b, y_h, y_c, ALIGN)
    product = tl.zeros((D, D), tl.float32)
    x_squares = tl.zeros((PIXELS, D), tl.float32)
    y_squares = tl.zeros((PIXELS, D), tl.float32)
    first = index * span
    for start in range(first, tl.minimum(first + span, pixels), PIXELS):
        pixel = start + tl.arange(0, PIXELS)
        inside = (pixel < pixels)[:, None] & used[None, :]
        x_tile = tl.load(x_row[None, :] + pixel_offsets(pixel, width, x_y, x_x, FLAT, ALIGN)[:, None], inside, 0.0)
        y_tile = tl.load(y_row[None, :] + pixel_offsets(pixel, width, y_y, y_x, FLAT, ALIGN)[:, None], inside, 0.0)
        product = tl.dot(tl.trans(x_tile), y_tile, product, input_precision=PRECISION)
        if SQUARES:
            # Summed over pixels once, at the end: across threads that is dear.
            x_squares += x_tile.to(tl.float32) * x_tile.to(tl.float32)
            y_squares += y_tile.to(tl.float32) * y_tile.to(tl.float32)
    part = ((batch * heads + head) * spans + index).to(tl.int64)
    at = products + part * (DIM * DIM) + channel[:, None] * DIM + channel[None, :]
    tl.store(at, product, used[:, None] & used[None, :])
    if SQUARES:
        tl.store(squares + part * (2 * DIM) + channel, tl.sum(x_squares, 0), used)
        tl.store(squares + part * (2 * DIM) + DIM + channel, tl.sum(y_squares, 0), used)


@triton.jit
def row_of_spans(parts, row, channel, spans, size, DIM: tl.constexpr, D: tl.constexpr, SPANS: tl.constexpr):
    """A row of DIM numbers, `row` numbers from the start of every part of `size`, summed over the parts in order."""
    total = tl.zeros((D,), tl.float32)
    for first in range(0, spans, SPANS):
        span = first + tl.arange(0, SPANS)
        inside = (span < spans)[:, None] & (channel < DIM)[None, :]
        tile = tl.load(parts + span.to(tl.int64)[:, None] * size + row + channel[None, :], inside, 0.0)
        total += tl.sum(tile, 0)
    return total

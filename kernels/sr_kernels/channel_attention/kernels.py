"""What the kernels of both directions share: where pixels lie, and the products of all channels over a span of them."""

import triton
import triton.language as tl


@triton.jit
def head_of(base, batch, head, step_b, step_h, ALIGN: tl.constexpr):
    """Pointer to the first channel of the first pixel of a head."""
    first = base + batch.to(tl.int64) * step_b + head.to(tl.int64) * step_h
    if ALIGN > 1:
        # Said where the pointer is computed: of a function's argument it would be forgotten.
        first = tl.multiple_of(first, ALIGN * (base.dtype.element_ty.primitive_bitwidth // 8))
    return first


@triton.jit
def tile_of(
    first, start, channel, width, step_c, step_y, step_x,
    PIXELS: tl.constexpr, FLAT: tl.constexpr, ALIGN: tl.constexpr,
):  # fmt: skip
    """Pointers (PIXELS, channels) to pixels from `start` on, counted row by row, of the head at `first`."""
    pixel = start + tl.arange(0, PIXELS)
    if FLAT:
        offset = pixel.to(tl.int64) * step_x
    else:
        offset = (pixel // width).to(tl.int64) * step_y + (pixel % width).to(tl.int64) * step_x
    if ALIGN > 1:
        offset = tl.multiple_of(offset, ALIGN)
    return (first + channel.to(tl.int64) * step_c)[None, :] + offset[:, None]


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
    COLUMNS: tl.constexpr,
    SQUARES: tl.constexpr,
    FLAT: tl.constexpr,
    ALIGN: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """<x_i, y_j> of one head of one picture over one span of pixels.

    One program owns COLUMNS channels of y (all, but for the widest heads), in one span of one head: it reads its part
    of x and y once and writes products (B, heads, spans, d, d) and, with SQUARES, <x_i, x_i> and <y_j, y_j>
    (B, heads, spans, 2, d), all float32. Heads of one span are neighbours, since they share cache lines where channels
    lie side by side.
    """
    program = tl.program_id(0)
    to = program % (D // COLUMNS) * COLUMNS + tl.arange(0, COLUMNS)
    head = program // (D // COLUMNS) % heads
    index = program // (D // COLUMNS) // heads % spans
    batch = program // (D // COLUMNS) // heads // spans
    channel = tl.arange(0, D)
    x_head = head_of(x, batch, head, x_b, x_h, ALIGN)
    y_head = head_of(y, batch, head, y_b, y_h, ALIGN)
    product = tl.zeros((D, COLUMNS), tl.float32)
    x_squares = tl.zeros((PIXELS, D), tl.float32)
    y_squares = tl.zeros((PIXELS, COLUMNS), tl.float32)
    first = index * span
    for start in range(first, tl.minimum(first + span, pixels), PIXELS):
        pixel = start + tl.arange(0, PIXELS)
        inside = (pixel < pixels)[:, None]
        x_at = tile_of(x_head, start, channel, width, x_c, x_y, x_x, PIXELS, FLAT, ALIGN)
        y_at = tile_of(y_head, start, to, width, y_c, y_y, y_x, PIXELS, FLAT, ALIGN)
        x_tile = tl.load(x_at, inside & (channel < DIM)[None, :], 0.0)
        y_tile = tl.load(y_at, inside & (to < DIM)[None, :], 0.0)
        product = tl.dot(tl.trans(x_tile), y_tile, product, input_precision=PRECISION)
        if SQUARES:
            # Summed over pixels once, at the end: across threads that is dear.
            x_squares += x_tile.to(tl.float32) * x_tile.to(tl.float32)
            y_squares += y_tile.to(tl.float32) * y_tile.to(tl.float32)
    part = ((batch * heads + head) * spans + index).to(tl.int64)
    at = products + part * (DIM * DIM) + channel[:, None] * DIM + to[None, :]
    tl.store(at, product, (channel < DIM)[:, None] & (to < DIM)[None, :])
    if SQUARES:
        # Only the first block of columns, the others have the same.
        unique = tl.where(program % (D // COLUMNS) == 0, DIM, 0)
        tl.store(squares + part * (2 * DIM) + channel, tl.sum(x_squares, 0), channel < unique)
        tl.store(squares + part * (2 * DIM) + DIM + to, tl.sum(y_squares, 0), to < DIM)


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

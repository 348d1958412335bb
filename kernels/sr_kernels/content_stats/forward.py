"""The forward kernel of the content statistics, and its launcher: one launch for both scales."""

# What `triton.jit` compiles is no Python that a type checker knows: constexpr branches, tensors of one class.
# pyright: reportPossiblyUnboundVariable=false, reportOperatorIssue=false, reportArgumentType=false, reportCallIssue=false
# pyright: reportIndexIssue=false, reportGeneralTypeIssues=false, reportAttributeAccessIssue=false

import math

import triton
import triton.language as tl
from torch import Tensor

from sr_kernels.content_stats import constants, tiling
from sr_kernels.content_stats.rows import (
    CENTRE,
    LANES,
    RADIUS,
    REACH,
    across,
    centred,
    down_six,
    nothing,
    offsets,
    products,
    stencils,
)
from sr_kernels.content_stats.tiling import POOLED, Picture, compiled
from sr_kernels.launch import Launch, Steps

BLUR = tl.constexpr(1 / 64**2)  # the binomial weights of both axes add up to 64^2
ENERGY = tl.constexpr(1 / 64**2 / constants.SCHARR_NORM**2)
GREY = tl.constexpr(constants.GREY)
SCALE = tl.constexpr(constants.LOG_SCALE * math.log(2))
TRACE_FLOOR = tl.constexpr(constants.TRACE_FLOOR)
COHERENCE_FLOOR = tl.constexpr(constants.COHERENCE_FLOOR**2)


def forward(picture: Picture, window: int) -> Steps[tuple[Tensor, Tensor, Tensor]]:
    """Fine, coarse and difficulty, filled by the launches it yields: one, or two for unusual windows. See api.py."""
    x = picture.x
    B, _, H, W = x.shape
    fine, coarse = x.new_empty(B, 8, H, W), x.new_empty(B, 8, (H + 1) // 2, (W + 1) // 2)
    difficulty = x.new_empty(B, 2, triton.cdiv(H, window), triton.cdiv(W, window))
    maps = {"fine": fine, "coarse": coarse, "difficulty": difficulty}
    pooled = window if window in POOLED else 0
    yield picture.over_strips(
        "statistics", statistics, maps, window=pooled, WINDOW=pooled, SUMS=False, COMPILED=compiled()
    )
    if window not in POOLED:
        yield pooling(fine, difficulty, window)
    return fine, coarse, difficulty


def pooling(fine: Tensor, difficulty: Tensor, window: int) -> Launch:
    """Difficulty from the fine statistics as they were rounded."""
    NY, NX = difficulty.shape[2:]
    config = tiling.choose("pool", tiling.Problem((difficulty.shape[0], *fine.shape[2:]), window))
    return Launch(
        pool,
        difficulty.shape[0] * NY * NX,
        {"fine": fine, "difficulty": difficulty, "H": fine.shape[2], "W": fine.shape[3], "NY": NY, "NX": NX}
        | {"window": window},
        {"ROWS": config.rows, "COLUMNS": config.columns},
        {"num_warps": config.warps, "num_stages": 1},
        "pool",
    )


@triton.jit
def log2(x, COMPILED: tl.constexpr):
    """Of numbers of at least 1, with an error of 2^-22, relative or (below 2) absolute: a result has a sixth of it."""
    if COMPILED:
        # tl.log2 takes some twenty instructions.
        return tl.inline_asm_elementwise("lg2.approx.ftz.f32 $0, $1;", "=f,f", [x], tl.float32, is_pure=True, pack=1)
    return tl.log2(x)


@triton.jit
def formulas(sums, COMPILED: tl.constexpr):
    """The eight statistics from the sums of the six products over 7x7 pixels; reference.py has the formulas."""
    abs_laplacian, gx_gx, gx_gy, gy_gy, y, y_y = sums
    trace = gx_gx + gy_gy
    scale = 1.0 / (trace + TRACE_FLOOR / ENERGY)
    a, b = (gx_gx - gy_gy) * scale, 2.0 * gx_gy * scale
    inverse = tl.rsqrt(a * a + (b * b + COHERENCE_FLOOR))
    mean = y * BLUR
    variance = tl.maximum(y_y * BLUR - mean * mean, 0.0)
    return (
        log2(abs_laplacian * (GREY * BLUR) + 1.0, COMPILED) * SCALE,
        log2(variance * (GREY * GREY) + 1.0, COMPILED) * (SCALE / 2),
        log2(trace * (GREY * GREY * ENERGY) + 1.0, COMPILED) * (SCALE / 2),
        a,
        b,
        (a * a - b * b) * inverse,
        2.0 * a * b * inverse,
        mean + CENTRE,
    )


@triton.jit
def statistics(
    x, fine, coarse, difficulty, x_b, x_c, x_y, x_x, H, W, half_H, half_W,
    coarse_programs, coarse_strips, coarse_bands, fine_strips, fine_bands,
    CHANNELS: tl.constexpr, VALID: tl.constexpr, ROWS: tl.constexpr, WINDOW: tl.constexpr, SUMS: tl.constexpr,
    COMPILED: tl.constexpr,
):  # fmt: skip
    """A program owns a strip of one band of ROWS rows, at one scale: 56 columns of 2x2 means, or VALID columns.

    It reads every pixel of its strip and of 4 rows and columns around it once, row after row, and writes the eight
    statistics of each of its pixels (or means) once; with WINDOW also the difficulty of its windows, of which it has
    whole ones only. With SUMS it writes the six blurred products instead, for the backward pass.
    """
    program = tl.program_id(0)
    if program < coarse_programs:
        strip(
            x, coarse, difficulty, x_b, x_c, x_y, x_x, H, W, half_H, half_W,
            program, coarse_strips, coarse_bands, CHANNELS, 2 * LANES - REACH, ROWS, 0, SUMS, True, COMPILED,
        )  # fmt: skip
    else:
        strip(
            x, fine, difficulty, x_b, x_c, x_y, x_x, H, W, H, W,
            program - coarse_programs, fine_strips, fine_bands, CHANNELS, VALID, ROWS, WINDOW, SUMS, False, COMPILED,
        )  # fmt: skip


@triton.jit
def strip(
    x, out, difficulty, x_b, x_c, x_y, x_x, H, W, rows, width, index, strips, bands,
    CHANNELS: tl.constexpr, VALID: tl.constexpr, ROWS: tl.constexpr, WINDOW: tl.constexpr, SUMS: tl.constexpr,
    HALF: tl.constexpr, COMPILED: tl.constexpr,
):  # fmt: skip
    """`statistics` of one strip; rows, width: size of the picture at this scale."""
    left = index % strips * VALID
    top = index // strips % bands * ROWS
    batch = (index // strips // bands).to(tl.int64)
    x += batch * x_b
    out += batch * (6 if SUMS else 8) * rows * width

    lane = tl.arange(0, LANES)
    NEXT = (lane + 1) % LANES
    even = offsets(left - RADIUS + 2 * lane, W, x_x, HALF)
    odd = offsets(left - RADIUS + 2 * lane + 1, W, x_x, HALF)
    own = 2 * lane[:, None] + tl.arange(0, 2)[None, :]
    inside = (left + own < width) & (own < VALID)
    out += left + own
    plane = tl.cast(rows, tl.int64) * width
    pixels = centred(x, top - RADIUS, even, odd, x_c, x_y, H, CHANNELS, HALF)
    above, terms = nothing()
    total, largest = tl.zeros((LANES,), tl.float32), tl.zeros((LANES,), tl.float32)
    # Two rows at a time: what is carried then changes places without being copied.
    for start in range(0, tl.minimum(rows - top, ROWS) + REACH, 2):
        row = top - REACH + start
        # The next rows are loaded while these are worked on.
        second = centred(x, row + (RADIUS + 1), even, odd, x_c, x_y, H, CHANNELS, HALF)
        third = centred(x, row + (RADIUS + 2), even, odd, x_c, x_y, H, CHANNELS, HALF)
        values, above = stencils(pixels, above, NEXT)
        first_sums, terms = down_six(products(values), terms)
        values, above = stencils(second, above, NEXT)
        second_sums, terms = down_six(products(values), terms)
        pixels = third
        if row >= top:
            upper = finish(out, first_sums, row, rows, width, plane, inside, NEXT, SUMS, COMPILED)
            lower = finish(out, second_sums, row + 1, rows, width, plane, inside, NEXT, SUMS, COMPILED)
            if WINDOW:
                # The logarithm is not negative, so a zero for pixels beyond the edges changes no maximum.
                upper = tl.where(inside, upper, 0.0)
                lower = tl.where(inside & (row + 1 < rows), lower, 0.0)
                total += tl.sum(upper, 1) + tl.sum(lower, 1)
                largest = tl.maximum(largest, tl.max(tl.maximum(upper, lower), 1))
                if (row + 2) % WINDOW == 0 or row + 2 >= rows:
                    begin = row // WINDOW
                    store_windows(difficulty, total, largest, batch, begin, left, rows, width, VALID, WINDOW)
                    total, largest = tl.zeros((LANES,), tl.float32), tl.zeros((LANES,), tl.float32)


@triton.jit
def finish(
    out, sums, row, rows, width, plane, inside, NEXT, SUMS: tl.constexpr, COMPILED: tl.constexpr
):  # fmt: skip
    """Sum across columns, and write one row of all maps. Returns the first map's."""
    a, b, c = across(sums[0], NEXT), across(sums[1], NEXT), across(sums[2], NEXT)
    d, e, f = across(sums[3], NEXT), across(sums[4], NEXT), across(sums[5], NEXT)
    out += row.to(tl.int64) * width
    keep = inside & (row < rows)
    if SUMS:
        maps = (a * BLUR, b * ENERGY, c * ENERGY, d * ENERGY, e * BLUR, f * BLUR)
    else:
        maps = formulas((a, b, c, d, e, f), COMPILED)
    for k in tl.static_range(6 if SUMS else 8):
        tl.store(out + k * plane, maps[k].to(out.dtype.element_ty), keep)
    return maps[0]


@triton.jit
def store_windows(
    difficulty, total, largest, batch, down, left, rows, width, VALID: tl.constexpr, WINDOW: tl.constexpr
):  # fmt: skip
    """Difficulty of a row of windows from the sum and the largest of every lane's two columns."""
    WIDTH: tl.constexpr = WINDOW // 2  # in lanes
    NY, NX = (rows + (WINDOW - 1)) // WINDOW, (width + (WINDOW - 1)) // WINDOW
    number = tl.arange(0, LANES // WIDTH)
    along = left // WINDOW + number
    columns = tl.maximum(tl.minimum(width - along * WINDOW, WINDOW), 1)  # windows beyond the edge are not stored
    seen = tl.minimum(rows - down * WINDOW, WINDOW) * columns
    mean = tl.sum(tl.reshape(total, (LANES // WIDTH, WIDTH)), 1) / seen.to(tl.float32)
    peak = tl.max(tl.reshape(largest, (LANES // WIDTH, WIDTH)), 1)
    at = difficulty + (batch * 2 * NY + down) * NX + along
    own = (number < VALID // WINDOW) & (along < NX)
    tl.store(at, mean.to(difficulty.dtype.element_ty), own)
    tl.store(at + tl.cast(NY, tl.int64) * NX, peak.to(difficulty.dtype.element_ty), own)


@triton.jit
def pool(fine, difficulty, H, W, NY, NX, window, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    """A program owns one window of any size: it reads its log Laplacians, writes their mean and maximum."""
    program = tl.program_id(0)
    column = program % NX * window
    row = program // NX % NY * window
    batch = (program // NX // NY).to(tl.int64)
    height, width = tl.minimum(H - row, window), tl.minimum(W - column, window)
    start = fine + (batch * 8 * H + row) * W + column
    i, j = tl.arange(0, ROWS)[:, None], tl.arange(0, COLUMNS)[None, :]
    total, largest = tl.zeros((ROWS, COLUMNS), tl.float32), tl.zeros((ROWS, COLUMNS), tl.float32)
    for y in range(0, height, ROWS):
        for x in range(0, width, COLUMNS):
            inside = (y + i < height) & (x + j < width)
            value = tl.load(start + (y + i).to(tl.int64) * W + (x + j), inside, 0.0).to(tl.float32)
            total += value
            largest = tl.maximum(largest, value)
    count = height.to(tl.float32) * width.to(tl.float32)
    at = difficulty + batch * 2 * NY * NX + program % (NY * NX)
    tl.store(at, (tl.sum(tl.sum(total, 1), 0) / count).to(difficulty.dtype.element_ty))
    tl.store(at + tl.cast(NY, tl.int64) * NX, tl.max(tl.max(largest, 1), 0).to(difficulty.dtype.element_ty))

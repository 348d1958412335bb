"""The gradient of the content statistics in five launches. Everything is computed again from the picture.

The six blurred products of both scales; their gradients, over them, first of the fine scale, then of the coarse; the
gradient of luma continued by the edges, of both scales; what every pixel gets of it. Every number is written by one
program that gathers it: no atomics, the same bits on every run.
"""

# What `triton.jit` compiles is no Python that a type checker knows: constexpr branches, tensors of one class.
# pyright: reportPossiblyUnboundVariable=false, reportOperatorIssue=false, reportArgumentType=false, reportCallIssue=false
# pyright: reportIndexIssue=false, reportGeneralTypeIssues=false, reportAttributeAccessIssue=false

import torch
import triton
import triton.language as tl
from torch import Tensor

from sr_kernels.content_stats import constants, tiling
from sr_kernels.content_stats.forward import BLUR, COHERENCE_FLOOR, GREY, TRACE_FLOOR, statistics
from sr_kernels.content_stats.rows import (
    BLUE,
    GREEN,
    LANES,
    RADIUS,
    REACH,
    RED,
    across,
    centred,
    down_six,
    nothing,
    offsets,
    shifted,
    stencils,
)
from sr_kernels.content_stats.tiling import Picture, compiled, strides
from sr_kernels.launch import Launch, Steps

SCHARR = tl.constexpr(1 / constants.SCHARR_NORM**2)
LOG_SCALE = tl.constexpr(constants.LOG_SCALE)


def backward(
    d_fine: Tensor, d_coarse: Tensor, d_difficulty: Tensor, picture: Picture, window: int
) -> Steps[Tensor]:  # fmt: skip
    """Gradient of the picture, contiguous and in its dtype, filled by the launches it yields. See api.py."""
    x = picture.x
    B, C, H, W = x.shape
    h, w, margin = (H + 1) // 2, (W + 1) // 2, 2 * constants.RADIUS
    fine, coarse, fine_luma, coarse_luma = (
        x.new_empty(B, *size, dtype=torch.float32)
        for size in ((6, H, W), (6, h, w), (H + margin, W + margin), (h + margin, w + margin))
    )
    d_x = torch.empty_like(x, memory_format=torch.contiguous_format)
    maps = {"fine": fine, "coarse": coarse, "difficulty": None}
    yield picture.over_strips("sums", statistics, maps, WINDOW=0, SUMS=True, COMPILED=compiled())
    yield over_windows("fine", fine, d_fine, d_difficulty, window)
    yield over_windows("coarse", coarse, d_coarse, None, 16)
    maps = {"d_fine": fine, "d_coarse": coarse, "fine": fine_luma, "coarse": coarse_luma}
    yield picture.over_strips("spread", spread, maps, margin=constants.RADIUS)
    config = tiling.choose("fold", tiling.Problem((B, H, W)))
    blocks = triton.cdiv(W, config.columns)
    yield Launch(
        fold,
        B * H * blocks,
        {"fine": fine_luma, "coarse": coarse_luma, "d_x": d_x, "H": H, "W": W, "blocks": blocks},
        {"CHANNELS": C, "BLOCK": config.columns},
        {"num_warps": config.warps, "num_stages": 1},
        "fold",
    )
    return d_x


def over_windows(choice: str, sums: Tensor, grad: Tensor, pooled: Tensor | None, window: int) -> Launch:
    """A program for every window; `pooled` is the gradient of their difficulty, if they have one."""
    B, _, H, W = sums.shape
    NY, NX = triton.cdiv(H, window), triton.cdiv(W, window)
    config = tiling.choose(choice, tiling.Problem((B, H, W), window))
    pooled_steps = strides("pooled", grad if pooled is None else pooled)
    return Launch(
        gradients,
        B * NY * NX,
        {"sums": sums, "grad": grad, "pooled": pooled, **strides("grad", grad), **pooled_steps}
        | {"H": H, "W": W, "NY": NY, "NX": NX, "window": window},
        {"ROWS": config.rows, "COLUMNS": config.columns},
        {"num_warps": config.warps, "num_stages": 1},
        choice,
    )


@triton.jit
def gradients(
    sums, grad, pooled, grad_b, grad_c, grad_y, grad_x, pooled_b, pooled_c, pooled_y, pooled_x,
    H, W, NY, NX, window, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    """A program owns one window of any size: it overwrites the six blurred products of its pixels by their gradients.

    The gradient of a window's maximum goes to the first pixel, row by row, that has the largest mean |Laplacian|; it
    is found in a pass of its own.
    """
    program = tl.program_id(0)
    along, down = program % NX, program // NX % NY
    batch = (program // NX // NY).to(tl.int64)
    top, left = down * window, along * window
    height, width = tl.minimum(H - top, window), tl.minimum(W - left, window)
    plane = tl.cast(H, tl.int64) * W
    sums += batch * 6 * plane + top.to(tl.int64) * W + left
    grad += batch * grad_b + top.to(tl.int64) * grad_y + left.to(tl.int64) * grad_x
    i, j = tl.arange(0, ROWS)[:, None], tl.arange(0, COLUMNS)[None, :]
    if pooled is not None:
        best, where = tl.full((ROWS, COLUMNS), -1.0, tl.float32), tl.zeros((ROWS, COLUMNS), tl.int32)
        for y in range(0, height, ROWS):
            for x in range(0, width, COLUMNS):
                inside = (y + i < height) & (x + j < width)
                value = tl.load(sums + (y + i).to(tl.int64) * W + (x + j), inside, -1.0)
                where = tl.where(value > best, (y + i) * width + (x + j), where)
                best = tl.maximum(best, value)
        largest = tl.max(tl.max(best, 1), 0)
        peak = tl.min(tl.min(tl.where(best == largest, where, 2147483647), 1), 0)
        pooled += batch * pooled_b + down.to(tl.int64) * pooled_y + along.to(tl.int64) * pooled_x
        share = tl.load(pooled).to(tl.float32) / (height.to(tl.float32) * width.to(tl.float32))
        whole = tl.load(pooled + pooled_c).to(tl.float32)
    for y in range(0, height, ROWS):
        for x in range(0, width, COLUMNS):
            inside = (y + i < height) & (x + j < width)
            at = sums + ((y + i).to(tl.int64) * W + (x + j))
            given = grad + ((y + i).to(tl.int64) * grad_y + (x + j).to(tl.int64) * grad_x)
            d_log_lap = tl.load(given, inside, 0.0).to(tl.float32)
            if pooled is not None:
                d_log_lap += share + tl.where((y + i) * width + (x + j) == peak, whole, 0.0)
            d_log_std = tl.load(given + grad_c, inside, 0.0).to(tl.float32)
            d_log_trace = tl.load(given + 2 * grad_c, inside, 0.0).to(tl.float32)
            d_c2 = tl.load(given + 3 * grad_c, inside, 0.0).to(tl.float32)
            d_s2 = tl.load(given + 4 * grad_c, inside, 0.0).to(tl.float32)
            d_c4 = tl.load(given + 5 * grad_c, inside, 0.0).to(tl.float32)
            d_s4 = tl.load(given + 6 * grad_c, inside, 0.0).to(tl.float32)
            d_mean = tl.load(given + 7 * grad_c, inside, 0.0).to(tl.float32)
            abs_lap = tl.load(at, inside, 0.0)
            J11, J12 = tl.load(at + plane, inside, 0.0), tl.load(at + 2 * plane, inside, 0.0)
            J22 = tl.load(at + 3 * plane, inside, 0.0)
            mean, square = tl.load(at + 4 * plane, inside, 0.0), tl.load(at + 5 * plane, inside, 0.0)

            scale = 1.0 / (J11 + J22 + TRACE_FLOOR)
            a, b = (J11 - J22) * scale, 2.0 * J12 * scale
            inverse = 1.0 / tl.sqrt(a * a + b * b + COHERENCE_FLOOR)
            cosine, sine = (a * a - b * b) * inverse, 2.0 * a * b * inverse
            radial = (d_c4 * cosine + d_s4 * sine) * (inverse * inverse)
            d_a = d_c2 + 2.0 * (d_c4 * a + d_s4 * b) * inverse - radial * a
            d_b = d_s2 + 2.0 * (d_s4 * a - d_c4 * b) * inverse - radial * b
            variance = square - mean * mean
            d_variance = d_log_std * (LOG_SCALE / 2 * GREY * GREY) / (variance * (GREY * GREY) + 1.0)
            d_variance = tl.where(variance > 0, d_variance, 0.0)
            d_trace = d_log_trace * (LOG_SCALE / 2 * GREY * GREY) / ((J11 + J22) * (GREY * GREY) + 1.0)
            d_trace -= (d_a * a + d_b * b) * scale
            tl.store(at, d_log_lap * (LOG_SCALE * GREY) / (abs_lap * GREY + 1.0), inside)
            tl.store(at + plane, d_trace + d_a * scale, inside)
            tl.store(at + 2 * plane, 2.0 * d_b * scale, inside)
            tl.store(at + 3 * plane, d_trace - d_a * scale, inside)
            tl.store(at + 4 * plane, d_mean - 2.0 * mean * d_variance, inside)
            tl.store(at + 5 * plane, d_variance, inside)


@triton.jit
def spread(
    x, d_fine, d_coarse, fine, coarse, x_b, x_c, x_y, x_x, H, W, half_H, half_W,
    coarse_programs, coarse_strips, coarse_bands, fine_strips, fine_bands,
    CHANNELS: tl.constexpr, VALID: tl.constexpr, ROWS: tl.constexpr,
):  # fmt: skip
    """Gradient of luma continued by 4 on each side, (B, H+8, W+8), from those of the six products.

    A program owns a strip of 56 columns of one band of ROWS rows of that grid, at one scale. It reads the picture and
    six gradients of its strip and of 4 rows and columns around it once, row after row, and writes its numbers once.
    """
    program = tl.program_id(0)
    if program < coarse_programs:
        spread_strip(
            x, d_coarse, coarse, x_b, x_c, x_y, x_x, H, W, half_H, half_W,
            program, coarse_strips, coarse_bands, CHANNELS, VALID, ROWS, True,
        )  # fmt: skip
    else:
        spread_strip(
            x, d_fine, fine, x_b, x_c, x_y, x_x, H, W, H, W,
            program - coarse_programs, fine_strips, fine_bands, CHANNELS, VALID, ROWS, False,
        )  # fmt: skip


@triton.jit
def spread_strip(
    x, grad, out, x_b, x_c, x_y, x_x, H, W, rows, width, index, strips, bands,
    CHANNELS: tl.constexpr, VALID: tl.constexpr, ROWS: tl.constexpr, HALF: tl.constexpr,
):  # fmt: skip
    left = index % strips * VALID - RADIUS
    top = index // strips % bands * ROWS - RADIUS
    batch = (index // strips // bands).to(tl.int64)
    plane = tl.cast(rows, tl.int64) * width
    x += batch * x_b
    lane = tl.arange(0, LANES)
    NEXT = (lane + 1) % LANES
    own = 2 * lane[:, None] + tl.arange(0, 2)[None, :]
    # A gradient meets the stencils where 7 of its rows and columns are summed, 3 on, and they need a neighbour, 1 back.
    even = offsets(left - 2 + 2 * lane, W, x_x, HALF)
    odd = offsets(left - 1 + 2 * lane, W, x_x, HALF)
    from_column = left - RADIUS + own
    known = (from_column >= 0) & (from_column < width)
    grad += batch * 6 * plane + from_column
    out += batch * (rows + REACH) * (width + REACH) + RADIUS + left + own
    inside = (left + own < width + RADIUS) & (own < VALID)
    above, terms = nothing()
    carried = above
    direct = above[0]
    for start in range(0, tl.minimum(rows + RADIUS - top, ROWS) + REACH, 1):
        row = top + start - RADIUS  # of the gradients; stencils lie 3 above, results 4
        keep = known & (row >= 0) & (row < rows)
        at = grad + row.to(tl.int64) * width
        given = (
            tl.load(at, keep, 0.0),
            tl.load(at + plane, keep, 0.0),
            tl.load(at + 2 * plane, keep, 0.0),
            tl.load(at + 3 * plane, keep, 0.0),
            tl.load(at + 4 * plane, keep, 0.0),
            tl.load(at + 5 * plane, keep, 0.0),
        )
        summed, terms = down_six(given, terms)
        pixels = centred(x, row - 2, even, odd, x_c, x_y, H, CHANNELS, HALF)
        values, above = stencils(pixels, above, NEXT)
        y, gx, gy, laplacian = values
        d_abs, d_J11 = across(summed[0], NEXT) * BLUR, across(summed[1], NEXT) * (BLUR * SCHARR)
        d_J12, d_J22 = across(summed[2], NEXT) * (BLUR * SCHARR), across(summed[3], NEXT) * (BLUR * SCHARR)
        d_mean, d_square = across(summed[4], NEXT) * BLUR, across(summed[5], NEXT) * BLUR
        d_lap = tl.where(laplacian > 0, d_abs, tl.where(laplacian < 0, -d_abs, 0.0))
        d_gx, d_gy = 2.0 * gx * d_J11 + gy * d_J12, 2.0 * gy * d_J22 + gx * d_J12
        gathered, carried, direct = adjoint(d_lap, d_gx, d_gy, d_mean + 2.0 * y * d_square, carried, direct, NEXT)
        to = row - RADIUS
        tl.store(out + (to + RADIUS).to(tl.int64) * (width + REACH), gathered, inside & (to >= top))


@triton.jit
def adjoint(d_lap, d_gx, d_gy, d_y, carried, direct, NEXT):
    """The transposed `stencils`: gradient of luma one row up and one column right; and what the next row needs."""
    lap2, slope2, smooth2, lap1, slope1, smooth1, sides1 = carried
    lap, lap_right = shifted(d_lap, NEXT)
    _, gx_right = shifted(d_gx, NEXT)
    gy, gy_right = shifted(d_gy, NEXT)
    y, _ = shifted(d_y, NEXT)
    slope = d_gx - gx_right
    smooth = 3.0 * (d_gy + gy_right) + 10.0 * gy
    result = direct + (3.0 * (slope2 + slope) + 10.0 * slope1) + (smooth2 - smooth)
    result += (sides1 + (lap2 + lap)) - 4.0 * lap1
    return result, (lap1, slope1, smooth1, lap, slope, smooth, d_lap + lap_right), y


@triton.jit
def fold(fine, coarse, d_x, H, W, blocks, CHANNELS: tl.constexpr, BLOCK: tl.constexpr):
    """A program owns BLOCK pixels of one row: it adds up what they and their 2x2 means get, edges folded."""
    program = tl.program_id(0)
    column = program % blocks * BLOCK + tl.arange(0, BLOCK)
    row = program // blocks % H
    batch = (program // blocks // H).to(tl.int64)
    inside = column < W
    # Beside the last row or column of an odd picture there is none: a mean counts it twice.
    twice = tl.where((H % 2 == 1) & (row == H - 1), 2.0, 1.0) * tl.where((W % 2 == 1) & (column == W - 1), 2.0, 1.0)
    luma = folded(fine, batch, row, column, H, W, inside)
    luma += folded(coarse, batch, row // 2, column // 2, (H + 1) // 2, (W + 1) // 2, inside) * (0.25 * twice)
    out = d_x + ((batch * CHANNELS * H + row) * W + column)
    if CHANNELS == 3:
        plane = tl.cast(H, tl.int64) * W
        tl.store(out, (luma * RED).to(d_x.dtype.element_ty), inside)
        tl.store(out + plane, (luma * GREEN).to(d_x.dtype.element_ty), inside)
        tl.store(out + 2 * plane, (luma * BLUE).to(d_x.dtype.element_ty), inside)
    else:
        tl.store(out, luma.to(d_x.dtype.element_ty), inside)


@triton.jit
def folded(grid, batch, row, column, rows, width, inside):
    """Sum over the positions of the continued grid that show a pixel: itself and those beyond an edge."""
    first = tl.where(row == 0, 0, RADIUS)
    last = tl.where(row == rows - 1, REACH, RADIUS)
    total = tl.zeros(column.shape, tl.float32)
    for i in range(first, last + 1):
        line = grid + ((batch * (rows + REACH) + (row + i)) * (width + REACH) + RADIUS + column)
        total += tl.load(line, inside, 0.0)
        for k in tl.static_range(1, 5):
            total += tl.load(line - k, inside & (column == 0), 0.0)
            total += tl.load(line + k, inside & (column == width - 1), 0.0)
    return total

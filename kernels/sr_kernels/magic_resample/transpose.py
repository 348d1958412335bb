"""The transpose of an integer upscale in one Triton launch: rows of the gradient stream by, each output is a gather."""

# What `triton.jit` compiles is no Python that a type checker knows: constexpr branches, tensors of one class.
# pyright: reportPossiblyUnboundVariable=false, reportOperatorIssue=false, reportArgumentType=false, reportCallIssue=false
# pyright: reportIndexIssue=false, reportGeneralTypeIssues=false, reportAttributeAccessIssue=false
# pyright: reportAssignmentType=false

import triton
import triton.language as tl

from sr_kernels.magic_resample.upscale import sharpened


@triton.jit
def gathered(
    line, offset, pixel, limit, norm, bend_norm,
    X: tl.constexpr, BEND_X: tl.constexpr, TAPS: tl.constexpr, BEND_TAPS: tl.constexpr, SCALE: tl.constexpr,
    STEP: tl.constexpr, LANES: tl.constexpr, JOINED: tl.constexpr, BENT: tl.constexpr, EDGE: tl.constexpr,
):  # fmt: skip
    """One row of the gradient gathered horizontally, with the filter and, if BENT, with the magic kernel.

    JOINED: the SCALE numbers that lie in a lane's pixel are one load, and `offset` is (LANES, SCALE).
    """
    LESS: tl.constexpr = TAPS // 2 - BEND_TAPS // 2
    total, bend = tl.zeros((LANES,), tl.float32), tl.zeros((LANES,), tl.float32)
    for t in tl.static_range(TAPS):
        source = pixel + (t - TAPS // 2)
        if EDGE:
            mask = (source >= 0) & (source < limit)
        at = line + offset + (t - TAPS // 2) * SCALE * STEP
        values = ()
        if JOINED:
            both = (tl.load(at, mask[:, None], 0) if EDGE else tl.load(at)).to(tl.float32)
            if SCALE == 2:
                values = tl.split(both)
            else:
                even, odd = tl.split(tl.reshape(both, (LANES, 2, 2)))
                first, third = tl.split(even)
                second, fourth = tl.split(odd)
                values = (first, second, third, fourth)
        else:
            for phase in tl.static_range(SCALE):
                value = tl.load(at + phase * STEP, mask, 0) if EDGE else tl.load(at + phase * STEP)
                values += (value.to(tl.float32),)
        # An output in pixel i + k reads pixel i with the tap that lies k before its own, TAPS - 1 - t; LESS for bend.
        for phase in tl.static_range(SCALE):
            if X[phase * TAPS + TAPS - 1 - t] != 0.0:
                value = values[phase]
                if EDGE:
                    value *= tl.load(norm + source * SCALE + phase, mask, 0.0)
                total += value * X[phase * TAPS + TAPS - 1 - t]
            if BENT and t >= LESS and TAPS - 1 - t >= LESS:
                value = values[phase]
                if EDGE:
                    value *= tl.load(bend_norm + source * SCALE + phase, mask, 0.0)
                bend += value * BEND_X[phase * BEND_TAPS + TAPS - 1 - t - LESS]
    return total, bend


@triton.jit
def group(
    line, y, height, width, step_y, offset, pixel, norm_x, norm_y, bend_norm_x, bend_norm_y, sums, bend_sums,
    X: tl.constexpr, BEND_X: tl.constexpr, Y: tl.constexpr, BEND_Y: tl.constexpr, TAPS: tl.constexpr,
    SCALE_X: tl.constexpr, SCALE_Y: tl.constexpr, STEP: tl.constexpr, LANES: tl.constexpr, ALIGN: tl.constexpr,
    JOINED: tl.constexpr, BENT: tl.constexpr, EDGE: tl.constexpr,
):  # fmt: skip
    """The rows of the gradient that lie in row y of the picture, added to the rows of the picture that they reach."""
    TAPS_X: tl.constexpr = TAPS[0]
    TAPS_Y: tl.constexpr = TAPS[1]
    BEND_TAPS_X: tl.constexpr = TAPS[3]
    BEND_TAPS_Y: tl.constexpr = TAPS[4]
    row, limit = y, width
    if EDGE:
        row = tl.minimum(tl.maximum(y, 0), height - 1)
        limit = tl.where(row == y, width, 0)
    for phase in tl.static_range(SCALE_Y):
        at = line + phase * step_y
        if EDGE:
            at = line + (row.to(tl.int64) * SCALE_Y + phase) * step_y
        if ALIGN > 1:
            # Said where the pointer is made: of a carried one it would be forgotten.
            at = tl.multiple_of(at, ALIGN)
        value, bend = gathered(
            at, offset, pixel, limit, norm_x, bend_norm_x,
            X, BEND_X, TAPS_X, BEND_TAPS_X, SCALE_X, STEP, LANES, JOINED, BENT, EDGE,
        )  # fmt: skip
        if EDGE:
            value *= tl.load(norm_y + row * SCALE_Y + phase)
        added = ()
        for t in tl.static_range(TAPS_Y):
            added += (sums[t] + value * Y[phase * TAPS_Y + t],)
        sums = added
        if BENT:
            if EDGE:
                bend *= tl.load(bend_norm_y + row * SCALE_Y + phase)
            added = ()
            for t in tl.static_range(BEND_TAPS_Y):
                added += (bend_sums[t] + bend * BEND_Y[phase * BEND_TAPS_Y + t],)
            bend_sums = added
    return sums, bend_sums


@triton.jit
def gather(
    line, dx, dbend, norm_x, norm_y, bend_norm_x, bend_norm_y, height, width, step_y, first, pitch, offset, pixel, own,
    X: tl.constexpr, BEND_X: tl.constexpr, Y: tl.constexpr, BEND_Y: tl.constexpr, SHARPENING: tl.constexpr,
    TAPS: tl.constexpr, SCALE_X: tl.constexpr, SCALE_Y: tl.constexpr, STEP: tl.constexpr, ROWS: tl.constexpr,
    LANES: tl.constexpr, ALIGN: tl.constexpr, JOINED: tl.constexpr, EDGE: tl.constexpr,
):  # fmt: skip
    """What one program does, see `transpose`."""
    BENT: tl.constexpr = dbend is not None
    TAPS_Y: tl.constexpr = TAPS[1]
    TAPS_S: tl.constexpr = TAPS[2]
    BEND_TAPS_Y: tl.constexpr = TAPS[4]
    BEFORE: tl.constexpr = TAPS_Y // 2 + TAPS_S // 2
    nothing = tl.zeros((LANES,), tl.float32)
    sums, bend_sums, rows = (), (), ()
    for _ in tl.static_range(TAPS_Y):
        sums += (nothing,)
    if BENT:
        for _ in tl.static_range(BEND_TAPS_Y):
            bend_sums += (nothing,)
    for _ in tl.static_range(TAPS_S - 1):
        rows += (nothing,)
    if not EDGE:
        line += (first - BEFORE).to(tl.int64) * SCALE_Y * step_y
    last = tl.minimum(first + ROWS, height)
    for step in range(0, last - first + 2 * BEFORE):
        y = first - BEFORE + step
        sums, bend_sums = group(
            line, y, height, width, step_y, offset, pixel, norm_x, norm_y, bend_norm_x, bend_norm_y, sums, bend_sums,
            X, BEND_X, Y, BEND_Y, TAPS, SCALE_X, SCALE_Y, STEP, LANES, ALIGN, JOINED, BENT, EDGE,
        )  # fmt: skip
        if not EDGE:
            line += SCALE_Y * step_y
        # The row that no later row of the gradient reaches is complete; those above the run were not, and are not kept.
        rows += (sums[0],)
        row = y - BEFORE
        if row >= first:
            at = dx + row.to(tl.int64) * pitch + own
            value = sharpened(rows, SHARPENING, TAPS_S, 0, 1)[0].to(dx.dtype.element_ty)
            if EDGE:
                tl.store(at, value, own < pitch)
            else:
                tl.store(at, value)
        rows = rows[1:]
        sums = sums[1:]
        sums += (nothing,)
        if BENT:
            row = y - BEND_TAPS_Y // 2
            if (row >= first) & (row < last):
                at = dbend + row.to(tl.int64) * pitch + own
                if EDGE:
                    tl.store(at, bend_sums[0], own < pitch)
                else:
                    tl.store(at, bend_sums[0])
            bend_sums = bend_sums[1:]
            bend_sums += (nothing,)


@triton.jit
def transpose(
    grad, dx, dbend, norm_x, norm_y, bend_norm_x, bend_norm_y,
    planes, height, width, runs, strips, grad_b, grad_c, grad_y,
    X: tl.constexpr, BEND_X: tl.constexpr, Y: tl.constexpr, BEND_Y: tl.constexpr, SHARPENING: tl.constexpr,
    TAPS: tl.constexpr, SCALE_X: tl.constexpr, SCALE_Y: tl.constexpr, STEP: tl.constexpr, CHANNELS: tl.constexpr,
    ROWS: tl.constexpr, LANES: tl.constexpr, ALIGN: tl.constexpr, JOINED: tl.constexpr,
):  # fmt: skip
    """The transpose of `upscale`: `dx` from `grad`, and `dbend` with the plain magic kernel from the same reads.

    One program owns ROWS rows by LANES numbers of `dx`, a plane or channels side by side as in `upscale`, and writes
    each once. It reads the rows of the gradient that its own reach, each several times from the cache. `height` and
    `width` are those of `dx`; JOINED: all outputs in a pixel of a plane are one load.
    """
    program = tl.program_id(0)
    strip, rest = program % strips, program // strips
    first, index = rest % runs * ROWS, rest // runs
    batch, plane = index // planes, index % planes
    line = grad + batch.to(tl.int64) * grad_b + plane.to(tl.int64) * grad_c
    pitch = width * CHANNELS
    result = dx + index.to(tl.int64) * height * pitch
    bent = dbend
    if dbend is not None:
        bent = dbend + index.to(tl.int64) * height * pitch
    own = strip * LANES + tl.arange(0, LANES)
    pixel, channel = own // CHANNELS, own % CHANNELS
    offset = pixel * (SCALE_X * STEP) + channel
    if JOINED:
        offset = offset[:, None] + tl.arange(0, SCALE_X)[None, :]
    BEFORE: tl.constexpr = TAPS[1] // 2 + TAPS[2] // 2
    TAPS_X: tl.constexpr = TAPS[0]
    # Twice the taps away from the edges: outputs this far still make up for taps that they miss.
    inside = (first >= 2 * BEFORE) & (first + ROWS + 2 * BEFORE <= height)
    inside = inside & (strip * LANES // CHANNELS >= 2 * (TAPS_X // 2))
    inside = inside & ((strip * LANES + LANES - 1) // CHANNELS + 2 * (TAPS_X // 2) < width)
    if inside:
        gather(
            line, result, bent, norm_x, norm_y, bend_norm_x, bend_norm_y, height, width, grad_y, first, pitch,
            offset, pixel, own,
            X, BEND_X, Y, BEND_Y, SHARPENING, TAPS, SCALE_X, SCALE_Y, STEP, ROWS, LANES, ALIGN, JOINED, False,
        )  # fmt: skip
    else:
        gather(
            line, result, bent, norm_x, norm_y, bend_norm_x, bend_norm_y, height, width, grad_y, first, pitch,
            offset, pixel, own,
            X, BEND_X, Y, BEND_Y, SHARPENING, TAPS, SCALE_X, SCALE_Y, STEP, ROWS, LANES, ALIGN, JOINED, True,
        )  # fmt: skip

"""An integer upscale in one Triton launch: rows of the picture stream by, resampled horizontally, then vertically."""

# What `triton.jit` compiles is no Python that a type checker knows: constexpr branches, tensors of one class.
# pyright: reportPossiblyUnboundVariable=false, reportOperatorIssue=false, reportArgumentType=false, reportCallIssue=false
# pyright: reportIndexIssue=false, reportGeneralTypeIssues=false, reportAttributeAccessIssue=false

import triton
import triton.language as tl

from sr_kernels.magic_resample.banded import narrowed


@triton.jit
def shared_lanes(
    image, y, height, width, step_y, offset, pixel, norm,
    WEIGHTS: tl.constexpr, TAPS: tl.constexpr, PHASES: tl.constexpr, STEP: tl.constexpr, EDGE: tl.constexpr,
):  # fmt: skip
    """One row of the picture, resampled horizontally: a lane is a number of the picture and makes PHASES outputs.

    All phases read the same taps, with the same weights in every lane; at the EDGE taps outside are zero, and `norm`
    makes up for them.
    """
    row, limit = y, width
    if EDGE:
        row = tl.minimum(tl.maximum(y, 0), height - 1)
        limit = tl.where(row == y, width, 0)
    at = image + row.to(tl.int64) * step_y + offset
    values = ()
    for t in tl.static_range(TAPS):
        if EDGE:
            source = pixel + (t - TAPS // 2)
            value = tl.load(at + (t - TAPS // 2) * STEP, (source >= 0) & (source < limit), 0)
        else:
            value = tl.load(at + (t - TAPS // 2) * STEP)
        values += (value.to(tl.float32),)
    sums = ()
    for phase in tl.static_range(PHASES):
        total = tl.zeros_like(values[0])
        for t in tl.static_range(TAPS):
            if WEIGHTS[phase * TAPS + t] != 0.0:
                total += values[t] * WEIGHTS[phase * TAPS + t]
        if EDGE:
            total *= norm[phase]
        sums += (total,)
    return sums


@triton.jit
def own_lanes(
    image, y, height, width, step_y, offsets, pixel, weights,
    TAPS: tl.constexpr, STREAMS: tl.constexpr, STEP: tl.constexpr, EDGE: tl.constexpr,
):  # fmt: skip
    """One row of the picture, resampled horizontally: a lane is STREAMS outputs side by side, of any phase.

    Each has a window of its own, that lies inside the picture, and weights of its own.
    """
    row, limit = y, width
    if EDGE:
        row = tl.minimum(tl.maximum(y, 0), height - 1)
        limit = tl.where(row == y, width, 0)
    line = image + row.to(tl.int64) * step_y
    sums = ()
    for stream in tl.static_range(STREAMS):
        at = line + offsets[stream]
        total = tl.zeros(at.shape, tl.float32)
        for t in tl.static_range(TAPS):
            value = tl.load(at + t * STEP, pixel < limit, 0) if EDGE else tl.load(at + t * STEP)
            total += value.to(tl.float32) * weights[stream * TAPS + t]
        sums += (total,)
    return sums


@triton.jit
def horizontal(
    image, y, height, width, step_y, offsets, pixel, factors,
    WEIGHTS: tl.constexpr, TAPS: tl.constexpr, STREAMS: tl.constexpr, STEP: tl.constexpr, OWN: tl.constexpr,
    EDGE: tl.constexpr,
):  # fmt: skip
    """Row y in STREAMS results a lane; zero outside the picture."""
    if OWN:
        return own_lanes(image, y, height, width, step_y, offsets, pixel, factors, TAPS, STREAMS, STEP, EDGE)
    return shared_lanes(image, y, height, width, step_y, offsets[0], pixel, factors, WEIGHTS, TAPS, STREAMS, STEP, EDGE)


@triton.jit
def vertical(
    window, norm, row,
    WEIGHTS: tl.constexpr, TAPS: tl.constexpr, FIRST: tl.constexpr, STREAM: tl.constexpr, STREAMS: tl.constexpr,
    PHASE: tl.constexpr, EDGE: tl.constexpr,
):  # fmt: skip
    """One result of output `row`: TAPS rows of the window, from row FIRST of it."""
    total = tl.zeros_like(window[0])
    for t in tl.static_range(TAPS):
        if WEIGHTS[PHASE * TAPS + t] != 0.0:
            total += window[(FIRST + t) * STREAMS + STREAM] * WEIGHTS[PHASE * TAPS + t]
    if EDGE:
        total *= tl.load(norm + row)
    return total


@triton.jit
def side_by_side(values, COUNT: tl.constexpr, CHANNELS: tl.constexpr, LANES: tl.constexpr):
    """COUNT results of every lane as they lie in a row: CHANNELS lanes are one pixel, results are its neighbours."""
    if COUNT == 1:
        return values[0]
    if COUNT == 2:
        both = tl.join(values[0], values[1])
    else:
        both = tl.join(tl.join(values[0], values[2]), tl.join(values[1], values[3]))
        both = tl.reshape(both, (LANES, 4))
    if CHANNELS > 1:
        both = tl.trans(tl.reshape(both, (LANES // CHANNELS, CHANNELS, COUNT)), 0, 2, 1)
    return tl.reshape(both, (LANES * COUNT,))


@triton.jit
def stream(
    image, out, bend, norm_y, bend_norm_y, height, width, step_y, bend_step_y, first, pitch,
    offsets, bend_offsets, pixel, factors, bend_factors, own, used,
    X: tl.constexpr, BEND_X: tl.constexpr, Y: tl.constexpr, BEND_Y: tl.constexpr, TAPS: tl.constexpr,
    SCALE: tl.constexpr, STREAMS: tl.constexpr, STEP: tl.constexpr, CHANNELS: tl.constexpr, ROWS: tl.constexpr,
    LANES: tl.constexpr, PLACE: tl.constexpr, EDGE: tl.constexpr,
):  # fmt: skip
    """What one program does, see `upscale`. `own` is where its numbers go in a row of the output, `used` how many."""
    OWN: tl.constexpr = PLACE == "own"
    TAPS_X: tl.constexpr = TAPS[0]
    TAPS_Y: tl.constexpr = TAPS[1]
    BEND_TAPS_X: tl.constexpr = TAPS[2]
    BEND_TAPS_Y: tl.constexpr = TAPS[3]
    BESIDE: tl.constexpr = CHANNELS if PLACE == "joined" else 1
    nothing = tl.zeros((LANES,), tl.float32)
    window, bent = (), ()
    for _ in tl.static_range((TAPS_Y - 1) * STREAMS):
        window += (nothing,)
    # Rows come in pairs, which halves the moves of a window's rows and lets twice the loads wait at a time.
    if TAPS_Y > 1:
        for step in range(0, TAPS_Y // 2):
            for i in tl.static_range(2):
                window = window[STREAMS:] + horizontal(
                    image, first - TAPS_Y // 2 + 2 * step + i, height, width, step_y, offsets, pixel, factors,
                    X, TAPS_X, STREAMS, STEP, OWN, EDGE,
                )  # fmt: skip
    if bend is not None:
        for i in tl.static_range(BEND_TAPS_Y - 1):
            bent += horizontal(
                bend, first - BEND_TAPS_Y // 2 + i, height, width, bend_step_y, bend_offsets, pixel, bend_factors,
                BEND_X, BEND_TAPS_X, STREAMS, CHANNELS, OWN, EDGE,
            )  # fmt: skip
    rows = ROWS
    if EDGE:
        rows = tl.minimum(ROWS, height - first)
    for step in range(0, rows, 2):
        for i in tl.static_range(2):
            window += horizontal(
                image, first + step + i + TAPS_Y // 2, height, width, step_y, offsets, pixel, factors,
                X, TAPS_X, STREAMS, STEP, OWN, EDGE,
            )  # fmt: skip
            if bend is not None:
                bent += horizontal(
                    bend, first + step + i + BEND_TAPS_Y // 2, height, width, bend_step_y, bend_offsets, pixel,
                    bend_factors, BEND_X, BEND_TAPS_X, STREAMS, CHANNELS, OWN, EDGE,
                )  # fmt: skip
        for i in tl.static_range(2):
            y = first + step + i
            row, limit = y, used
            if EDGE:
                row = tl.minimum(y, height - 1)
                limit = tl.where(row == y, used, 0)
            for phase in tl.static_range(SCALE):
                target = out + (row.to(tl.int64) * SCALE + phase) * pitch
                values = ()
                for s in tl.static_range(STREAMS):
                    value = vertical(window, norm_y, row * SCALE + phase, Y, TAPS_Y, i, s, STREAMS, phase, EDGE)
                    if bend is not None:
                        value += vertical(
                            bent, bend_norm_y, row * SCALE + phase, BEND_Y, BEND_TAPS_Y, i, s, STREAMS, phase, EDGE
                        )
                    values += (narrowed(value, out.dtype.element_ty),)
                if PLACE == "apart":
                    for s in tl.static_range(STREAMS):
                        if EDGE:
                            tl.store(target + own + s * CHANNELS, values[s], own < limit)
                        else:
                            tl.store(target + own + s * CHANNELS, values[s])
                elif EDGE:
                    tl.store(target + own, side_by_side(values, STREAMS, BESIDE, LANES), own < limit)
                else:
                    tl.store(target + own, side_by_side(values, STREAMS, BESIDE, LANES))
        window = window[2 * STREAMS :]
        bent = bent[2 * STREAMS :]


@triton.jit
def upscale(
    x, out, bend, norm_x, norm_y, bend_norm_x, bend_norm_y, start, weights, bend_start, bend_weights,
    planes, height, width, runs, strips, x_b, x_c, x_y, bend_b, bend_c, bend_y,
    X: tl.constexpr, BEND_X: tl.constexpr, Y: tl.constexpr, BEND_Y: tl.constexpr, TAPS: tl.constexpr,
    SCALE_X: tl.constexpr, SCALE_Y: tl.constexpr, STREAMS: tl.constexpr, STEP: tl.constexpr, CHANNELS: tl.constexpr,
    ROWS: tl.constexpr, LANES: tl.constexpr, PLACE: tl.constexpr,
):  # fmt: skip
    """`x`, and `bend` with the plain magic kernel, upscaled by SCALE_Y and SCALE_X and summed.

    One program owns ROWS rows of the picture by LANES numbers of a row and writes all outputs that lie in them, once.
    It reads its rows and the taps above and below, each TAPS times from the cache; horizontally resampled rows wait in
    registers until the last output that needs them. `planes` counts those of a picture, which have CHANNELS channels
    side by side, `STEP` numbers from pixel to pixel. Offsets within a row are 32 bits wide, others 64.

    How results lie in lanes is PLACE: "joined", a lane makes all phases of a number, which are stored as neighbours;
    "apart", each phase is stored by itself, being as many bytes as memory takes at once; "own", a lane makes STREAMS
    neighbours of the output, and takes weights from a table.
    """
    program = tl.program_id(0)
    strip, rest = program % strips, program // strips
    first, index = rest % runs * ROWS, rest // runs
    batch, plane = index // planes, index % planes
    image = x + batch.to(tl.int64) * x_b + plane.to(tl.int64) * x_c
    bend_image = bend
    if bend is not None:
        bend_image = bend + batch.to(tl.int64) * bend_b + plane.to(tl.int64) * bend_c
    pitch = width * (SCALE_X * CHANNELS)
    target = out + index.to(tl.int64) * (height * SCALE_Y) * pitch
    lane = strip * LANES + tl.arange(0, LANES)
    offsets, bend_offsets, factors, bend_factors = (), (), (), ()
    if PLACE == "own":
        own = strip * (LANES * STREAMS) + tl.arange(0, LANES * STREAMS)
        pixel = tl.zeros((LANES,), tl.int32)
        for s in tl.static_range(STREAMS):
            number = tl.minimum(lane * STREAMS + s, pitch - 1)
            column, channel = number // CHANNELS, number % CHANNELS
            offsets += (tl.load(start + column) * STEP + (channel if CHANNELS > 1 else 0),)
            for t in tl.static_range(TAPS[0]):
                factors += (tl.load(weights + t * (width * SCALE_X) + column),)
            if bend is not None:
                bend_offsets += (tl.load(bend_start + column) * CHANNELS + channel,)
                for t in tl.static_range(TAPS[2]):
                    bend_factors += (tl.load(bend_weights + t * (width * SCALE_X) + column),)
        inside = (strip + 1) * (LANES * STREAMS) <= pitch
        used = pitch
    else:
        pixel, channel = lane // CHANNELS, lane % CHANNELS
        offsets += (lane if STEP == CHANNELS else pixel * STEP + channel,)
        if bend is not None:
            bend_offsets += (lane,)
        if PLACE == "apart":
            own = lane if SCALE_X == 1 else pixel * (SCALE_X * CHANNELS) + channel
        else:
            own = strip * (LANES * STREAMS) + tl.arange(0, LANES * STREAMS)
        inside = (strip * LANES // CHANNELS >= TAPS[0] // 2) & (
            (strip * LANES + LANES - 1) // CHANNELS + TAPS[0] // 2 < width
        )
        used = pitch
    inside = inside & (first >= TAPS[1] // 2) & (first + ROWS + TAPS[1] // 2 <= height)
    if inside:
        stream(
            image, target, bend_image, norm_y, bend_norm_y, height, width, x_y, bend_y, first, pitch,
            offsets, bend_offsets, pixel, factors, bend_factors, own, used,
            X, BEND_X, Y, BEND_Y, TAPS, SCALE_Y, STREAMS, STEP, CHANNELS, ROWS, LANES, PLACE, False,
        )  # fmt: skip
    else:
        makeup, bend_makeup = factors, bend_factors
        if PLACE != "own":
            for s in tl.static_range(STREAMS):
                column = tl.minimum(pixel, width - 1) * SCALE_X + s
                makeup += (tl.load(norm_x + column),)
                if bend is not None:
                    bend_makeup += (tl.load(bend_norm_x + column),)
        stream(
            image, target, bend_image, norm_y, bend_norm_y, height, width, x_y, bend_y, first, pitch,
            offsets, bend_offsets, pixel, makeup, bend_makeup, own, used,
            X, BEND_X, Y, BEND_Y, TAPS, SCALE_Y, STREAMS, STEP, CHANNELS, ROWS, LANES, PLACE, True,
        )  # fmt: skip

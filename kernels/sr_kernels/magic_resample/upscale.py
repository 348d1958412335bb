"""An integer upscale in one Triton launch: rows of the picture stream by, resampled horizontally, then vertically."""

# What `triton.jit` compiles is no Python that a type checker knows: constexpr branches, tensors of one class.
# pyright: reportPossiblyUnboundVariable=false, reportOperatorIssue=false, reportArgumentType=false, reportCallIssue=false
# pyright: reportIndexIssue=false, reportGeneralTypeIssues=false, reportAttributeAccessIssue=false
# pyright: reportAssignmentType=false

import triton
import triton.language as tl

from sr_kernels.magic_resample.banded import narrowed


@triton.jit
def moved(pointers, by, COUNT: tl.constexpr):
    """Each of the pointers, `by` numbers further."""
    found = ()
    for i in tl.static_range(COUNT):
        found += (pointers[i] + by,)
    return found


@triton.jit
def horizontal(
    sources, y, height, width, step_y, pixel, factors,
    WEIGHTS: tl.constexpr, TAPS: tl.constexpr, STREAMS: tl.constexpr, STEP: tl.constexpr, OWN: tl.constexpr,
    EDGE: tl.constexpr,
):  # fmt: skip
    """A row of the picture in STREAMS results a lane.

    OWN: each result has a window of its own, at `sources`, and weights of its own, `factors`. Otherwise all read the
    same taps around one source, with the same WEIGHTS in every lane. At the EDGE `sources` lie in row 0, what lies
    outside the picture is zero, and without OWN `factors` make up for the taps that are missed.
    """
    limit, line = width, 0
    if EDGE:
        row = tl.minimum(tl.maximum(y, 0), height - 1)
        limit = tl.where(row == y, width, 0)
        line = row.to(tl.int64) * step_y
    sums = ()
    if OWN:
        for stream in tl.static_range(STREAMS):
            at = sources[stream] + line
            total = tl.zeros(at.shape, tl.float32)
            for t in tl.static_range(TAPS):
                value = tl.load(at + t * STEP, pixel < limit, 0) if EDGE else tl.load(at + t * STEP)
                total += value.to(tl.float32) * factors[stream * TAPS + t]
            sums += (total,)
    else:
        values = ()
        for t in tl.static_range(TAPS):
            at = sources[0] + line + (t - TAPS // 2) * STEP
            source = pixel + (t - TAPS // 2)
            value = tl.load(at, (source >= 0) & (source < limit), 0) if EDGE else tl.load(at)
            values += (value.to(tl.float32),)
        for phase in tl.static_range(STREAMS):
            total = tl.zeros_like(values[0])
            for t in tl.static_range(TAPS):
                if WEIGHTS[phase * TAPS + t] != 0.0:
                    total += values[t] * WEIGHTS[phase * TAPS + t]
            sums += (total * factors[phase] if EDGE else total,)
    return sums


@triton.jit
def vertical(
    window, WEIGHTS: tl.constexpr, TAPS: tl.constexpr, PHASE: tl.constexpr, FIRST: tl.constexpr, STREAM: tl.constexpr,
    STREAMS: tl.constexpr,
):  # fmt: skip
    """One of STREAMS results over TAPS rows of the window, from row FIRST of it."""
    total = tl.zeros_like(window[0])
    for t in tl.static_range(TAPS):
        if WEIGHTS[PHASE * TAPS + t] != 0.0:
            total += window[(FIRST + t) * STREAMS + STREAM] * WEIGHTS[PHASE * TAPS + t]
    return total


@triton.jit
def sharpened(window, SHARPENING: tl.constexpr, TAPS: tl.constexpr, FIRST: tl.constexpr, STREAMS: tl.constexpr):
    """A row of all streams, sharpened over TAPS rows of the window, from row FIRST of it."""
    row = ()
    for stream in tl.static_range(STREAMS):
        row += (vertical(window, SHARPENING, TAPS, 0, FIRST, stream, STREAMS),)
    return row


@triton.jit
def side_by_side(values, COUNT: tl.constexpr, CHANNELS: tl.constexpr, LANES: tl.constexpr):
    """COUNT results of every lane as they lie in a row: CHANNELS lanes are one pixel, results are its neighbours."""
    row = values[0]
    if COUNT > 1:
        if COUNT == 2:
            both = tl.join(values[0], values[1])
        else:
            both = tl.join(tl.join(values[0], values[2]), tl.join(values[1], values[3]))
            both = tl.reshape(both, (LANES, 4))
        if CHANNELS > 1:
            both = tl.trans(tl.reshape(both, (LANES // CHANNELS, CHANNELS, COUNT)), 0, 2, 1)
        row = tl.reshape(both, (LANES * COUNT,))
    return row


@triton.jit
def stream(
    sources, out, bends, norm_y, bend_norm_y, height, width, step_y, bend_step_y, first, pitch,
    pixel, factors, bend_factors, own,
    X: tl.constexpr, BEND_X: tl.constexpr, Y: tl.constexpr, BEND_Y: tl.constexpr, SHARPENING: tl.constexpr,
    TAPS: tl.constexpr, SCALE: tl.constexpr, STREAMS: tl.constexpr, STEP: tl.constexpr, BEND_STEP: tl.constexpr,
    CHANNELS: tl.constexpr, ROWS: tl.constexpr, LANES: tl.constexpr, PLACE: tl.constexpr, BENT: tl.constexpr,
    EDGE: tl.constexpr,
):  # fmt: skip
    """What one program does, see `upscale`. `own` is where its numbers go in a row of the output."""
    OWN: tl.constexpr = PLACE == "own"
    COUNT: tl.constexpr = STREAMS if OWN else 1
    TAPS_X: tl.constexpr = TAPS[0]
    TAPS_Y: tl.constexpr = TAPS[1]
    TAPS_S: tl.constexpr = TAPS[2]
    BEND_TAPS_X: tl.constexpr = TAPS[3]
    BEND_TAPS_Y: tl.constexpr = TAPS[4]
    BEFORE: tl.constexpr = TAPS_S // 2 + TAPS_Y // 2
    BESIDE: tl.constexpr = CHANNELS if PLACE == "joined" else 1
    target = out + own
    if not EDGE:
        sources = moved(sources, (first - BEFORE).to(tl.int64) * step_y, COUNT)
        target += first.to(tl.int64) * SCALE * pitch
        if BENT:
            bends = moved(bends, (first - BEND_TAPS_Y // 2).to(tl.int64) * bend_step_y, COUNT)
    lines, rows, bent = (), (), ()
    for _ in tl.static_range((TAPS_S - 1) * STREAMS):
        lines += (tl.zeros((LANES,), tl.float32),)
    for _ in tl.static_range((TAPS_Y - 1) * STREAMS):
        rows += (tl.zeros((LANES,), tl.float32),)
    # The taps above the first row, in pairs; what leaves the windows first was made from zeros, and is not used.
    if BEFORE > 0:
        for step in range(0, BEFORE):
            for i in tl.static_range(2):
                lines += horizontal(
                    sources, first - BEFORE + 2 * step + i, height, width, step_y, pixel, factors,
                    X, TAPS_X, STREAMS, STEP, OWN, EDGE,
                )  # fmt: skip
                rows = rows[STREAMS:] + sharpened(lines, SHARPENING, TAPS_S, 0, STREAMS)
                lines = lines[STREAMS:]
                if not EDGE:
                    sources = moved(sources, step_y, COUNT)
    if BENT:
        for i in tl.static_range(BEND_TAPS_Y - 1):
            bent += horizontal(
                bends, first - BEND_TAPS_Y // 2 + i, height, width, bend_step_y, pixel, bend_factors,
                BEND_X, BEND_TAPS_X, STREAMS, BEND_STEP, OWN, EDGE,
            )  # fmt: skip
            if not EDGE:
                bends = moved(bends, bend_step_y, COUNT)
    # In pairs again: half the moves in the windows, and twice the loads under way at a time.
    for step in range(0, tl.minimum(ROWS, height - first) if EDGE else ROWS, 2):
        for i in tl.static_range(2):
            lines += horizontal(
                sources, first + step + i + BEFORE, height, width, step_y, pixel, factors,
                X, TAPS_X, STREAMS, STEP, OWN, EDGE,
            )  # fmt: skip
            if not EDGE:
                sources = moved(sources, step_y, COUNT)
            if BENT:
                bent += horizontal(
                    bends, first + step + i + BEND_TAPS_Y // 2, height, width, bend_step_y, pixel, bend_factors,
                    BEND_X, BEND_TAPS_X, STREAMS, BEND_STEP, OWN, EDGE,
                )  # fmt: skip
                if not EDGE:
                    bends = moved(bends, bend_step_y, COUNT)
        for i in tl.static_range(2):
            rows += sharpened(lines, SHARPENING, TAPS_S, i, STREAMS)
            row, limit = first + step + i, pitch
            if EDGE:
                limit = tl.where(row < height, pitch, 0)
                row = tl.minimum(row, height - 1)
            for phase in tl.static_range(SCALE):
                if EDGE:
                    target = out + (row.to(tl.int64) * SCALE + phase) * pitch + own
                values = ()
                for s in tl.static_range(STREAMS):
                    value = vertical(rows, Y, TAPS_Y, phase, i, s, STREAMS)
                    if EDGE:
                        value *= tl.load(norm_y + row * SCALE + phase)
                    if BENT:
                        bend = vertical(bent, BEND_Y, BEND_TAPS_Y, phase, i, s, STREAMS)
                        value += bend * tl.load(bend_norm_y + row * SCALE + phase) if EDGE else bend
                    values += (narrowed(value, out.dtype.element_ty),)
                if PLACE != "apart":
                    values = (side_by_side(values, STREAMS, BESIDE, LANES),)
                for s in tl.static_range(STREAMS if PLACE == "apart" else 1):
                    if EDGE:
                        tl.store(target + s * CHANNELS, values[s], own < limit)
                    else:
                        tl.store(target + s * CHANNELS, values[s])
                if not EDGE:
                    target += pitch
        lines, rows, bent = lines[2 * STREAMS :], rows[2 * STREAMS :], bent[2 * STREAMS :]


@triton.jit
def upscale(
    x, out, bend, norm_x, norm_y, bend_norm_x, bend_norm_y, start, weights, bend_start, bend_weights,
    planes, height, width, runs, strips, x_b, x_c, x_y, bend_b, bend_c, bend_y,
    X: tl.constexpr, BEND_X: tl.constexpr, Y: tl.constexpr, BEND_Y: tl.constexpr, SHARPENING: tl.constexpr,
    TAPS: tl.constexpr, SCALE_X: tl.constexpr, SCALE_Y: tl.constexpr, STREAMS: tl.constexpr, STEP: tl.constexpr,
    BEND_STEP: tl.constexpr, CHANNELS: tl.constexpr, ROWS: tl.constexpr, LANES: tl.constexpr, PLACE: tl.constexpr,
):  # fmt: skip
    """`x`, and `bend` with the plain magic kernel, upscaled by SCALE_Y and SCALE_X and summed.

    One program owns ROWS rows of the picture by LANES numbers of a row and writes all outputs that lie in them, once.
    It reads its rows and the taps above and below, each several times from the cache. Rows wait in registers until the
    last output that needs them: resampled horizontally, then sharpened vertically, too. `planes` counts those of a
    picture, which have CHANNELS channels side by side, STEP numbers from pixel to pixel. Offsets within a row are 32
    bits wide, others 64. Programs that touch no edge of the picture skip all masks.

    How results lie in lanes is PLACE: "joined", a lane makes all phases of a number, which are stored as neighbours;
    "apart", each phase is stored by itself, being as many bytes as memory takes at once; "own", a lane makes STREAMS
    neighbours of the output, and takes weights from a table.
    """
    program = tl.program_id(0)
    strip, rest = program % strips, program // strips
    first, index = rest % runs * ROWS, rest // runs
    batch, plane = index // planes, index % planes
    image = x + batch.to(tl.int64) * x_b + plane.to(tl.int64) * x_c
    BENT: tl.constexpr = bend is not None
    pitch = width * (SCALE_X * CHANNELS)
    target = out + index.to(tl.int64) * (height * SCALE_Y) * pitch
    lane = strip * LANES + tl.arange(0, LANES)
    sources, bends, weights_own, bend_weights_own = (), (), (), ()
    if BENT:
        bend_image = bend + batch.to(tl.int64) * bend_b + plane.to(tl.int64) * bend_c
    BEFORE: tl.constexpr = TAPS[1] // 2 + TAPS[2] // 2
    TAPS_X: tl.constexpr = TAPS[0]
    BEND_TAPS_X: tl.constexpr = TAPS[3]
    if PLACE != "apart":
        own = strip * (LANES * STREAMS) + tl.arange(0, LANES * STREAMS)
    inside = (first >= BEFORE) & (first + ROWS + BEFORE <= height)
    if PLACE == "own":
        pixel = tl.zeros((LANES,), tl.int32)
        for s in tl.static_range(STREAMS):
            number = tl.minimum(lane * STREAMS + s, pitch - 1)
            column, channel = number // CHANNELS, number % CHANNELS
            sources += (image + tl.load(start + column) * STEP + channel,)
            for t in tl.static_range(TAPS_X):
                weights_own += (tl.load(weights + t * (width * SCALE_X) + column),)
            if BENT:
                bends += (bend_image + tl.load(bend_start + column) * BEND_STEP + channel,)
                for t in tl.static_range(BEND_TAPS_X):
                    bend_weights_own += (tl.load(bend_weights + t * (width * SCALE_X) + column),)
        inside = inside & ((strip + 1) * (LANES * STREAMS) <= pitch)
    else:
        pixel, channel = lane // CHANNELS, lane % CHANNELS
        sources += (image + (lane if STEP == CHANNELS else pixel * STEP + channel),)
        if BENT:
            bends += (bend_image + (lane if BEND_STEP == CHANNELS else pixel * BEND_STEP + channel),)
        if PLACE == "apart":
            own = lane if SCALE_X == 1 else pixel * (SCALE_X * CHANNELS) + channel
        inside = inside & (strip * LANES // CHANNELS >= TAPS_X // 2)
        inside = inside & ((strip * LANES + LANES - 1) // CHANNELS + TAPS_X // 2 < width)
    if inside:
        stream(
            sources, target, bends, norm_y, bend_norm_y, height, width, x_y, bend_y, first, pitch,
            pixel, weights_own, bend_weights_own, own,
            X, BEND_X, Y, BEND_Y, SHARPENING, TAPS, SCALE_Y, STREAMS, STEP, BEND_STEP, CHANNELS, ROWS, LANES, PLACE,
            BENT, False,
        )  # fmt: skip
    else:
        factors, bend_factors = weights_own, bend_weights_own
        if PLACE != "own":
            for s in tl.static_range(STREAMS):
                column = tl.minimum(pixel, width - 1) * SCALE_X + s
                factors += (tl.load(norm_x + column),)
                if BENT:
                    bend_factors += (tl.load(bend_norm_x + column),)
        stream(
            sources, target, bends, norm_y, bend_norm_y, height, width, x_y, bend_y, first, pitch,
            pixel, factors, bend_factors, own,
            X, BEND_X, Y, BEND_Y, SHARPENING, TAPS, SCALE_Y, STREAMS, STEP, BEND_STEP, CHANNELS, ROWS, LANES, PLACE,
            BENT, True,
        )  # fmt: skip

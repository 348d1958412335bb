"""Sums that end the backward pass of window attention, in a fixed order: keys that windows share, bias table rows."""

# What `triton.jit` compiles is no Python that a type checker knows: constexpr branches, tensors of one class.
# pyright: reportPossiblyUnboundVariable=false, reportOperatorIssue=false, reportArgumentType=false, reportCallIssue=false
# pyright: reportIndexIssue=false, reportGeneralTypeIssues=false, reportAttributeAccessIssue=false

import triton
import triton.language as tl


@triton.jit
def _candidate(position, size, count, age, G: tl.constexpr, AXIS: tl.constexpr):
    """On one axis: the window that began `age` windows before the last one reaching a key, the key's token in it."""
    STEP: tl.constexpr = G[6 + AXIS]
    SHIFT: tl.constexpr = G[2 + AXIS] * STEP // G[AXIS]
    length = count * STEP
    if not G[12]:
        length = size
    rolled = position
    if SHIFT > 0:
        rolled = position - SHIFT % length
        rolled = tl.where(rolled < 0, rolled + length, rolled)
    # Counted from far before the map: division rounds towards zero.
    FAR: tl.constexpr = G[4 + AXIS] + G[8 + AXIS] if G[8 + AXIS] > 0 else G[4 + AXIS]
    window = (rolled - G[8 + AXIS] + FAR * STEP) // STEP - FAR - age
    token = rolled - G[8 + AXIS] - window * STEP
    return window, token, (window >= 0) & (window < count) & (token < G[4 + AXIS])


@triton.jit
def fold_keys(
    parts, out, start, stride, H, W, NY, NX, pixels,
    G: tl.constexpr, C: tl.constexpr, NK: tl.constexpr, BP: tl.constexpr, BC: tl.constexpr,
):  # fmt: skip
    """A program owns BC channels of BP key pixels: it adds up what the windows that reach them contributed.

    parts (windows, NK, C) -> out, rows of `stride` numbers from `start` on.
    """
    CHANNELS: tl.constexpr = (C + BC - 1) // BC
    p = tl.program_id(0) // CHANNELS * BP + tl.arange(0, BP)
    c = tl.program_id(0) % CHANNELS * BC + tl.arange(0, BC)
    height, width = H * G[6] // G[0], W * G[7] // G[1]
    x = p % width
    y = p // width % height
    b = p // width // height
    total = tl.zeros((BP, BC), tl.float32)
    for age_y in tl.static_range((G[4] + G[6] - 1) // G[6]):
        wy, ty, live_y = _candidate(y, height, NY, age_y, G, 0)
        for age_x in tl.static_range((G[5] + G[7] - 1) // G[7]):
            wx, tx, live_x = _candidate(x, width, NX, age_x, G, 1)
            row = ((b * NY + wy) * NX + wx).to(tl.int64) * NK + ty * G[5] + tx
            live = (p < pixels) & live_y & live_x
            address = parts + row[:, None] * C + c[None, :]
            total += tl.load(address, mask=live[:, None] & (c < C)[None, :], other=0.0).to(tl.float32)
    address = out + start + p.to(tl.int64)[:, None] * stride + c[None, :]
    tl.store(address, total.to(out.dtype.element_ty), (p < pixels)[:, None] & (c < C)[None, :])


@triton.jit
def fold_table(
    dense, out,
    G: tl.constexpr, HEADS: tl.constexpr, NQ: tl.constexpr, NK: tl.constexpr, ROWS: tl.constexpr,
    BR: tl.constexpr, BK: tl.constexpr,
):  # fmt: skip
    """A program owns BR rows of one head's bias table: it adds up the gradients of all pairs that read them.

    dense (HEADS, NQ, NK) float32 -> out (ROWS, HEADS).
    """
    h = tl.program_id(0) % HEADS
    r = tl.program_id(0) // HEADS * BR + tl.arange(0, BR)
    WIDTH: tl.constexpr = G[7] + G[5] - 1
    SUB_Y: tl.constexpr = G[0] // G[6]
    SUB_X: tl.constexpr = G[1] // G[7]
    total = tl.zeros((BR, BK), tl.float32)
    for start in range(0, NK, BK):
        k = start + tl.arange(0, BK)
        cell_y = (r // WIDTH - (G[4] - 1))[:, None] + (k // G[5])[None, :]
        cell_x = (r % WIDTH - (G[5] - 1))[:, None] + (k % G[5])[None, :]
        live = (cell_y >= 0) & (cell_y < G[6]) & (cell_x >= 0) & (cell_x < G[7])
        live = live & (r < ROWS)[:, None] & (k < NK)[None, :]
        for sub_y in tl.static_range(SUB_Y):
            for sub_x in tl.static_range(SUB_X):
                q = (cell_y * SUB_Y + sub_y) * G[1] + cell_x * SUB_X + sub_x
                total += tl.load(dense + h * (NQ * NK) + q * NK + k[None, :], mask=live, other=0.0)
    tl.store(out + r * HEADS + h, tl.sum(total, 1).to(out.dtype.element_ty), mask=r < ROWS)


@triton.jit
def fold_distances(
    parts, out, groups,
    G: tl.constexpr, HEADS: tl.constexpr, ROWS: tl.constexpr, KR: tl.constexpr, BR: tl.constexpr, BT: tl.constexpr,
):  # fmt: skip
    """A program owns BR rows of one head's bias table: it adds up what `queries_backward` summed for 8 x 8 tiles.

    parts (groups, query tiles, HEADS, key tiles, 16 column distances, 8 query rows, KR key rows) float32
    -> out (ROWS, HEADS).
    """
    h = tl.program_id(0) % HEADS
    r = tl.program_id(0) // HEADS * BR + tl.arange(0, BR)
    WIDTH: tl.constexpr = G[7] + G[5] - 1
    M_ACROSS: tl.constexpr = G[1] // 8
    K_ACROSS: tl.constexpr = G[5] // 8
    QUERY_TILES: tl.constexpr = (G[0] // 8) * M_ACROSS
    KEY_TILES: tl.constexpr = (G[4] // KR) * K_ACROSS
    TERMS: tl.constexpr = G[0] * M_ACROSS * K_ACROSS  # a query row, a column of query tiles, one of key tiles
    down = (r // WIDTH - (G[4] - 1))[:, None]
    across = (r % WIDTH - (G[5] - 1))[:, None]
    total = tl.zeros((BR, BT), tl.float32)
    for start in range(0, TERMS, BT):
        t = (start + tl.arange(0, BT))[None, :]
        query_row = t // (M_ACROSS * K_ACROSS)
        key_row = query_row - down
        tile_x, key_x = t // K_ACROSS % M_ACROSS, t % K_ACROSS
        column = across - 8 * (tile_x - key_x) + 7
        live = (t < TERMS) & (r < ROWS)[:, None] & (key_row >= 0) & (key_row < G[4]) & (column >= 0) & (column < 15)
        query_tile = query_row // 8 * M_ACROSS + tile_x
        key_tile = key_row // KR * K_ACROSS + key_x
        at = ((query_tile * HEADS + h) * KEY_TILES + key_tile) * (128 * KR)
        at += column * (8 * KR) + query_row % 8 * KR + key_row % KR
        for group in range(0, groups):
            total += tl.load(parts + group * (QUERY_TILES * HEADS * KEY_TILES * 128 * KR) + at, mask=live, other=0.0)
    tl.store(out + r * HEADS + h, tl.sum(total, 1).to(out.dtype.element_ty), mask=r < ROWS)


@triton.jit
def fold_groups(parts, out, groups, size, BG: tl.constexpr, BS: tl.constexpr):
    """A program owns BS numbers: the sum over all groups. parts (groups, size) float32 -> out (size,) float32."""
    i = tl.program_id(0) * BS + tl.arange(0, BS)
    total = tl.zeros((BG, BS), tl.float32)
    for start in range(0, groups, BG):
        g = start + tl.arange(0, BG)
        address = parts + g.to(tl.int64)[:, None] * size + i[None, :]
        total += tl.load(address, mask=(g < groups)[:, None] & (i < size)[None, :], other=0.0)
    tl.store(out + i, tl.sum(total, 0), mask=i < size)

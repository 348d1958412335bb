"""What the window attention kernels share: where tokens lie, how their vectors are read, logits and their bias.

`G` is the cut of the map as a flat tuple, pairs being (rows, columns):
0 query window, 2 shift, 4 key window, 6 key step, 8 key offset, 10 grid layout, 11 outside (0 nothing lies there, 1
zero, 2 token), 12 padded before rolled. `windows.Axis` is the specification of its arithmetic.

A frame says where a window lies on one axis, in scalars: rolled coordinate of token 0, distance between tokens, length
of the roll, shift, size of the map, seam. What depends on the token as well is a comparison and an addition away.
"""

# What `triton.jit` compiles is no Python that a type checker knows: constexpr branches, tensors of one class.
# pyright: reportPossiblyUnboundVariable=false, reportOperatorIssue=false, reportArgumentType=false, reportCallIssue=false
# pyright: reportAssignmentType=false, reportIndexIssue=false, reportGeneralTypeIssues=false, reportAttributeAccessIssue=false

import triton
import triton.language as tl

LOG2E: tl.constexpr = tl.constexpr(1.4426950408889634)
LOWEST: tl.constexpr = tl.constexpr(-1e38)  # below every logit; -inf would give inf - inf in a row's first tile


@triton.jit
def window_of(number, NY, NX):
    """Batch entry, row and column of a window."""
    rest = number // NX
    return rest // NY, rest % NY, number % NX


@triton.jit
def frame(window, size, count, G: tl.constexpr, AXIS: tl.constexpr, KEY: tl.constexpr):
    """Frame of a window's queries or keys on an axis of `count` windows; `size` is that of the query map."""
    STEP: tl.constexpr = G[6 + AXIS] if KEY else G[AXIS]
    OFFSET: tl.constexpr = G[8 + AXIS] if KEY else 0
    SHIFT: tl.constexpr = G[2 + AXIS] * STEP // G[AXIS]
    padded = count * STEP
    size = size * STEP // G[AXIS]
    length = size
    if G[12]:
        length = padded
    if G[10]:
        rolled, unit = window, count
    else:
        rolled, unit = window * STEP + OFFSET, 1
    shift = 0
    if SHIFT > 0:
        shift = SHIFT % length
    return rolled, unit, length, shift, size, padded - SHIFT


@triton.jit
def origin(fy, fx, y_stride, x_stride):
    """int64 offset of token 0, not yet wrapped."""
    return (fy[0] + fy[3]).to(tl.int64) * y_stride + (fx[0] + fx[3]) * x_stride


@triton.jit
def offsets(ty, tx, fy, fx, y_stride, x_stride, G: tl.constexpr, ALIGN: tl.constexpr, WIDE: tl.constexpr):
    """Offsets of tokens from token 0, 64 bits where a map holds more than 2^31 numbers.

    ALIGN divides them all, which lets vectors be read in pieces that wide. (The hint must stand where the number is
    made: on the argument of a function it would be lost.)
    """
    if WIDE:
        ty, tx = ty.to(tl.int64), tx.to(tl.int64)
    value = ty * (fy[1] * y_stride) + tx * (fx[1] * x_stride)
    if G[2] > 0:
        value -= tl.where(ty >= fy[2] - fy[3] - fy[0], fy[2] * y_stride, 0)
    if G[3] > 0:
        value -= tl.where(tx >= fx[2] - fx[3] - fx[0], fx[2] * x_stride, 0)
    return tl.multiple_of(value, ALIGN)


@triton.jit
def _within(t, f):
    rolled = f[0] + t * f[1]
    position = rolled + f[3]
    position = tl.where(position >= f[2], position - f[2], position)
    return (rolled >= 0) & (rolled < f[2]) & (position < f[4])


@triton.jit
def within(ty, tx, fy, fx):
    """Which tokens lie inside the map."""
    return _within(ty, fy) & _within(tx, fx)


@triton.jit
def side(ty, tx, fy, fx):
    """On which side of the seams tokens lie, 0..3."""
    beyond_y = (fy[0] + ty * fy[1] >= fy[5]).to(tl.int32)
    return beyond_y * 2 + (fx[0] + tx * fx[1] >= fx[5]).to(tl.int32)


@triton.jit
def near_seam(qy, qx, ky, kx, G: tl.constexpr):
    """Whether a window holds tokens from beyond a seam; all others need no mask."""
    y = (qy[0] + G[0] > qy[5]) | (ky[0] + G[4] > ky[5])
    x = (qx[0] + G[1] > qx[5]) | (kx[0] + G[5] > kx[5])
    return y | x


@triton.jit
def gather(pointer, offset, keep, stride, D: tl.constexpr, BD: tl.constexpr, MASKED: tl.constexpr):
    """(tokens, BD) vectors, zero where not kept and past D."""
    c = tl.arange(0, BD)
    address = pointer + offset[:, None] + (c * stride)[None, :]
    if MASKED:
        value = tl.load(address, mask=keep[:, None] & (c < D)[None, :], other=0.0)
    elif D < BD:
        value = tl.load(address, mask=(c < D)[None, :], other=0.0)
    else:
        value = tl.load(address)
    return value


@triton.jit
def scatter(pointer, offset, keep, value, D: tl.constexpr, BD: tl.constexpr, MASKED: tl.constexpr):
    """Write (tokens, BD) vectors whose channels lie together."""
    c = tl.arange(0, BD)
    address = pointer + offset[:, None] + c[None, :]
    value = value.to(pointer.dtype.element_ty)
    if MASKED:
        tl.store(address, value, mask=keep[:, None] & (c < D)[None, :])
    elif D < BD:
        tl.store(address, value, mask=(c < D)[None, :])
    else:
        tl.store(address, value)


@triton.jit
def with_token(value, inside, token, start, D: tl.constexpr, BD: tl.constexpr):
    """`value` with the pad token, from channel `start` on, in the rows that lie outside the map."""
    c = tl.arange(0, BD)
    vector = tl.load(token + start + c, mask=c < D, other=0.0).to(value.dtype)
    return tl.where(inside[:, None], value, vector[None, :])


@triton.jit
def reciprocal_norm(x):
    """1 / max(|x|, 1e-12) of each row, in float32."""
    x = x.to(tl.float32)
    return 1.0 / tl.sqrt(tl.maximum(tl.sum(x * x, 1), 1e-24))


@triton.jit
def through_norm(grad, unit, reciprocal):
    """Gradient of x from that of its unit vector, and their product; a vector shorter than 1e-12 was only scaled."""
    unit = unit.to(tl.float32)
    along = tl.sum(grad * unit, 1)
    bent = tl.where(reciprocal < 0.999e12, along, 0.0)
    return (grad - unit * bent[:, None]) * reciprocal[:, None], along


@triton.jit
def bias_tile(
    bias, h, qy, qx, ky, kx, live, row_stride, head_stride,
    NK: tl.constexpr, G: tl.constexpr, KIND: tl.constexpr, TAIL: tl.constexpr, COMPILED: tl.constexpr,
):  # fmt: skip
    """float32 bias of queries and keys, whose coordinates broadcast against each other; -inf where not `live` if TAIL.

    KIND: 0 no bias, 1 a table of one number every `row_stride`, 2 dense (NQ, NK).

    It is read by an instruction of our own: `tl.load` would put neighbouring queries into neighbouring
    lanes and then move the tile through shared memory into the layout of the scores, where 8 x 8 scores read 15
    neighbouring numbers of the table anyway. Addresses are a 64-bit sum so that constants end in the instruction.
    """
    if TAIL:
        ky, kx = tl.minimum(ky, G[4] - 1), tl.minimum(kx, G[5] - 1)
    if KIND == 0:
        value = tl.where(live, 0.0, float("-inf"))
    else:
        if KIND == 1:
            WIDTH: tl.constexpr = G[7] + G[5] - 1
            query = (qy // (G[0] // G[6]) + G[4] - 1) * WIDTH + qx // (G[1] // G[7]) + G[5] - 1
            there, back = query * row_stride, -(ky * WIDTH + kx).to(tl.int64) * row_stride
        else:
            there, back = (qy * G[1] + qx) * NK, (ky * G[5] + kx).to(tl.int64)
        bias += h * head_stride
        if COMPILED:
            address = (bias.to(tl.int64) + there.to(tl.int64) * 4) + back * 4
            value = tl.inline_asm_elementwise(
                "ld.global.nc.f32 $0, [$1];", "=f,l", [address], dtype=tl.float32, is_pure=False, pack=1
            )
        else:
            value = tl.load(bias + there + back)
        if TAIL:
            value = tl.where(live, value, float("-inf"))
    return value


@triton.jit
def unhoisted(x, COMPILED: tl.constexpr):
    """The scalar x, hidden from the compiler: what follows from it in a loop is computed there and not kept before it.

    For kernels whose accumulators leave no registers for addresses that a few instructions make again.
    """
    if COMPILED:
        x = tl.inline_asm_elementwise("mov.b32 $0, $1;", "=r,r", [x], dtype=tl.int32, is_pure=False, pack=1)
    return x


@triton.jit
def logits(
    q, k, factor, rq, rk, bias, my, mx, ny, nx, qy, qx, ky, kx, near, penalty,
    COSINE: tl.constexpr, BIASED: tl.constexpr, SEAM: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """float32 logits of the rows of q against those of k; rq, rk, bias and the coordinates broadcast to them.

    Queries and keys may change places. `near`: whether the window holds tokens from beyond a seam at all.
    """
    s = tl.dot(q, tl.trans(k), input_precision=PRECISION) * factor
    if COSINE:
        s = s * rq * rk
    if BIASED:
        s += bias
    if SEAM:  # noqa: SIM102, decided at compile time
        if near:
            s = tl.where(side(my, mx, qy, qx) != side(ny, nx, ky, kx), s + penalty, s)
    return s


@triton.jit
def query_frames(wy, wx, H, W, NY, NX, G: tl.constexpr):
    """Frames of a window's queries on both axes."""
    return frame(wy, H, NY, G, 0, False), frame(wx, W, NX, G, 1, False)


@triton.jit
def key_frames(wy, wx, H, W, NY, NX, G: tl.constexpr):
    """Frames of a window's keys on both axes."""
    return frame(wy, H, NY, G, 0, True), frame(wx, W, NX, G, 1, True)


@triton.jit
def column_distances(dtype: tl.constexpr):
    """(16, 64) of 0 and 1: which pairs of query column and key column, of 8 each, lie 7, 6 .. -7 apart."""
    pair = tl.arange(0, 64)
    return (tl.arange(0, 16)[:, None] == (pair // 8 - pair % 8 + 7)[None, :]).to(dtype)


@triton.jit
def sum_by_distance(ds, distances, BN: tl.constexpr, PRECISION: tl.constexpr):
    """Gradients (64, BN) of the logits of 8 x 8 queries with BN / 8 x 8 keys, summed for the table entries they read.

    The pairs of one query row and one key row read 15 entries, one for each column distance, so that a product with a
    0/1 matrix adds them up: (16 distances, BN pairs of rows), a quarter of the registers that the pairs take.
    """
    pairs = tl.reshape(tl.permute(tl.reshape(ds, (8, 8, BN // 8, 8)), (0, 2, 1, 3)), (BN, 64))
    return tl.dot(distances, tl.trans(pairs), input_precision=PRECISION)

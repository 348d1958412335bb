"""What the window attention kernels share: where tokens lie, how their vectors are read, logits and their bias.

`G` is the cut of the map as a flat tuple, pairs being (rows, columns):
0 query window, 2 shift, 4 key window, 6 key step, 8 key offset, 10 grid layout, 11 outside (0 nothing lies there, 1 zero,
2 token), 12 padded before rolled. `windows.Axis` is the specification of its arithmetic.
"""

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
def _axis(window, token, size, count, G: tl.constexpr, AXIS: tl.constexpr, KEY: tl.constexpr):
    """Of tokens on one axis: map position, whether that is inside the map, whether beyond the seam of the roll."""
    STEP: tl.constexpr = G[6 + AXIS] if KEY else G[AXIS]
    OFFSET: tl.constexpr = G[8 + AXIS] if KEY else 0
    SHIFT: tl.constexpr = G[2 + AXIS] * STEP // G[AXIS]
    padded = count * STEP
    if G[10]:
        rolled = token * count + window
    else:
        rolled = window * STEP + OFFSET + token
    length = padded
    if not G[12]:
        length = size
    position = rolled
    if SHIFT > 0:
        position = rolled + SHIFT % length
        position = tl.where(position >= length, position - length, position)
    inside = (rolled >= 0) & (rolled < length) & (position < size)
    return position, inside, rolled >= padded - SHIFT


@triton.jit
def locate(wy, wx, token, H, W, NY, NX, G: tl.constexpr, KEY: tl.constexpr):
    """Of tokens (row-major in their window): map row, map column, whether inside, side of both seams (0..3)."""
    WIDTH: tl.constexpr = G[5] if KEY else G[1]
    height, width = H, W
    if KEY:
        height = H * G[6] // G[0]
        width = W * G[7] // G[1]
    y, inside_y, beyond_y = _axis(wy, token // WIDTH, height, NY, G, 0, KEY)
    x, inside_x, beyond_x = _axis(wx, token % WIDTH, width, NX, G, 1, KEY)
    return y, x, inside_y & inside_x, beyond_y.to(tl.int32) * 2 + beyond_x.to(tl.int32)


@triton.jit
def kept(inside, token, N: tl.constexpr, B: tl.constexpr, G: tl.constexpr):
    """Which of the B tokens of a tile are read; with `G[11] == 0` and no remainder the compiler drops the mask."""
    keep = inside
    if G[11] == 0:
        keep = token < N
    elif N % B:
        keep = inside & (token < N)
    return keep


@triton.jit
def base(pointer, start, b, h, b_stride, h_stride, ALIGN: tl.constexpr):
    """Pointer to batch entry b, head h of a map; ALIGN divides all strides, so loads can be that wide."""
    return pointer + tl.multiple_of(b.to(tl.int64) * b_stride + h * h_stride + start, ALIGN)


@triton.jit
def spot(y, x, y_stride, x_stride, ALIGN: tl.constexpr, WIDE: tl.constexpr):
    """Offsets of pixels; 64 bits where a map holds more than 2^31 numbers."""
    if WIDE:
        y, x = y.to(tl.int64), x.to(tl.int64)
    return tl.multiple_of(y * y_stride + x * x_stride, ALIGN)


@triton.jit
def pixel(b, y, x, H, W):
    """int64 row of pixels in a densely packed map of H x W."""
    return (b * H + y).to(tl.int64) * W + x


@triton.jit
def gather(pointer, offset, keep, stride, D: tl.constexpr, BD: tl.constexpr, MASKED: tl.constexpr):
    """(tokens, BD) vectors at `offset`, zero where not kept and past D."""
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
def scatter(pointer, offset, keep, value, D: tl.constexpr, BD: tl.constexpr):
    """Write (tokens, BD) vectors, densely packed along the channels."""
    c = tl.arange(0, BD)
    tl.store(pointer + offset[:, None] + c[None, :], value.to(pointer.dtype.element_ty), keep[:, None] & (c < D)[None, :])


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
def query_index(token, G: tl.constexpr):
    """A query's part of the bias table's row: `query_index(m) - key_index(n)` is the row."""
    y = token // G[1] // (G[0] // G[6])
    x = token % G[1] // (G[1] // G[7])
    return (y + G[4] - 1) * (G[7] + G[5] - 1) + x + G[5] - 1


@triton.jit
def key_index(token, G: tl.constexpr):
    return token // G[5] * (G[7] + G[5] - 1) + token % G[5]


@triton.jit
def bias_tile(
    bias, h, m, n, row_stride, head_stride, NQ: tl.constexpr, NK: tl.constexpr, G: tl.constexpr, KIND: tl.constexpr,
    TAIL: tl.constexpr,
):  # fmt: skip
    """float32 bias of the pairs of m and n, which broadcast against each other; -inf for keys past NK if TAIL.

    KIND: 0 no bias, 1 a table of one number per `head_stride` and `row_stride`, 2 dense (heads, NQ, NK).
    """
    m = tl.minimum(m, NQ - 1)  # rows past NQ repeat the last one, so that their softmax stays finite
    address = bias + h * head_stride
    if KIND == 1:
        address += (query_index(m, G) - key_index(n, G)) * row_stride
    else:
        address += m * NK + n
    if TAIL:
        value = tl.load(address, mask=n < NK, other=float("-inf"))
    else:
        value = tl.load(address)
    return value.to(tl.float32)


@triton.jit
def logits(
    q, k, factor, rq, rk, bias, apart, penalty,
    COSINE: tl.constexpr, BIASED: tl.constexpr, SEAM: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """float32 logits of the rows of q against those of k; rq, rk, bias and apart broadcast to them."""
    s = tl.dot(q, tl.trans(k), input_precision=PRECISION) * factor
    if COSINE:
        s = s * rq * rk
    if BIASED:
        s += bias
    if SEAM:
        s = tl.where(apart, s + penalty, s)
    return s

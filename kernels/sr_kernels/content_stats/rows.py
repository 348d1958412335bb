"""What the kernels of both directions share: two columns a lane, rows passing by, sums of neighbours in registers.

A program is one warp. Lane i holds columns 2i and 2i + 1 of a strip of 64: row i of tensors (32, 2). What a pixel needs
from its right comes by warp shuffles (`tl.gather`), what it needs from above is carried from row to row. The 7-tap
binomial mean is six sums of two neighbours, one after the other: weights 1 6 15 20 15 6 1 without a multiplication, and
the same order of additions for every pixel, wherever strips and bands begin.
"""

# What `triton.jit` compiles is no Python that a type checker knows: constexpr branches, tensors of one class.
# pyright: reportOperatorIssue=false, reportArgumentType=false, reportCallIssue=false
# pyright: reportIndexIssue=false, reportGeneralTypeIssues=false, reportAttributeAccessIssue=false

import triton
import triton.language as tl

from sr_kernels.content_stats import constants, fast

# In the interpreter a constexpr times a tensor is a constexpr: the tensor stands first.
LANES = tl.constexpr(32)
RADIUS = tl.constexpr(constants.RADIUS)
REACH = tl.constexpr(2 * constants.RADIUS)  # columns a strip loses to neighbours, rows before a band's first result
RED, GREEN, BLUE = (tl.constexpr(weight) for weight in constants.LUMA)
CENTRE = tl.constexpr(fast.CENTRE)


@triton.jit
def offsets(column, W, x_x, HALF: tl.constexpr):
    """Offsets of the pixels of columns that the picture's edges continue; on 2x2 means, of both pixels of each."""
    if HALF:
        left = 2 * tl.minimum(tl.maximum(column, 0), (W - 1) // 2)
        return left.to(tl.int64) * x_x, tl.minimum(left + 1, W - 1).to(tl.int64) * x_x
    at = tl.minimum(tl.maximum(column, 0), W - 1).to(tl.int64) * x_x
    return at, at


@triton.jit
def luma(start, even, odd, x_c, CHANNELS: tl.constexpr):
    """Of two pixels a lane, (32, 2). Each is a load of its own, since pairs at an edge do not lie side by side."""
    value = tl.join(tl.load(start + even), tl.load(start + odd)).to(tl.float32)
    if CHANNELS == 3:
        start += x_c
        green = tl.join(tl.load(start + even), tl.load(start + odd)).to(tl.float32)
        start += x_c
        blue = tl.join(tl.load(start + even), tl.load(start + odd)).to(tl.float32)
        value = value * RED + (green * GREEN + blue * BLUE)
    return value


@triton.jit
def centred(x, row, even, odd, x_c, x_y, H, CHANNELS: tl.constexpr, HALF: tl.constexpr):
    """Luma minus 1/2, (32, 2), of a row that the picture's edges continue; columns from `offsets`."""
    if HALF:
        above = 2 * tl.minimum(tl.maximum(row, 0), (H - 1) // 2)
        upper, lower = x + above.to(tl.int64) * x_y, x + tl.minimum(above + 1, H - 1).to(tl.int64) * x_y
        top = luma(upper, even[0], odd[0], x_c, CHANNELS) + luma(upper, even[1], odd[1], x_c, CHANNELS)
        bottom = luma(lower, even[0], odd[0], x_c, CHANNELS) + luma(lower, even[1], odd[1], x_c, CHANNELS)
        return 0.25 * (top + bottom) - CENTRE
    start = x + tl.minimum(tl.maximum(row, 0), H - 1).to(tl.int64) * x_y
    return luma(start, even[0], odd[0], x_c, CHANNELS) - CENTRE


@triton.jit
def shifted(pairs, NEXT):
    """Columns one and two to the right. The last lane gets the first's, which ends beyond the columns that count."""
    even, odd = tl.split(pairs)
    next_even = tl.gather(even, NEXT, 0)
    return tl.join(odd, next_even), tl.join(next_even, tl.gather(odd, NEXT, 0))


@triton.jit
def across(pairs, NEXT):
    """The binomial sum of each column and the six right of it."""
    even, odd = tl.split(pairs)
    for _ in tl.static_range(6):
        even, odd = even + odd, odd + tl.gather(even, NEXT, 0)
    return tl.join(even, odd)


@triton.jit
def down(value, terms):
    """The binomial sum of this row and the six above it, and the terms that the next row needs."""
    a = value + terms[0]
    b = a + terms[1]
    c = b + terms[2]
    d = c + terms[3]
    e = d + terms[4]
    return e + terms[5], (value, a, b, c, d, e)


@triton.jit
def down_six(values, terms):
    a, a_terms = down(values[0], terms[0])
    b, b_terms = down(values[1], terms[1])
    c, c_terms = down(values[2], terms[2])
    d, d_terms = down(values[3], terms[3])
    e, e_terms = down(values[4], terms[4])
    f, f_terms = down(values[5], terms[5])
    return (a, b, c, d, e, f), (a_terms, b_terms, c_terms, d_terms, e_terms, f_terms)


@triton.jit
def nothing():
    """What is carried before the first row: rows for `stencils`, terms for `down_six`. It is gone after eight rows."""
    lane = tl.zeros((LANES,), tl.float32)
    zero = tl.join(lane, lane)  # in the layout of all others
    six = (zero, zero, zero, zero, zero, zero)
    return (zero, zero, zero, zero, zero, zero, zero), (six, six, six, six, six, six)


@triton.jit
def stencils(left, above, NEXT):
    """Luma, 32 gx, 32 gy, Laplacian one row above `left` and one column right; and what the next row needs."""
    centre2, slope2, smooth2, centre1, slope1, smooth1, sides1 = above
    centre, right = shifted(left, NEXT)
    sides = left + right
    slope = right - left
    smooth = 3.0 * sides + 10.0 * centre
    gx = 3.0 * (slope2 + slope) + 10.0 * slope1
    gy = smooth - smooth2
    laplacian = (sides1 + (centre2 + centre)) - 4.0 * centre1
    return (centre1, gx, gy, laplacian), (centre1, slope1, smooth1, centre, slope, smooth, sides)


@triton.jit
def products(values):
    y, gx, gy, laplacian = values
    return (tl.abs(laplacian), gx * gx, gx * gy, gy * gy, y, y * y)

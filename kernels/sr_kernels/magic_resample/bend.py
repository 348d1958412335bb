"""The learned part of magic_resample in Triton: z(gains) - z(1) on the input grid.

Stencils are added up to one for each pixel before they meet the picture: sum_g (gains_g - 1) t_gj are k * k numbers
that a thread keeps, and every channel is read once for them, not once for each stencil.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from sr_kernels.launch import Steps
from sr_kernels.magic_resample.bend_lags import lag_pass
from sr_kernels.magic_resample.bend_tiles import Tiles, corner, offset, place, read, spans, table, unspecialized, zeros
from sr_kernels.magic_resample.filters import FILTERS

# pyright: reportPossiblyUnboundVariable=false, reportOperatorIssue=false, reportArgumentType=false, reportCallIssue=false
# pyright: reportIndexIssue=false, reportGeneralTypeIssues=false, reportAttributeAccessIssue=false


def correction(x: Tensor, gains: Tensor, kernel: str, basis: Tensor | None) -> Steps[Tensor]:
    """z(gains) - z(1) of `x` [B C H W], float32 in the memory format of `x`; exactly 0 where gains are 1.

    Args:
        x: float16, bfloat16, float32 or uint8, contiguous or channels_last.
        gains: [B|1 G H|1 W|1], any floating point type and strides.
        basis: [G k k], or None for the lags of `kernel`. Checked in api.py.
    """
    if basis is not None:
        return (yield from by_stencils(x, gains, basis.float().contiguous()))
    return (yield from by_lags(x, gains, FILTERS[kernel].lags))


def by_stencils(x: Tensor, gains: Tensor, basis: Tensor) -> Steps[Tensor]:
    """One launch for stencils of up to 7 x 7; one more, for their sum, where all pixels share their gains."""
    out = torch.empty_like(x, dtype=torch.float32)
    G, k, _ = basis.shape
    shared = gains.shape[2:] == (1, 1)
    weights, step = basis, 0
    if shared:
        weights, launch = table(basis, gains, classes=1)
        yield launch
        step = k * k if len(weights) > 1 else 0
    tiles = Tiles.of(x, per_thread=4 if k <= 5 else 2)
    for row, rows in spans(k):
        yield tiles.launch(
            bend_by_stencils,
            {"x": x, "gains": gains, "out": out},
            {"taps": weights, "taps_b": step, "row": row},
            {"G": G, "K": k, "ROWS": rows, "SHARED": shared, "ADD": row > 0},
        )
    return out


def by_lags(x: Tensor, gains: Tensor, lags: tuple[float, ...]) -> Steps[Tensor]:
    """Two launches: down the columns, then along the rows."""
    bent, sharpened, out = (torch.empty_like(x, dtype=torch.float32) for _ in range(3))
    yield lag_pass(x, x, gains[:, : len(lags)], lags, True, steered=bent, total=sharpened)
    yield lag_pass(sharpened, bent, gains[:, len(lags) :], lags, False, steered=None, total=out)
    return out


@triton.jit(do_not_specialize=["row", "taps_b", *unspecialized("x", "gains", "out")])
def bend_by_stencils(
    x, gains, taps, out,
    H, W, row,
    x_b, x_c, x_y, x_x,
    gains_b, gains_c, gains_y, gains_x,
    taps_b,
    out_b, out_c, out_y, out_x,
    C: tl.constexpr, G: tl.constexpr, K: tl.constexpr, ROWS: tl.constexpr, PIXELS: tl.constexpr, COLUMNS: tl.constexpr,
    LANES: tl.constexpr, SHARED: tl.constexpr, ADD: tl.constexpr,
):  # fmt: skip
    """out = (with ADD: +=) sum_j w_j (x[i+j] - x[i]) over ROWS rows of the K x K neighbours, from `row` on.

    One program owns a tile of pixels of one picture, all channels. It reads the gains of its pixels once for
    w_j = sum_g (gains_g - 1) taps_gj; with SHARED it reads w_j from `taps` instead. Then it reads x at all neighbours
    (from memory once, from cache after that) and writes out once.
    """
    picture, top, left = place(H, W, PIXELS, COLUMNS)
    i = tl.arange(0, PIXELS)[:, None]
    channel = tl.arange(0, LANES)[None, :]
    v, u = top + i // COLUMNS, left + i % COLUMNS
    first = taps + picture * taps_b + row * K
    weights = zeros(ROWS * K, PIXELS, 1)
    if SHARED:
        weights = ()
        for j in tl.static_range(ROWS * K):
            weights = weights + (tl.load(first + j),)
    else:
        gain = corner(gains, picture, top, left, gains_b, gains_y, gains_x)
        own = offset(v, u, top, left, H, W, gains_y, gains_x)
        for _ in tl.range(0, G, loop_unroll_factor=4):
            excess = tl.load(gain + own).to(tl.float32) - 1
            sums = ()
            for j in tl.static_range(ROWS * K):
                sums = sums + (weights[j] + excess * tl.load(first + j),)
            weights = sums
            gain += gains_c
            first += K * K
    source = corner(x, picture, top, left, x_b, x_y, x_x) + channel * x_c
    target = corner(out, picture, top, left, out_b, out_y, out_x) + channel * out_c
    own = (v - top) * out_y + (u - left) * out_x
    centre_at = offset(v, u, top, left, H, W, x_y, x_x)
    for c in range(0, C, LANES):
        used = c + channel < C
        centre = read(source + centre_at, used, C % LANES != 0)
        total = tl.zeros((PIXELS, LANES), tl.float32)
        for j in tl.static_range(ROWS * K):
            at = offset(v + (row + j // K - K // 2), u + (j % K - K // 2), top, left, H, W, x_y, x_x)
            total += weights[j] * (read(source + at, used, C % LANES != 0) - centre)
        keep = (v < H) & (u < W) & used
        if ADD:
            total += tl.load(target + own, keep, 0.0)
        tl.store(target + own, total, keep)
        source += LANES * x_c
        target += LANES * out_c

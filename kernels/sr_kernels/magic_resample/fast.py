"""The fast PyTorch path: banded matrix products, in stripes that stay in cache.

One axis of a resize is a banded matrix; cut into blocks of rows it is a few small dense products. The plain way, a
convolution to s*s channels and a pixel shuffle, moves every output twice and measured 3 times slower on a CPU.
Both directions of autograd are the same code: the gradient of a linear map is its transpose, banded as well.
"""

from typing import Any

import torch
from torch import Tensor

from sr_kernels.magic_resample.bands import Block, Map, axis_blocks
from sr_kernels.magic_resample.reference import memory_format
from sr_kernels.magic_resample.steering import correction, correction_gradients

# Output rows of one product: more rows mean more multiplications with zeros, fewer mean more calls.
ROWS = 64
# Output columns (times interleaved channels) of one product of the horizontal pass.
COLUMNS = 256
# Row products that share one horizontal pass: its halo is computed twice, its result stays in cache.
ROW_BLOCKS_PER_STRIPE = 4
# Interleaved channels up to which the horizontal pass of channels_last multiplies with kron(weights, identity).
INTERLEAVED = 4


def magic_resample(x: Tensor, size: tuple[int, int], kernel: str, gains: Tensor | None, basis: Tensor | None) -> Tensor:
    """Resample `x` [B C H W] to `size`; shapes and meaning as in `api.magic_resample`."""
    source = (x.shape[2], x.shape[3])
    classical = Map(kernel, source, size)
    if gains is None:
        return _Linear.apply((classical,), x.dtype, x)
    with torch.autocast(x.device.type, enabled=False):
        bend = correction(x.to(torch.promote_types(x.dtype, torch.float32)), gains, kernel, basis)
    return _Linear.apply((classical, Map("magic", source, size)), x.dtype, x, bend)


def gradients(
    grad: Tensor, x: Tensor, gains: Tensor | None, kernel: str, basis: Tensor | None
) -> tuple[Tensor, Tensor | None]:
    """Gradients of `x` and `gains` for the gradient `grad` of the output, without autograd."""
    source, size = (x.shape[2], x.shape[3]), (grad.shape[2], grad.shape[3])
    wide = torch.promote_types(x.dtype, torch.float32)
    dx = apply((Map(kernel, source, size, transposed=True),), wide, grad)
    if gains is None:
        return dx.to(x.dtype), None
    dbend = apply((Map("magic", source, size, transposed=True),), wide, grad)
    with torch.autocast(x.device.type, enabled=False):
        dx_bend, dgains = correction_gradients(dbend, x.to(wide), gains, kernel, basis)
    return (dx + dx_bend).to(x.dtype), dgains


class _Linear(torch.autograd.Function):
    """sum of maps[i](terms[i]); its derivatives are of the same kind, to any order."""

    @staticmethod
    def forward(ctx: Any, maps: tuple[Map, ...], dtype: torch.dtype, *terms: Tensor) -> Tensor:
        ctx.maps, ctx.dtypes = maps, [t.dtype for t in terms]
        return apply(maps, dtype, *terms)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        transposed = [m._replace(transposed=not m.transposed) for m in ctx.maps]
        wanted = zip(transposed, ctx.dtypes, ctx.needs_input_grad[2:], strict=True)
        return None, None, *(_Linear.apply((m,), dtype, *grads) if wants else None for m, dtype, wants in wanted)


def apply(maps: tuple[Map, ...], dtype: torch.dtype, *terms: Tensor) -> Tensor:
    """sum of maps[i](terms[i]) in `dtype` (uint8: rounded and clipped) and the memory format of the first term.

    All terms are of one size and all maps lead to one size. Sums in float32, float64 for float64; no autograd.
    """
    B, C = terms[0].shape[:2]
    layout = memory_format(terms[0])
    out = torch.empty(B, C, *maps[0].size, dtype=dtype, device=terms[0].device, memory_format=layout)
    c = C if layout == torch.channels_last else 1
    planes = [_planes(t.contiguous(memory_format=layout), c) for t in terms]
    wide = torch.promote_types(dtype, torch.float32)
    small = out.shape[2] <= ROWS * ROW_BLOCKS_PER_STRIPE
    with torch.autocast(out.device.type, enabled=False):
        if small or out.device.type != "cpu":
            _batched(_planes(out, c), maps, planes, c, wide)
        else:
            _striped(_planes(out, c), maps, planes, c, wide)
    return out


def _planes(x: Tensor, c: int) -> Tensor:
    """[N, H, W * c] view: N = B * C planes of a contiguous tensor (c = 1), or B planes of c interleaved channels."""
    B, C, H, W = x.shape
    return x.view(B * C, H, W) if c == 1 else x.permute(0, 2, 3, 1).view(B, H, W * C)


def _batched(out: Tensor, maps: tuple[Map, ...], planes: list[Tensor], c: int, wide: torch.dtype) -> None:
    """All planes in each product: small pictures, and devices with their own parallelism."""
    direct = out.dtype == wide
    total = out if direct else torch.empty_like(out, dtype=wide)
    for i, (m, x) in enumerate(zip(maps, planes, strict=True)):
        N, H, _ = x.shape
        rows = _columns(x.new_empty(N * H, out.shape[2], dtype=wide), x.to(wide).flatten(0, 1), m, c)
        for block in axis_blocks(m, 0, ROWS * ROW_BLOCKS_PER_STRIPE, wide, x.device):
            part, window = total[:, block.rows], rows.view(N, H, -1)[:, block.window]
            torch.baddbmm(part, block.weights.expand(N, -1, -1), window, beta=int(i > 0), out=part)
    if not direct:
        _narrow(out, total)


def _striped(out: Tensor, maps: tuple[Map, ...], planes: list[Tensor], c: int, wide: torch.dtype) -> None:
    """Plane by plane, in stripes of output rows."""
    N, _, width = out.shape
    direct = out.dtype == wide
    length = ROWS * ROW_BLOCKS_PER_STRIPE
    buffer = out.new_empty(0 if direct else length, width, dtype=wide)
    blocks = [axis_blocks(m, 0, ROWS, wide, out.device) for m in maps]
    for n in range(N):
        terms = [x[n].to(wide) for x in planes]
        for i in range(0, len(blocks[0]), ROW_BLOCKS_PER_STRIPE):
            target = out[n, i * ROWS : i * ROWS + length]
            total = target if direct else buffer[: len(target)]
            for k, (m, x) in enumerate(zip(maps, terms, strict=True)):
                _stripe(total, x, m, blocks[k][i : i + ROW_BLOCKS_PER_STRIPE], c, accumulate=k > 0)
            if not direct:
                _narrow(target, total)


def _stripe(out: Tensor, x: Tensor, m: Map, blocks: tuple[Block, ...], c: int, accumulate: bool) -> None:
    """The rows of `blocks`: columns first where the height grows, so that whole rows are written at once, rows first
    where it shrinks, so that the horizontal pass has less to do."""
    top, low, high = blocks[0].rows.start, blocks[0].window.start, blocks[-1].window.stop
    if len(out) < high - low:
        short = x.new_empty(len(out), x.shape[1])
        for b in blocks:
            torch.mm(b.weights, x[b.window], out=short[b.rows.start - top : b.rows.stop - top])
        _columns(out, short, m, c, accumulate)
        return
    rows = _columns(x.new_empty(high - low, out.shape[1]), x[low:high], m, c)
    for b in blocks:
        part = out[b.rows.start - top : b.rows.stop - top]
        torch.addmm(part, b.weights, rows[b.window.start - low : b.window.stop - low], beta=int(accumulate), out=part)


def _columns(out: Tensor, x: Tensor, m: Map, c: int, accumulate: bool = False) -> Tensor:
    """The horizontal pass: `out` [n, W' * c] = or += the map of rows `x` [n, W * c]."""
    if c <= INTERLEAVED:
        for b in axis_blocks(m, 1, COLUMNS // c, x.dtype, x.device, interleaved=c):
            part = out[:, b.rows]
            torch.addmm(part, x[:, b.window], b.weights.t(), beta=int(accumulate), out=part)
        return out
    pixels, target = x.view(len(x), -1, c), out.view(len(x), -1, c)
    for b in axis_blocks(m, 1, ROWS, x.dtype, x.device):
        part, product = target[:, b.rows], b.weights @ pixels[:, b.window]
        _ = part.add_(product) if accumulate else part.copy_(product)
    return out


def _narrow(out: Tensor, wide: Tensor) -> None:
    """Copy to the output's dtype; `wide` is spent."""
    out.copy_(wide.round_().clamp_(0, 255) if out.dtype == torch.uint8 else wide)

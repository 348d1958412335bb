"""The fast PyTorch path: banded matrix products, in stripes that stay in cache.

One axis of a resize is a banded matrix; cut into blocks of rows it is a few small dense products. The plain way, a
convolution to s*s channels and a pixel shuffle, moves every output twice and measured 3 times slower on a CPU.
Both directions of autograd are the same code: the gradient of a linear map is its transpose, banded as well.
"""

from typing import Any

import torch
from torch import Tensor

from sr_kernels.magic_resample.bands import Map, Stripe, axis_stripes, block_length
from sr_kernels.magic_resample.reference import memory_format
from sr_kernels.magic_resample.steering import correction, correction_gradients

# Numbers between the two passes of a stripe: 4 MiB of float32 stay in cache.
STRIPE = 2**20
# Pictures up to this side are multiplied with whole matrices, all planes at once.
SMALL = 256
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

    All terms have one size and all maps lead to one size. Sums in float32, float64 for float64; no autograd.
    """
    B, C = terms[0].shape[:2]
    layout = memory_format(terms[0])
    out = torch.empty(B, C, *maps[0].size, dtype=dtype, device=terms[0].device, memory_format=layout)
    c = C if layout == torch.channels_last else 1
    planes = [_planes(t.contiguous(memory_format=layout), c) for t in terms]
    wide = torch.promote_types(dtype, torch.float32)
    sides = (*terms[0].shape[2:], *out.shape[2:])
    with torch.autocast(out.device.type, enabled=False):
        (_small if max(sides) <= SMALL else _striped)(_planes(out, c), maps, planes, c, wide)
    return out


def _planes(x: Tensor, c: int) -> Tensor:
    """[N, H, W * c] view: N = B * C planes of a contiguous tensor (c = 1), or B planes of c interleaved channels."""
    B, C, H, W = x.shape
    return x.view(B * C, H, W) if c == 1 else x.permute(0, 2, 3, 1).view(B, H, W * C)


def _small(out: Tensor, maps: tuple[Map, ...], planes: list[Tensor], c: int, wide: torch.dtype) -> None:
    """All planes in each product, with whole matrices."""
    total = out if out.dtype == wide else torch.empty_like(out, dtype=wide)
    for i, (m, x) in enumerate(zip(maps, planes, strict=True)):
        N, H, _ = x.shape
        lines = _columns(x.to(wide).flatten(0, 1), m, c, SMALL).reshape(N, H, -1)
        ((run,),) = _stripes(m, 0, SMALL, 1, 1, lines)
        torch.baddbmm(total, run.weights.expand(N, -1, -1), lines[:, run.window], beta=int(i > 0), out=total)
    if total is not out:
        _narrow(out, total)


def _striped(out: Tensor, maps: tuple[Map, ...], planes: list[Tensor], c: int, wide: torch.dtype) -> None:
    """Plane by plane, in stripes of rows: columns first, then rows.

    Few and large products on purpose: each is a parallel region, and where another process holds a core, every
    region waits for it (a thousand small products took 3 s instead of 0.2 s beside a training run).
    """
    N, height, width = out.shape
    H = planes[0].shape[1]
    length = block_length(H, height)
    blocks = max(1, STRIPE * height // (width * H * length))
    stripes = [_stripes(m, 0, length, blocks, 1, out.new_empty(0, dtype=wide)) for m in maps]
    buffer = None if out.dtype == wide else out.new_empty(min(height, blocks * length), width, dtype=wide)
    for n in range(N):
        for i, stripe in enumerate(stripes[0]):
            target = out[n, stripe[0].rows.start : stripe[-1].rows.stop]
            total = target if buffer is None else buffer[: len(target)]
            for k, (m, x) in enumerate(zip(maps, planes, strict=True)):
                runs = stripes[k][i]
                lines = x[n, runs[0].window.start : runs[-1].window.stop].to(wide)
                _multiply(total, _columns(lines, m, c), runs, accumulate=k > 0)
            if buffer is not None:
                _narrow(target, total)


def _columns(x: Tensor, m: Map, c: int, length: int | None = None) -> Tensor:
    """The horizontal pass of lines `x` [n, W * c] -> [n, W' * c], stored column by column (c <= INTERLEAVED)."""
    if length is None:
        length = block_length(x.shape[1] // c, m.size[1])
    if c <= INTERLEAVED:
        (runs,) = _stripes(m, 1, length, m.size[1], c, x)
        columns = x.new_empty(m.size[1] * c, len(x))
        _multiply(columns, x.t(), runs)
        return columns.t()
    pixels, out = x.view(len(x), -1, c), x.new_empty(len(x), m.size[1], c)
    (runs,) = _stripes(m, 1, length, m.size[1], 1, x)
    for run in runs:
        first = run.window.start
        for b, weights in enumerate(run.weights):
            low = first + b * run.step
            part = out[:, run.rows.start + b * len(weights) :][:, : len(weights)]
            part.copy_(weights @ pixels[:, low : low + weights.shape[1]])
    return out.flatten(1)


def _multiply(out: Tensor, x: Tensor, runs: Stripe, accumulate: bool = False) -> None:
    """`out` [rows, m] = or += the map of `x` [window, m], where both begin with the first run."""
    top, low = runs[0].rows.start, runs[0].window.start
    for run in runs:
        blocks, length, window = run.weights.shape
        part = out[run.rows.start - top : run.rows.stop - top].view(blocks, length, -1)
        first = x[run.window.start - low :]
        # One product for all blocks: their windows overlap in memory, nothing is copied.
        windows = first.as_strided((blocks, window, x.shape[1]), (run.step * x.stride(0), *x.stride()))
        torch.baddbmm(part, run.weights, windows, beta=int(accumulate), out=part)


def _stripes(m: Map, axis: int, length: int, blocks: int, interleaved: int, like: Tensor) -> tuple[Stripe, ...]:
    sizes = m.source[axis], m.target[axis]
    return axis_stripes(m.kernel, *sizes, m.transposed, length, blocks, interleaved, like.dtype, like.device)


def _narrow(out: Tensor, wide: Tensor) -> None:
    """Copy to the output's dtype; `wide` is spent."""
    out.copy_(wide.round_().clamp_(0, 255) if out.dtype == torch.uint8 else wide)

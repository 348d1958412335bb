"""The fast PyTorch path: Gram matrices of the maps as they lie, then a mix of channels. No unit vectors, no copies.

Cosines come from one product of the raw maps and from sums of squares. On a CPU pixels are taken in chunks that stay
in cache, so that what reads a chunk twice reads it from there. Backward keeps the inputs and the d x d maps.
"""

import torch
from torch import Tensor

from sr_kernels.channel_attention.layout import by_head, empty_gradients, empty_output, unpack
from sr_kernels.channel_attention.reference import NORM_EPS

# Numbers of q and k in one chunk on a CPU: some 2 MB in float32.
CHUNK = 2**19
# Channels of all heads up to which heads of fewer than 16 are multiplied as one.
NARROW = 64


def forward(qkv: list[Tensor], temperature: Tensor, heads: int, layout: str) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The result and, for `backward`, A and S (B, heads, d, d) and the norms of q and k (B, heads, 2, d)."""
    out = empty_output(qkv, layout)
    q, k, v, target = _maps(*unpack(qkv, heads, layout), by_head(out, heads, layout))
    gram, squares = _gram(q, k, squares=True)
    norms = squares.sqrt()
    lengths = norms.clamp_min(NORM_EPS)
    cosines = gram / lengths[:, :, 0, :, None] / lengths[:, :, 1, None, :]
    attention = (cosines * temperature.to(gram.dtype).reshape(-1, 1, 1)).softmax(-1)
    for b, part in _chunks(v):
        _mix_into(target[b, :, :, part], attention[b], v[b, :, :, part].to(gram.dtype))
    attention, cosines, norms = (_swap(x).contiguous() if heads == 1 else x for x in (attention, cosines, norms))
    return out, attention, cosines, norms


def backward(
    grad: Tensor,
    qkv: list[Tensor],
    temperature: Tensor,
    attention: Tensor,
    cosines: Tensor,
    norms: Tensor,
    heads: int,
    layout: str,
) -> list[Tensor]:
    """Gradients of the maps and of temperature. The formulas are derived in kernels/README.md."""
    q, k, v, g = _maps(*unpack(qkv, heads, layout), by_head(grad, heads, layout))
    grads = empty_gradients(qkv, layout)
    dq, dk, dv = _maps(*unpack(grads, heads, layout))
    attention, cosines, norms = (_swap(x) if heads == 1 else x for x in (attention, cosines, norms))
    d_attention, _ = _gram(g, v, squares=False)
    d_logits = torch.ops.aten._softmax_backward_data(d_attention, attention, -1, attention.dtype)
    d_temperature = (d_logits * cosines).sum((0, 2, 3)).view(heads, -1).sum(1)
    d_cosines = d_logits * temperature.to(cosines.dtype).reshape(-1, 1, 1)
    inverse = norms.clamp_min(NORM_EPS).reciprocal()
    mixing = inverse[:, :, 0, :, None] * d_cosines * inverse[:, :, 1, None, :]
    # What of a gradient points along its own vector is lost to the norm; a vector shorter than eps was only scaled.
    along = torch.stack(((d_cosines * cosines).sum(3), (d_cosines * cosines).sum(2)), 2)
    along = (along * inverse.square()).masked_fill(norms <= NORM_EPS, 0)
    for b, part in _chunks(q):
        qc, kc, gc = (x[b, :, :, part].to(mixing.dtype) for x in (q, k, g))
        _mix_into(dv[b, :, :, part], attention[b].transpose(1, 2), gc)
        dq[b, :, :, part] = _mix(mixing[b], kc).addcmul_(qc, along[b, :, 0, :, None], value=-1)
        dk[b, :, :, part] = _mix(mixing[b].transpose(1, 2), qc).addcmul_(kc, along[b, :, 1, :, None], value=-1)
    return [*grads, d_temperature.view_as(temperature).to(temperature.dtype)]


def _maps(*views: Tensor) -> list[Tensor]:
    """(B, heads, d, H, W) -> (B, heads, d, T). Where there is one head, pictures take its place: (1, B, d, T).

    What stands for heads is multiplied in one call.
    """
    return [_swap(x.flatten(3)) if x.shape[1] == 1 else x.flatten(3) for x in views]


def _swap(x: Tensor) -> Tensor:
    return x.transpose(0, 1)


def _gram(x: Tensor, y: Tensor, squares: bool) -> tuple[Tensor, Tensor]:
    """<x_i, y_j> over the pixels (B, heads, d, d), and, if asked for, <x_i, x_i>, <y_j, y_j> (B, heads, 2, d)."""
    B, heads, d, _ = x.shape
    dtype = torch.float64 if x.dtype == torch.float64 else torch.float32
    products, sums = x.new_zeros(B, heads, d, d, dtype=dtype), x.new_zeros(B, heads, 2, d, dtype=dtype)
    for b, part in _chunks(x):
        xc, yc = x[b, :, :, part].to(dtype), y[b, :, :, part].to(dtype)
        if _narrow(xc) and _narrow(yc):
            products[b] += _blocks(xc.flatten(0, 1) @ yc.flatten(0, 1).t(), heads)
        else:
            products[b].baddbmm_(xc, yc.transpose(1, 2))
        if squares:
            for i, c in enumerate((xc, yc)):
                # Over pixels that lie apart, the norm's own loop takes three times as long as squares and their sum.
                sums[b, :, i] += (c * c).sum(-1) if c.stride(-1) != 1 else torch.linalg.vector_norm(c, dim=-1).square()
    return products, sums


def _chunks(x: Tensor) -> list[tuple[int, slice]]:
    """Pictures of (B, heads, d, T), each in slices of pixels; whole where a channel's pixels lie side by side."""
    B, heads, d, tokens = x.shape
    cut = x.device.type == "cpu" and x.stride(3) != 1
    step = max(256, CHUNK // (2 * heads * d)) if cut else tokens
    return [(b, slice(start, start + step)) for b in range(B) for start in range(0, tokens, step)]


def _mix_into(target: Tensor, weights: Tensor, x: Tensor) -> None:
    if _narrow(target) and _narrow(x) and target.dtype == x.dtype:
        torch.mm(x.flatten(0, 1).t(), torch.block_diag(*weights).t(), out=target.flatten(0, 1).t())
    elif target.is_contiguous() and target.dtype == x.dtype and x.stride(2) == 1:
        torch.bmm(weights, x, out=target)
    else:
        target.copy_(_mix(weights, x))


def _mix(weights: Tensor, x: Tensor) -> Tensor:
    """weights @ x, (heads, d, d) by (heads, d, T), written the way x lies so that nothing is transposed."""
    if _narrow(x):
        return (x.flatten(0, 1).t() @ torch.block_diag(*weights).t()).t().unflatten(0, weights.shape[:2])
    if x.stride(1) == 1 and x.stride(2) != 1:
        return torch.bmm(x.transpose(1, 2), weights.transpose(1, 2)).transpose(1, 2)
    return torch.bmm(weights, x)


def _narrow(x: Tensor) -> bool:
    """Whether all heads of (heads, d, T) are best multiplied as one, on a CPU: few channels that lie side by side.

    MKL multiplies 60 by 60 channels in less than half the time that it takes for six times 10 by 10.
    """
    heads, d, _ = x.shape
    side_by_side = x.stride(0) == d and x.stride(1) == 1 and x.stride(2) >= heads * d
    return x.device.type == "cpu" and heads > 1 and d < 16 and heads * d <= NARROW and side_by_side


def _blocks(x: Tensor, heads: int) -> Tensor:
    """The blocks on the diagonal of (heads * d, heads * d) -> (heads, d, d)."""
    return x.view(heads, x.shape[0] // heads, heads, -1).diagonal(dim1=0, dim2=2).permute(2, 0, 1)

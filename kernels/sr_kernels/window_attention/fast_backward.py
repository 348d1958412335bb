"""Backward of the fast PyTorch path: probabilities made again in chunks of windows, gradients put where pixels lie."""

import torch
from torch import Tensor

from sr_kernels.window_attention.fast import (
    CHUNK,
    CHUNK_ELSEWHERE,
    Gradients,
    compute_dtype,
    masks,
    norm,
    product_width,
)
from sr_kernels.window_attention.plan import add_rows, largest_group, plan_of, relative_index, with_outside
from sr_kernels.window_attention.reference import NORM_EPS
from sr_kernels.window_attention.tokens import Tokens, chunks, qkv_tokens
from sr_kernels.window_attention.windows import Windows


def backward(
    grad: Tensor,
    qkv: list[Tensor],
    bias: Tensor | None,
    logit_scale: Tensor | None,
    pad_token: Tensor | None,
    heads: int,
    scale: float,
    windows: Windows,
) -> Gradients:
    """Gradients of all inputs, given that of the output (B,H,W,C). Half precision is summed in float32."""
    B, H, W = qkv[0].shape[:3]
    plan = plan_of(B, H, W, windows, grad.device)
    dtype, (Nq, Nk) = compute_dtype(grad), windows.tokens
    step = max(1, CHUNK.get(grad.device.type, CHUNK_ELSEWHERE) // (heads * Nq * Nk))
    step = min(step, largest_group(plan))
    width = product_width(grad.shape[-1] // heads, grad.device)
    how = (heads, step, dtype, width, True)
    sources = qkv_tokens(qkv, pad_token, windows, plan, *how)
    above = Tokens(with_outside(grad.reshape(B * H * W, -1), None, plan), plan.queries, 1, *how)
    targets = [
        Target(source, not i or windows.keys_are_queries, qkv[min(i, len(qkv) - 1)].shape[:3].numel(), pad_token)
        for i, source in enumerate(sources)
    ]
    products = Products(grad.new_empty(0, dtype=dtype), step * heads, (Nq, Nk), width)
    d_bias = grad.new_zeros(heads, Nq, Nk, dtype=dtype)
    d_scale = grad.new_zeros(heads, dtype=dtype)
    for group, mask in masks(bias, plan.groups, windows, d_bias):
        for pick in chunks(group.start, group.stop, step):
            q, k, v = (part for source in sources for part in source.take(pick))
            (g,) = above.take(pick)
            if logit_scale is None:
                grads = products.backward(q, k, v, g, mask, scale)
            else:
                *grads, d_factor = _cosine(products, q, k, v, g, mask, logit_scale)
                d_scale += d_factor
            if bias is not None:
                d_bias += products.d_scores.narrow(0, 0, len(q) * heads).unflatten(0, (-1, heads)).sum(0)
            for target, parts in zip(targets, [grads] if len(targets) == 1 else [[x] for x in grads], strict=True):
                target.put(pick, parts)
    d_qkv = [target.gradient() for target in targets]
    d_qkv = [torch.cat(d_qkv, 1)] if len(d_qkv) > len(qkv) else d_qkv
    return Gradients(
        [d.view(t.shape) for d, t in zip(d_qkv, qkv, strict=True)],
        None if bias is None else _to_table(d_bias, bias, windows),
        None if logit_scale is None else d_scale.view_as(logit_scale).to(logit_scale.dtype),
        None if pad_token is None else torch.cat([t.outside for t in targets]).to(pad_token.dtype),
    )


class Products:
    """Memory for the products of up to `rows` windows times heads, used again by every chunk."""

    def __init__(self, like: Tensor, rows: int, tokens: tuple[int, int], width: int) -> None:
        self.scores, self.p, self.d_scores = (like.new_empty(rows, *tokens) for _ in range(3))
        self.dq, self.dk, self.dv = (like.new_empty(rows, n, width) for n in (tokens[0], tokens[1], tokens[1]))

    def backward(self, q: Tensor, k: Tensor, v: Tensor, g: Tensor, mask: Tensor | None, scale: float) -> list[Tensor]:
        """(windows, heads, N, width) each -> gradients of q, k and v; that of the logits lies in `d_scores`."""
        q, k, v, g = (t.flatten(0, 1) for t in (q, k, v, g))
        rows = (self.scores, self.p, self.d_scores, self.dq, self.dk, self.dv)
        scores, p, ds, dq, dk, dv = (t.narrow(0, 0, len(q)) for t in rows)
        _product(scores, q, k.transpose(1, 2), scale)
        if mask is not None:
            scores.unflatten(0, (-1, mask.shape[1])).add_(mask)
        torch.softmax(scores, -1, out=p)
        torch.bmm(g, v.transpose(1, 2), out=scores)
        torch.ops.aten._softmax_backward_data.out(scores, p, -1, p.dtype, grad_input=ds)
        _product(dq, ds, k, scale)
        _product(dk, ds.transpose(1, 2), q, scale)
        torch.bmm(p.transpose(1, 2), g, out=dv)
        return [dq, dk, dv]


class Target:
    """The gradient of the map that `tokens` come from; `once`: each pixel is in one window.

    The row after the last pixel takes what belongs to no pixel.
    """

    def __init__(self, tokens: Tokens, once: bool, pixels: int, pad_token: Tensor | None) -> None:
        self.tokens, self.once, self.pixels = tokens, once, pixels
        self.dtype = tokens.source.dtype
        dtype = self.dtype if once else compute_dtype(tokens.source)
        channels = tokens.source.shape[1]
        self.map = tokens.source.new_empty(pixels + 1, channels, dtype=dtype)
        if not once:
            self.map.zero_()
        self.flat = self.map.new_empty(len(tokens.taken), channels)
        self._beyond = (
            self.map.new_zeros(channels, dtype=compute_dtype(self.map)) if once and pad_token is not None else None
        )

    def put(self, pick: slice, parts: list[Tensor]) -> None:
        """Gradients (windows * heads, N, width) of the parts of some windows' tokens."""
        tokens = self.tokens
        rows = tokens.rows[pick].view(-1)
        flat = self.flat.narrow(0, 0, len(rows))
        apart = flat.view(pick.stop - pick.start, -1, tokens.parts, tokens.heads, tokens.head_dim).permute(
            2, 0, 3, 1, 4
        )
        for to, part in zip(apart.unbind(0), parts, strict=True):
            to.copy_(part.unflatten(0, (-1, tokens.heads)).narrow(3, 0, tokens.head_dim))
        if not self.once:
            add_rows(self.map, rows, flat)
            return
        self.map.index_copy_(0, rows, flat)
        if self._beyond is not None:
            self._beyond += flat.masked_fill((rows != self.pixels)[:, None], 0).sum(0, dtype=self._beyond.dtype)

    def gradient(self) -> Tensor:
        """(pixels, channels)."""
        return self.map[: self.pixels].to(self.dtype)

    @property
    def outside(self) -> Tensor:
        """(channels,): the sum over all tokens outside the map."""
        return self.map[self.pixels] if self._beyond is None else self._beyond


def _cosine(
    products: Products, q: Tensor, k: Tensor, v: Tensor, g: Tensor, mask: Tensor | None, logit_scale: Tensor
) -> list[Tensor]:
    """As `Products.backward`, of the cosines of q and k; and the gradient of the factor of each head."""
    factor = logit_scale.to(q.dtype).view(-1, 1, 1)
    lengths = norm(q), norm(k)
    q, k = q / lengths[0], k / lengths[1]
    dq, dk, dv = products.backward(q * factor, k, v, g, mask, 1.0)
    dq, dk = dq.view_as(q), dk.view_as(k)
    d_factor = (dq * q).sum((0, 2, 3))
    dq, dk = _through_norm(dq * factor, q, lengths[0]), _through_norm(dk, k, lengths[1])
    return [dq.flatten(0, 1), dk.flatten(0, 1), dv, d_factor]


def _product(out: Tensor, x: Tensor, y: Tensor, scale: float) -> None:
    torch.baddbmm(out, x, y, beta=0, alpha=scale, out=out)


def _to_table(d_dense: Tensor, bias: Tensor, windows: Windows) -> Tensor:
    """Gradient (heads, Nq, Nk) of the dense bias, in the form that `bias` has."""
    if bias.dim() == 3:
        return d_dense.to(bias.dtype)
    table = d_dense.new_zeros(bias.shape)
    add_rows(table, relative_index(windows, bias.device), d_dense.flatten(1).t().contiguous())
    return table.to(bias.dtype)


def _through_norm(grad: Tensor, unit: Tensor, length: Tensor) -> Tensor:
    """Gradient of x from that of unit = x / max(|x|, eps); a vector shorter than eps was only scaled."""
    along = (grad * unit).sum(-1, keepdim=True).masked_fill(length <= NORM_EPS, 0)
    return (grad - unit * along) / length

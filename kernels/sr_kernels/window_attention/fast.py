"""The fast PyTorch path: a gather of whole pixels, attention, a scatter of whole pixels.

No roll, pad or permute of the map, and no mask on windows that need none. On a CPU windows are attended to in chunks
that stay in cache from the gather to the scatter. Forward keeps no map of scores; backward recomputes the
probabilities in chunks, so that nothing but the inputs is kept between the two.
"""

from collections.abc import Iterator
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from sr_kernels.window_attention.plan import (
    Group,
    Plan,
    add_up,
    plan_of,
    put,
    relative_index,
    sum_rows,
    take,
    with_outside,
)
from sr_kernels.window_attention.reference import NORM_EPS
from sr_kernels.window_attention.tokens import chunks, qkv_tokens
from sr_kernels.window_attention.windows import Windows

# Scores of one chunk in backward: 4 MB stays near the cores of a CPU at few launches; a GPU wants fewer still. Forward
# takes a quarter as many numbers of q, k and v at once on a CPU, all windows under one mask elsewhere.
CHUNK = {"cpu": 2**20}
CHUNK_ELSEWHERE = 2**26


class Gradients(NamedTuple):
    qkv: list[Tensor]
    bias: Tensor | None
    logit_scale: Tensor | None
    pad_token: Tensor | None


def forward(
    qkv: list[Tensor],
    bias: Tensor | None,
    logit_scale: Tensor | None,
    pad_token: Tensor | None,
    heads: int,
    scale: float,
    windows: Windows,
) -> Tensor:
    """One packed (B,H,W,3C) or three (B,H,W,heads,d) maps -> (B,H,W,C). Arguments as in api.py; records no gradient."""
    B, H, W = qkv[0].shape[:3]
    on_cpu = qkv[0].device.type == "cpu"
    plan = plan_of(B, H, W, windows, qkv[0].device)
    d = _width(qkv) // heads
    dtype = _compute_dtype(qkv[0]) if on_cpu else qkv[0].dtype
    width = _product_width(d) if on_cpu else d
    numbers = heads * width * (windows.tokens[0] + 2 * windows.tokens[1])  # of q, k and v in a window
    step = max(group.stop - group.start for group in plan.groups)
    step = max(1, min(step, CHUNK["cpu"] // 4 // numbers)) if on_cpu else step
    tokens = qkv_tokens(qkv, pad_token, windows, plan, heads, step, dtype, width, heads_first=False)
    # The row after the last pixel takes what is computed for places outside the map.
    out = qkv[0].new_empty(B * H * W + plan.reaches_outside, heads * d)
    for group, mask in _masks(bias, plan.groups, windows, out.new_empty(0, dtype=dtype)):
        for pick in chunks(group.start, group.stop, step):
            q, k, v = (part for source in tokens for part in source.take(pick))
            attended = _attend(q, k, v, mask, logit_scale, scale)[..., :d].transpose(1, 2)
            out.index_copy_(0, plan.queries[pick].view(-1), attended.to(out.dtype).reshape(-1, heads * d))
    return out[: B * H * W].view(B, H, W, -1)


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
    sources = _sources(qkv, pad_token, windows, plan)
    grad = with_outside(grad.reshape(B * H * W, -1), None, plan)
    count, (Nq, Nk) = len(plan.queries), windows.tokens
    if len(sources) == 1:
        d_tokens = [grad.new_empty(count, Nq, 3, heads, grad.shape[1] // heads)]
        targets = d_tokens[0].unbind(2)
    else:
        d_tokens = targets = [grad.new_empty(count, n, heads, grad.shape[1] // heads) for n in (Nq, Nk, Nk)]

    dtype = _compute_dtype(grad)
    d_bias = grad.new_zeros(heads, Nq, Nk, dtype=dtype)
    d_scale = grad.new_zeros(heads, dtype=dtype)
    factor = torch.full_like(d_scale, scale) if logit_scale is None else logit_scale.to(dtype).flatten()
    factor = factor.view(heads, 1, 1)
    step = max(1, CHUNK.get(grad.device.type, CHUNK_ELSEWHERE) // (heads * Nq * Nk))
    for group, mask in _masks(bias, plan.groups, windows, d_bias):
        for start in range(group.start, group.stop, step):
            pick = slice(start, min(start + step, group.stop))
            g = take(grad, plan.queries[pick]).unflatten(2, (heads, -1))
            qc, kc, vc = _heads_first_tokens(sources, pick, heads, plan, dtype)
            gc = _heads_first(g, dtype)
            norms = None if logit_scale is None else (_norm(qc), _norm(kc))
            if norms is not None:
                qc, kc = qc / norms[0], kc / norms[1]
            dq, dk, dv, ds = _chunk_backward(qc * factor, kc, vc, gc, mask)
            d_bias += ds.sum(0)
            if norms is not None:
                d_scale += (dq * qc).sum((0, 2, 3))
            dq *= factor
            if norms is not None:
                dq, dk = _through_norm(dq, qc, norms[0]), _through_norm(dk, kc, norms[1])
            for target, chunk in zip(targets, (dq, dk, dv), strict=True):
                target[pick] = chunk[..., : target.shape[-1]].transpose(1, 2)
    d_qkv, d_token = _to_maps(d_tokens, qkv, pad_token, windows, plan)
    return Gradients(
        d_qkv,
        None if bias is None else _to_table(d_bias, bias, windows),
        None if logit_scale is None else d_scale.view_as(logit_scale).to(logit_scale.dtype),
        d_token,
    )


def _attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, logit_scale: Tensor | None, scale: float) -> Tensor:
    """Any number of windows of any size (windows, heads, N, d) -> (windows, heads, Nq, d), without a map of scores."""
    if logit_scale is not None:
        # A unit vector rounded to half precision would be off by 2^-9, times a logit scale of up to 100.
        dtype = _compute_dtype(q)
        q, k, v = (t.to(dtype) for t in (q, k, v))
        q, k, scale = q / _norm(q) * _factor(logit_scale, scale, q), k / _norm(k), 1.0
    mask = None if mask is None else mask.to(q.dtype).expand(len(q), q.shape[1], -1, -1)
    return F.scaled_dot_product_attention(q, k, v, mask, scale=scale)


def _product_width(head_dim: int) -> int:
    """Channels a head, filled up with zeros, that MKL multiplies best.

    With 10 channels windows of 64 tokens take 1.3, of 256 tokens 1.8 times as long as with 16. Beyond 16, only what is
    nearly a multiple gains from becoming one.
    """
    wide = -(-head_dim // 16) * 16
    return wide if head_dim < 16 or wide - head_dim <= 3 else head_dim


def _factor(logit_scale: Tensor | None, scale: float, like: Tensor) -> Tensor | float:
    """What logits are multiplied by: one number, or (heads, 1, 1) for cosine attention."""
    return scale if logit_scale is None else logit_scale.to(like.dtype).view(-1, 1, 1)


def _probabilities(q: Tensor, k: Tensor, mask: Tensor | None) -> Tensor:
    """(windows, heads, N, d) each, q scaled -> (windows, heads, Nq, Nk)."""
    scores = torch.bmm(q.flatten(0, 1), k.flatten(0, 1).transpose(1, 2)).view(*q.shape[:3], k.shape[2])
    return torch.softmax(scores if mask is None else scores.add_(mask), -1)


def _width(qkv: list[Tensor]) -> int:
    """Channels of the output."""
    return qkv[0].shape[3] // 3 if len(qkv) == 1 else qkv[0].shape[3] * qkv[0].shape[4]


def _chunk_backward(
    q: Tensor, k: Tensor, v: Tensor, g: Tensor, mask: Tensor | None
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """(windows, heads, N, d) each, q scaled -> gradients of q, k, v and of the logits (windows, heads, Nq, Nk)."""
    q_, k_, v_, g_ = (t.flatten(0, 1) for t in (q, k, v, g))
    p = _probabilities(q, k, mask)
    p_ = p.flatten(0, 1)
    ds_ = torch.ops.aten._softmax_backward_data(torch.bmm(g_, v_.transpose(1, 2)), p_, -1, p.dtype)
    dq = torch.bmm(ds_, k_).view_as(q)
    dk = torch.bmm(ds_.transpose(1, 2), q_).view_as(k)
    dv = torch.bmm(p_.transpose(1, 2), g_).view_as(v)
    return dq, dk, dv, ds_.view_as(p)


def _sources(qkv: list[Tensor], pad_token: Tensor | None, windows: Windows, plan: Plan) -> list[Tensor]:
    """Flattened maps to take tokens from: one (pixels, 3C) where a window is its own keys, else three."""
    if len(qkv) == 1 and windows.keys_are_queries:
        return [with_outside(qkv[0].flatten(0, 2), pad_token, plan)]
    maps = qkv[0].flatten(0, 2).chunk(3, 1) if len(qkv) == 1 else [t.flatten(3).flatten(0, 2) for t in qkv]
    outside = (None, None, None) if pad_token is None else pad_token.chunk(3)
    return [with_outside(flat, row, plan) for flat, row in zip(maps, outside, strict=True)]


def _tokens(sources: list[Tensor], pick: slice, heads: int, plan: Plan) -> tuple[Tensor, Tensor, Tensor]:
    """q (windows, Nq, heads, d), k and v (windows, Nk, heads, d) of some windows."""
    if len(sources) == 1:
        q, k, v = take(sources[0], plan.queries[pick]).unflatten(2, (3, heads, -1)).unbind(2)
    else:
        rows = (plan.queries[pick], plan.keys[pick], plan.keys[pick])
        q, k, v = (take(*pair).unflatten(2, (heads, -1)) for pair in zip(sources, rows, strict=True))
    return q, k, v


def _to_maps(
    d_tokens: list[Tensor], qkv: list[Tensor], pad_token: Tensor | None, windows: Windows, plan: Plan
) -> tuple[list[Tensor], Tensor | None]:
    """Gradients of the window tokens, back on the maps and on the pad token."""
    maps, outside = [], []
    for i, tokens in enumerate(d_tokens):
        rows = plan.keys if i else plan.queries
        pixels = qkv[min(i, len(qkv) - 1)].shape[:3].numel()
        tokens = tokens.flatten(2)
        if windows.keys_are_queries or i == 0:
            maps.append(put(tokens, plan))
            if pad_token is not None:
                outside.append(
                    tokens.masked_fill((rows != pixels)[..., None], 0).sum((0, 1), dtype=_compute_dtype(tokens))
                )
        else:
            summed, beyond = add_up(tokens.to(_compute_dtype(tokens)), rows, pixels)
            maps.append(summed.to(tokens.dtype))
            outside.append(beyond)
    if len(qkv) == 1:
        maps = [torch.cat(maps, 1)] if len(maps) > 1 else maps
    d_token = None if pad_token is None else torch.cat(outside).to(pad_token.dtype)
    return [d.view(t.shape) for d, t in zip(maps, qkv, strict=True)], d_token


def _to_table(d_dense: Tensor, bias: Tensor, windows: Windows) -> Tensor:
    """Gradient (heads, Nq, Nk) of the dense bias, in the form that `bias` has."""
    if bias.dim() == 3:
        return d_dense.to(bias.dtype)
    index = relative_index(windows, bias.device)
    return sum_rows(d_dense.flatten(1).t().contiguous(), index, bias.shape[0]).to(bias.dtype)


def _dense(bias: Tensor | None, windows: Windows, like: Tensor) -> Tensor | None:
    """The bias as contiguous (1, heads, Nq, Nk) in the dtype of `like`, or nothing."""
    if bias is None:
        return None
    if bias.dim() == 2:
        table = bias.to(like.dtype).t().contiguous()
        index = relative_index(windows, bias.device)
        bias = table.gather(1, index.expand(len(table), -1)).view(-1, *windows.tokens)
    return bias.to(like.dtype)[None].contiguous()


def _masks(
    bias: Tensor | None, groups: list[Group], windows: Windows, like: Tensor
) -> Iterator[tuple[Group, Tensor | None]]:
    """Each group and what is added to its logits: (1, heads | 1, Nq, Nk) in the dtype of `like`, or nothing."""
    near = _dense(bias, windows, like)
    far = None
    for group in groups:
        if group.apart is None:
            yield group, near
            continue
        if far is None:
            far = like.new_full((1, 1, 1, 1), windows.penalty) if near is None else near + windows.penalty
        yield group, torch.where(group.apart, far, like.new_zeros(()) if near is None else near)


def _heads_first_tokens(
    sources: list[Tensor], pick: slice, heads: int, plan: Plan, dtype: torch.dtype
) -> tuple[Tensor, Tensor, Tensor]:
    """`_tokens`, each through `_heads_first`; in one copy where one row holds q, k and v."""
    if len(sources) == 1:
        tokens = take(sources[0], plan.queries[pick]).unflatten(2, (3, heads, -1))
        q, k, v = _heads_first(tokens.permute(2, 0, 1, 3, 4), dtype).unbind(0)
    else:
        q, k, v = (_heads_first(t, dtype) for t in _tokens(sources, pick, heads, plan))
    return q, k, v


def _heads_first(x: Tensor, dtype: torch.dtype) -> Tensor:
    """(..., N, heads, d) -> contiguous (..., heads, N, d), d filled up with zeros to a multiple of 4.

    MKL's small products take twice as long at 10 or 30 columns as at 12 or 32.
    """
    *rest, N, heads, d = x.shape
    out = x.new_zeros(*rest, heads, N, -(-d // 4) * 4, dtype=dtype)
    out[..., :d] = x.transpose(-2, -3)
    return out


def _norm(x: Tensor) -> Tensor:
    return torch.linalg.vector_norm(x, dim=-1, keepdim=True).clamp_min(NORM_EPS)


def _through_norm(grad: Tensor, unit: Tensor, norm: Tensor) -> Tensor:
    """Gradient of x from that of unit = x / max(|x|, eps); a vector shorter than eps was only scaled."""
    along = (grad * unit).sum(-1, keepdim=True).masked_fill(norm <= NORM_EPS, 0)
    return (grad - unit * along) / norm


def _compute_dtype(x: Tensor) -> torch.dtype:
    return torch.float64 if x.dtype == torch.float64 else torch.float32

"""The composition that goes into exported files: pad, roll, reshape, matmul, softmax; sizes may be dynamic."""

import torch
import torch.nn.functional as F
from torch import Tensor

from sr_kernels.window_attention import reference
from sr_kernels.window_attention.windows import Axis, Windows


def window_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    bias: Tensor | None,
    logit_scale: Tensor | None,
    pad_token: Tensor | None,
    windows: Windows,
    scale: float,
) -> Tensor:
    """As `reference.window_attention`, without gathers where windows attend to their own pixels."""
    if not windows.keys_are_queries:
        return reference.window_attention(q, k, v, bias, logit_scale, pad_token, windows, scale)
    H, W, heads = q.shape[1:4]
    axes = windows.axes(H, W)
    outside = (None, None, None) if pad_token is None else pad_token.to(q.dtype).chunk(3)
    queries, keys, values = (
        _cut(x.flatten(3), axes, windows, o, heads) for x, o in zip((q, k, v), outside, strict=True)
    )
    if logit_scale is not None:
        queries = reference.normalize(queries) * logit_scale.to(q.dtype).view(heads, 1, 1)
        logits = queries @ reference.normalize(keys).transpose(-2, -1)
    else:
        logits = (queries * scale) @ keys.transpose(-2, -1)
    if bias is not None:
        logits = logits + reference.dense_bias(bias, windows).to(q.dtype)
    if any(windows.shift) and windows.penalty:
        apart = reference.seam_between(windows, H, W, q.device)
        logits = torch.where(apart, logits + windows.penalty, logits)
    return _join(logits.softmax(-1) @ values, axes)


def _cut(x: Tensor, axes: tuple[Axis, Axis], windows: Windows, outside: Tensor | None, heads: int) -> Tensor:
    """Map (B,H,W,C) -> (B, windows, heads, N, d)."""
    rows, columns = axes
    shifts = (-rows.shift, -columns.shift)
    roll = any(windows.shift)
    if roll and windows.order == "roll_pad":
        x = x.roll(shifts, (1, 2))
    if windows.outside != "error":
        margin = (0, 0, 0, columns.padded - columns.size, 0, rows.padded - rows.size)
        inside = None if outside is None else F.pad(torch.ones_like(x[..., :1]), margin)
        x = F.pad(x, margin)
        if inside is not None and outside is not None:
            x = x + (1 - inside) * outside
    if roll and windows.order == "pad_roll":
        x = x.roll(shifts, (1, 2))
    h, w = windows.size
    if windows.layout == "grid":
        x = x.unflatten(1, (h, rows.count)).unflatten(3, (w, columns.count)).permute(0, 2, 4, 1, 3, 5)
    else:
        x = x.unflatten(1, (rows.count, h)).unflatten(3, (columns.count, w)).permute(0, 1, 3, 2, 4, 5)
    return x.flatten(3, 4).flatten(1, 2).unflatten(-1, (heads, -1)).transpose(2, 3)


def _join(out: Tensor, axes: tuple[Axis, Axis]) -> Tensor:
    """(B, windows, heads, N, d) -> map (B,H,W,C), each pixel looked up where `_cut` put it.

    One gather where a permute, a crop and a roll would ask the exporter for proofs about the padded size.
    """
    rows, columns = axes
    B, _, heads, N, d = out.shape
    (window_y, token_y), (window_x, token_x) = (_placed(axis, out.device) for axis in axes)
    window = window_y[:, None] * columns.count + window_x
    token = token_y[:, None] * columns.queries + token_x
    tokens = out.transpose(2, 3).reshape(B, -1, heads * d)
    return tokens.index_select(1, (window * N + token).flatten()).unflatten(1, (rows.size, columns.size))


def _placed(axis: Axis, device: torch.device) -> tuple[Tensor, Tensor]:
    """(size,) each: the window of every map position and its token in there."""
    position = torch.arange(axis.size, device=device)
    if axis.grid:
        window = torch.arange(axis.count, device=device).expand(axis.queries, -1)
        token = torch.arange(axis.queries, device=device)[:, None].expand(-1, axis.count)
        return window.flatten().index_select(0, position), token.flatten().index_select(0, position)
    if axis.shift:
        length = axis.padded if axis.pad_first else axis.size
        position = position - axis.shift % length
        position = torch.where(position < 0, position + length, position)
    return position // axis.queries, position % axis.queries

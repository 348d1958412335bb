"""The specification of window attention: every query and key looked up by its coordinates, softmax written out.

Differentiable to any order by autograd, on any device. Half precision computes in float32 and rounds once at the end.

For query n of window w and head h, over all keys m of that window::

    logit(n, m) = scale * <q_n, k_m> + bias[h, n, m] + penalty * [the seam lies between n and m]
    out_n = sum_m softmax_m(logit(n, m)) v_m

With `logit_scale` the first term is logit_scale[h] * <q_n, k_m> / (max(|q_n|, 1e-12) * max(|k_m|, 1e-12))
(Liu et al., Swin Transformer V2, arXiv 2111.09883, eq. 2).
"""

import torch
from torch import Tensor

from sr_kernels.window_attention.windows import Windows

NORM_EPS = 1e-12


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
    """q (B,H,W,heads,d), k and v (B,Hk,Wk,heads,d) -> (B,H,W,heads*d). Arguments as in api.py, checked there."""
    B, H, W, heads, d = q.shape
    dtype = q.dtype if q.dtype == torch.float64 else torch.float32
    rows, columns = windows.axes(H, W)
    query_y, query_x = rows.query_positions(q.device), columns.query_positions(q.device)
    key_y, key_x = rows.key_positions(q.device), columns.key_positions(q.device)
    token = None if windows.outside != "token" or pad_token is None else pad_token.to(dtype).view(3, heads, d)

    queries = _gather(q.to(dtype), query_y, query_x, None)
    keys = _gather(k.to(dtype), key_y, key_x, None if token is None else token[1])
    values = _gather(v.to(dtype), key_y, key_x, None if token is None else token[2])
    if logit_scale is not None:
        queries = normalize(queries) * logit_scale.to(dtype).view(heads, 1)
        keys = normalize(keys)
    else:
        queries = queries * scale

    logits = torch.einsum("bwnhd,bwmhd->bwhnm", queries, keys)
    if bias is not None:
        logits = logits + dense_bias(bias, windows).to(dtype)
    if any(windows.shift) and windows.penalty:
        logits = torch.where(seam_between(windows, H, W, q.device), logits + windows.penalty, logits)
    out = torch.einsum("bwhnm,bwmhd->bwnhd", logits.softmax(-1), values)

    # Each pixel is one query of one window; what the windows computed outside the map goes to a row that is dropped.
    position = _flat_positions(query_y, query_x, W).flatten()
    position = torch.where(position < 0, H * W, position)
    spread = out.new_zeros(B, H * W + 1, heads * d).index_copy(1, position, out.reshape(B, -1, heads * d))
    return spread[:, : H * W].reshape(B, H, W, heads * d).to(q.dtype)


def dense_bias(bias: Tensor, windows: Windows) -> Tensor:
    """(heads, Nq, Nk) from a compact table (R, heads); a dense bias is returned as it is."""
    return bias if bias.dim() == 3 else bias[windows.relative_index(bias.device)].permute(2, 0, 1)


def normalize(x: Tensor) -> Tensor:
    """Unit vectors along the last axis; zero stays zero."""
    return x / torch.linalg.vector_norm(x, dim=-1, keepdim=True).clamp_min(NORM_EPS)


def _gather(x: Tensor, y_positions: Tensor, x_positions: Tensor, outside: Tensor | None) -> Tensor:
    """Map (B,H,W,heads,d) -> (B, windows, tokens, heads, d); positions outside hold the vector `outside`, or zero."""
    B, H, W, heads, d = x.shape
    position = _flat_positions(y_positions, x_positions, W)
    tokens = x.reshape(B, H * W, heads, d)[:, position.clamp_min(0)]
    beyond = x.new_zeros(heads, d) if outside is None else outside
    return torch.where((position < 0)[..., None, None], beyond, tokens)


def _flat_positions(y: Tensor, x: Tensor, width: int) -> Tensor:
    """(rows, Wh) and (columns, Ww) positions -> (rows * columns, Wh * Ww) into the flattened map, -1 outside."""
    y, x = y[:, None, :, None], x[None, :, None, :]
    flat = torch.where((y < 0) | (x < 0), -1, y * width + x)
    return flat.flatten(2).flatten(0, 1)


def seam_between(windows: Windows, height: int, width: int, device: torch.device) -> Tensor:
    """(windows, 1, Nq, Nk) bool: pairs whose query and key lie on different sides of the seam on some axis."""
    rows, columns = windows.axes(height, width)
    query_y, key_y = rows.beyond_seam(device)
    query_x, key_x = columns.beyond_seam(device)
    apart_y = query_y[:, :, None] != key_y[:, None, :]
    apart_x = query_x[:, :, None] != key_x[:, None, :]
    apart = apart_y[:, None, :, None, :, None] | apart_x[None, :, None, :, None, :]
    return apart.reshape(rows.count * columns.count, 1, *windows.tokens)

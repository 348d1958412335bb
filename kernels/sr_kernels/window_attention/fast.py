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

from sr_kernels.window_attention.plan import Group, largest_group, plan_of, relative_index
from sr_kernels.window_attention.reference import NORM_EPS
from sr_kernels.window_attention.tokens import chunks, qkv_tokens
from sr_kernels.window_attention.windows import Windows

# Scores of one chunk in backward: 2 MB stays near the cores of a CPU at few launches; a GPU wants fewer still. Forward
# takes half as many numbers of q, k and v at once on a CPU, all windows under one mask elsewhere.
CHUNK = {"cpu": 2**19}
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
    dtype = compute_dtype(qkv[0]) if on_cpu else qkv[0].dtype
    width = product_width(d, qkv[0].device)
    numbers = heads * width * (windows.tokens[0] + 2 * windows.tokens[1])  # of q, k and v in a window
    step = largest_group(plan)
    step = max(1, min(step, CHUNK["cpu"] // 2 // numbers)) if on_cpu else step
    tokens = qkv_tokens(qkv, pad_token, windows, plan, heads, step, dtype, width, heads_first=False)
    # The row after the last pixel takes what is computed for places outside the map.
    out = qkv[0].new_empty(B * H * W + plan.reaches_outside, heads * d)
    for group, mask in masks(bias, plan.groups, windows, out.new_empty(0, dtype=dtype)):
        for pick in chunks(group.start, group.stop, step):
            q, k, v = (part for source in tokens for part in source.take(pick))
            attended = _attend(q, k, v, mask, logit_scale, scale)[..., :d].transpose(1, 2)
            out.index_copy_(0, plan.queries[pick].view(-1), attended.to(out.dtype).reshape(-1, heads * d))
    return out[: B * H * W].view(B, H, W, -1)


def _attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, logit_scale: Tensor | None, scale: float) -> Tensor:
    """Any number of windows of any size (windows, heads, N, d) -> (windows, heads, Nq, d), without a map of scores.

    q and k are overwritten.
    """
    if logit_scale is not None:
        # A unit vector rounded to half precision would be off by 2^-9, times a logit scale of up to 100.
        dtype = compute_dtype(q)
        q, k, v = (t.to(dtype) for t in (q, k, v))
        q, k, scale = q.mul_(logit_scale.to(dtype).view(-1, 1, 1) / norm(q)), k.div_(norm(k)), 1.0
    mask = None if mask is None else mask.to(q.dtype).expand(len(q), q.shape[1], -1, -1)
    return F.scaled_dot_product_attention(q, k, v, mask, scale=scale)


def product_width(head_dim: int, device: torch.device) -> int:
    """Channels a head, filled up with zeros, that MKL multiplies best.

    With 10 channels windows of 64 tokens take 1.3, of 256 tokens 1.8 times as long as with 16. Beyond 16, only what is
    nearly a multiple gains from becoming one.
    """
    wide = -(-head_dim // 16) * 16
    return wide if device.type == "cpu" and (head_dim < 16 or wide - head_dim <= 3) else head_dim


def _width(qkv: list[Tensor]) -> int:
    """Channels of the output."""
    return qkv[0].shape[3] // 3 if len(qkv) == 1 else qkv[0].shape[3] * qkv[0].shape[4]


def _dense(bias: Tensor | None, windows: Windows, like: Tensor) -> Tensor | None:
    """The bias as contiguous (1, heads, Nq, Nk) in the dtype of `like`, or nothing."""
    if bias is None:
        return None
    bias = bias.detach()  # a mask that requires a gradient sends scaled_dot_product_attention to its slowest backend
    if bias.dim() == 2:
        table = bias.to(like.dtype).t().contiguous()
        index = relative_index(windows, bias.device)
        bias = table.gather(1, index.expand(len(table), -1)).view(-1, *windows.tokens)
    return bias.to(like.dtype)[None].contiguous()


def masks(
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


def norm(x: Tensor) -> Tensor:
    return torch.linalg.vector_norm(x, dim=-1, keepdim=True).clamp_min(NORM_EPS)


def compute_dtype(x: Tensor) -> torch.dtype:
    return torch.float64 if x.dtype == torch.float64 else torch.float32

"""The specification of channel attention: cosines between channels over all pixels, softmax, a mix of channels.

Differentiable to any order by autograd, on any device. Half precision computes in float32 and rounds once at the end.

For each picture and head, with q_i, k_j, v_j the maps of channels i and j as vectors over the pixels::

    S_ij  = <q_i, k_j> / (max(|q_i|, 1e-12) * max(|k_j|, 1e-12))
    A_ij  = softmax over j of temperature[head] * S_ij
    out_i = sum_j A_ij v_j
"""

import torch
from torch import Tensor

NORM_EPS = 1e-12


def channel_attention(q: Tensor, k: Tensor, v: Tensor, temperature: Tensor) -> Tensor:
    """q, k, v (B, heads, d, H, W), temperature of heads elements -> (B, heads, d, H, W) in the dtype of q."""
    dtype = torch.float64 if q.dtype == torch.float64 else torch.float32
    queries, keys, values = (x.to(dtype).flatten(3) for x in (q, k, v))
    cosines = normalize(queries) @ normalize(keys).transpose(-2, -1)
    attention = (cosines * temperature.to(dtype).reshape(-1, 1, 1)).softmax(-1)
    return (attention @ values).unflatten(3, q.shape[3:]).to(q.dtype)


def normalize(x: Tensor) -> Tensor:
    """Unit vectors along the last axis; zero stays zero."""
    return x / torch.linalg.vector_norm(x, dim=-1, keepdim=True).clamp_min(NORM_EPS)

"""Launches of the sums that end the backward pass."""

import torch
from torch import Tensor

from sr_kernels.launch import Launch, Steps
from sr_kernels.window_attention.arguments import Problem
from sr_kernels.window_attention.fold import fold_distances, fold_groups, fold_keys, fold_table

OPTIONS = {"num_warps": 4, "num_stages": 1}


def keys(problem: Problem, parts: Tensor, maps: list[Tensor], which: int) -> Launch:
    """Gradients of keys (`which` 0) or values (1), given for each window apart, summed onto their map."""
    C = parts.shape[2]
    packed = len(maps) == 1
    out = maps[0] if packed else maps[1 + which]
    pixels = problem.k.shape[:3].numel()
    size = {"BP": 32, "BC": min(64, 1 << (C - 1).bit_length())}
    (H, W), (NY, NX) = problem.q.shape[1:3], problem.counts
    start, stride = ((1 + which) * C, 3 * C) if packed else (0, C)
    arguments = {"parts": parts, "out": out, "start": start, "stride": stride}
    arguments |= {"H": H, "W": W, "NY": NY, "NX": NX, "pixels": pixels}
    constants = {"G": problem.geometry, "C": C, "NK": problem.tokens[1], **size}
    return Launch(fold_keys, -(-pixels // size["BP"]) * -(-C // size["BC"]), arguments, constants, OPTIONS)


def bias(problem: Problem, like: Tensor, parts: Tensor) -> Steps[Tensor]:
    """Gradient of the bias, from logit gradients (groups, heads, Nq, Nk), or from sums by distance (6 dimensions).

    Returns it in the form and dtype of `like`.
    """
    out = torch.empty_like(like, memory_format=torch.contiguous_format)
    constants = {"G": problem.geometry, "HEADS": problem.heads}
    if parts.dim() == 6:
        size = {"ROWS": len(out), "KR": parts.shape[5] // 8, "BR": 8, "BT": 64}
        arguments = {"parts": parts, "out": out, "groups": len(parts)}
        programs = -(-len(out) // size["BR"]) * problem.heads
        yield Launch(fold_distances, programs, arguments, constants | size, OPTIONS)
        return out
    dense = parts.new_empty(parts.shape[1:]) if len(parts) > 1 else parts[0]
    if len(parts) > 1:
        arguments = {"parts": parts, "out": dense, "groups": len(parts), "size": dense.numel()}
        yield Launch(fold_groups, -(-dense.numel() // 128), arguments, {"BG": 8, "BS": 128}, OPTIONS)
    if like.dim() == 3:
        return dense.to(like.dtype)
    Nq, Nk = problem.tokens
    size = {"NQ": Nq, "NK": Nk, "ROWS": len(out), "BR": 16, "BK": 64}
    programs = -(-len(out) // size["BR"]) * problem.heads
    yield Launch(fold_table, programs, {"dense": dense, "out": out}, constants | size, OPTIONS)
    return out

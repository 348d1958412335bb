"""The public door of the content statistics: checks and dispatch."""

from typing import NamedTuple

import torch
from torch import Tensor

from sr_kernels import check, dispatch
from sr_kernels.content_stats import fast, op, reference
from sr_kernels.dispatch import Impl

OP = "content_stats"


class ContentStats(NamedTuple):
    """What `content_stats` returns, in the dtype of the picture.

    `fine` (B,8,H,W) and `coarse` (B,8,ceil H/2,ceil W/2) hold per pixel: log Laplacian (0..1.74), log deviation
    (0..1.22), log gradient energy (0..1.30), coherence times cos 2t, sin 2t, cos 4t, sin 4t of the gradient's angle t
    (each -1..1), mean luma (0..1). `difficulty` (B,2,ceil H/window,ceil W/window) holds the mean and the maximum of the
    fine log Laplacian per window.
    """

    fine: Tensor
    coarse: Tensor
    difficulty: Tensor


def content_stats(x: Tensor, *, window: int = 8, impl: Impl = "auto") -> ContentStats:
    """What kind of content lies where: strength of detail, its direction and how sure it is, at two scales.

    The exact formulas are `reference.py`. The coarse scale is the same statistics of the means of 2x2 pixels. Nothing
    is normalised per picture: a statistic depends on 9x9 pixels (coarse: means) around it, so a tile gives what the
    whole picture gives, 4 (coarse: 8) pixels away from the cuts, if its origin is even and, for `difficulty`, a
    multiple of `window`. Beyond its edges a picture continues with its edge pixels.

    Args:
        x: picture (B,C,H,W), C = 3 (RGB; luma is BT.601, full range) or 1 (luma), values in 0..1 as displayed; any
            size from 1x1. float16, bfloat16, float32 or float64. Half precision computes in float32 and rounds last.
        window: side of the windows of `difficulty` in pixels, at least 1. One cut by the edge counts its own pixels.
        impl: "auto", "triton", "torch" or "reference"; see `sr_kernels.dispatch`.

    Differentiable once in x (the reference any number of times), with finite gradients everywhere; at |L| = 0 and among
    equal maxima it takes one subgradient.

    Bytes moved by the Triton kernels: forward reads C and writes 8 + 2 + 2/window^2 elements per pixel, in one launch
    for windows of 8, 16 and 32; others are pooled by a second one, from statistics rounded to the dtype of x. Backward
    reads both and writes C, and keeps 9 float32 numbers per pixel meanwhile.

    Raises:
        ValueError: wrong number of dimensions or channels, an empty picture, window < 1.
        TypeError: not a tensor of one of these dtypes.
        sr_kernels.dispatch.ImplUnavailableError: the implementation asked for cannot run here.
    """
    check.expect_tensor(OP, "x", x, "B C H W")
    if x.shape[1] not in (1, 3):
        check.fail(
            OP, f"x must have 3 channels (RGB) or 1 (luma) on axis 1, got {x.shape[1]}: pass x[:, :3] or x[:, :1]"
        )
    if not torch.compiler.is_compiling() and min(x.shape) < 1:
        check.fail(OP, f"x must not be empty, got shape {tuple(x.shape)}")
    if window < 1:
        check.fail(OP, f"window must be at least 1 pixel, got {window}")
    doubles = "its kernels compute in float32, this tensor is float64" if x.dtype == torch.float64 else None
    chosen = dispatch.resolve(OP, impl, x.device, doubles)
    if dispatch.exporting():
        return ContentStats(*fast.content_stats(x, window))
    if chosen == "reference":
        return ContentStats(*reference.content_stats(x, window))
    return ContentStats(*op.content_stats(x, window, chosen))

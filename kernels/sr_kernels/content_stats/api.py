"""`content_stats`: the public door, its checks and the choice of implementation."""

from typing import NamedTuple

import torch
from torch import Tensor

from sr_kernels.check import expect_tensor, fail
from sr_kernels.content_stats import fast, op, reference
from sr_kernels.dispatch import Impl, resolve

_OP = "content_stats"


class ContentStats(NamedTuple):
    """What a picture looks like around each pixel.

    The eight channels: log mean |Laplacian|, log standard deviation, log trace of the structure tensor, coherence times
    (cos 2t, sin 2t, cos 4t, sin 4t) of the gradient's angle t, mean. Logs are scaled so that a contrast of the whole
    range is about 1; angles lie in -1..1.

    fine: [B, 8, H, W], in a binomial 7x7 neighbourhood.
    coarse: [B, 8, ceil(H / 2), ceil(W / 2)], the same on 2x2 means.
    difficulty: [B, 2, ceil(H / window), ceil(W / window)], mean and maximum of log mean |Laplacian| in each window.
    """

    fine: Tensor
    coarse: Tensor
    difficulty: Tensor


def content_stats(x: Tensor, *, window: int = 8, impl: Impl = "auto") -> ContentStats:
    """Statistics of content at two scales and per window; `reference.py` has every formula.

    Nothing is normalised per picture: further than 4 (fine) or 9 (coarse) pixels from its border, a tile whose origin
    is a multiple of 2 and of `window` gives what the whole picture gives.

    Args:
        x: [B, 3, H, W] RGB or [B, 1, H, W] luma, values in 0..1; float16, bfloat16, float32 or float64.
        window: side of the windows of `difficulty` in pixels; those at the far borders may be smaller.
        impl: auto, torch, reference, or triton.

    Returns:
        `ContentStats` in float32 (float64 for float64), contiguous. Differentiable in x, once under torch.compile.
        Bytes moved by a fused pass at 16 bit: 6 read and about 22 written a pixel.

    Raises:
        TypeError: wrong type or dtype. ValueError: wrong shape, window or impl.
        sr_kernels.dispatch.ImplUnavailableError: the named implementation cannot run here.

    Source: log |Laplacian| as the predictor of reconstruction error follows ARM (Chen et al. 2022); orientation and
    coherence as what steers a filter follow RAISR (Romano et al. 2016).
    """
    expect_tensor(_OP, "x", x, "B C H W")
    if x.shape[1] not in (1, 3) or 0 in x.shape:
        fail(_OP, f"x [B C H W] must have 1 or 3 channels and no empty axis, got shape {tuple(x.shape)}")
    if not isinstance(window, int) or window < 1:
        fail(_OP, f"window must be a positive integer, got {window!r}")
    chosen = resolve(_OP, impl, x.device)
    if torch.compiler.is_exporting():
        return ContentStats(*fast.content_stats(x, window))
    if chosen == "reference":
        return ContentStats(*reference.content_stats(x, window))
    # Eager autograd goes through the plain function, which differentiates any number of times.
    if torch.compiler.is_compiling():
        return ContentStats(*op.content_stats(x, window))
    return ContentStats(*fast.content_stats(x, window))

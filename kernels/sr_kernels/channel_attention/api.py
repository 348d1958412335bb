"""The public door of channel attention: checks and dispatch."""

from typing import Literal, get_args

import torch
from torch import Tensor

from sr_kernels import check, dispatch
from sr_kernels.channel_attention import op, reference
from sr_kernels.channel_attention.layout import Layout, joined, unpack
from sr_kernels.dispatch import Impl

OP = "channel_attention"
LARGEST_HEAD = 128
Precision = Literal["auto", "tf32x3", "tf32", "ieee"]
QKV = Tensor | tuple[Tensor, Tensor, Tensor]

_PACKED = {"nhwc": "B H W 3C", "nchw": "B 3C H W"}
_APART = {"nhwc": "B H W heads d", "nchw": "B heads d H W"}


def channel_attention(
    qkv: QKV,
    *,
    heads: int,
    temperature: Tensor,
    layout: Layout = "nhwc",
    precision: Precision = "auto",
    impl: Impl = "auto",
) -> Tensor:
    """Attention between the channels of each head: cosines of channel maps over all pixels, softmax, a mix of channels.

    The exact formula is `reference.py`. Cost grows linearly with the number of pixels; the map of weights is d x d.
    Restormer's transposed attention is `layout="nchw"` on the output of its depthwise convolution; DAT's adaptive
    channel attention is the default layout on the output of its Linear, seen as (B,H,W,3C).

    Args:
        qkv: queries, keys and values, packed: (B,H,W,3C) with `layout="nhwc"`, (B,3C,H,W) with `layout="nchw"`;
            channels are [q | k | v], each [head 0 | head 1 | ...]. Or a tuple (q, k, v) of one shape, each
            (B,H,W,heads,d) or (B,heads,d,H,W). Any strides: the Triton kernels read in place. float16, bfloat16,
            float32 or float64; any value range. C = heads * d.
        heads: number of heads.
        temperature: (heads,) or (heads, 1, 1), the factor on the cosines; any float dtype.
        layout: the order of the axes, of qkv and of the result.
        precision: how a Triton kernel multiplies float32: "tf32x3" (float32-grade, what "auto" means), "tf32" or
            "ieee". Without effect on half precision, float64 and the PyTorch implementations.
        impl: "auto", "triton", "torch" or "reference"; see `sr_kernels.dispatch`. Triton serves head dims up to 128
            of all dtypes but float64; "auto" takes torch for the rest.

    Returns:
        (B,H,W,C) or (B,C,H,W) in the dtype of qkv; contiguous, or channels-last if a packed (B,3C,H,W) map is.

    Differentiable once in qkv and temperature; the reference any number of times. Gradients are the same on every
    run. A packed qkv gets one gradient.

    Bytes moved by the fused kernels, T = B*H*W pixels: forward reads 3TC and writes TC elements; backward reads 5TC
    and writes 3TC.

    Raises:
        ValueError: shapes that do not fit together.
        TypeError: wrong types or dtypes.
        sr_kernels.dispatch.ImplUnavailableError: the implementation asked for cannot run here.

    Source: Zamir et al., Restormer (arXiv 2111.09881), section 3.1; Chen et al., DAT (arXiv 2308.03364), section 3.2.
    """
    maps = _check_qkv(qkv, heads, layout)
    _check_rest(temperature, heads, precision)
    check.expect_same_device(OP, qkv=maps[0], temperature=temperature)
    chosen = dispatch.resolve(OP, impl, maps[0].device)
    if dispatch.exporting() or chosen == "reference":
        q, k, v = unpack(maps, heads, layout)
        return joined(reference.channel_attention(q, k, v, temperature), layout)
    if chosen == "triton" and (obstacle := _no_kernel(maps, heads, layout)) is not None:
        if impl == "triton":
            raise dispatch.ImplUnavailableError(f"{OP}: impl='triton' cannot run: {obstacle}; use impl='torch'")
        chosen = "torch"
    return op.channel_attention(maps, temperature, heads, layout, precision, chosen)[0]


def _check_qkv(qkv: QKV, heads: int, layout: str) -> list[Tensor]:
    if layout not in get_args(Layout):
        check.fail(OP, f"layout must be one of {', '.join(get_args(Layout))}, got {layout!r}")
    if heads < 1:
        check.fail(OP, f"heads must be at least 1, got {heads}")
    if isinstance(qkv, Tensor):
        maps = [check.expect_tensor(OP, "qkv", qkv, _PACKED[layout])]
        channels = qkv.shape[3 if layout == "nhwc" else 1]
        if channels % (3 * heads) or not channels:
            check.fail(
                OP,
                f"the axis 3C of qkv [{_PACKED[layout]}] must be 3 * heads * head_dim with heads={heads}, "
                f"got shape {tuple(qkv.shape)}; layout is {layout!r}",
            )
    elif isinstance(qkv, tuple | list) and len(qkv) == 3:
        maps = [check.expect_tensor(OP, n, t, _APART[layout]) for n, t in zip("qkv", qkv, strict=True)]
        q, k, v = maps
        if any(t.shape != q.shape or t.dtype != q.dtype for t in maps):
            found = [(t.dtype, tuple(t.shape)) for t in maps]
            check.fail(OP, f"q, k, v must have one dtype and one shape [{_APART[layout]}], got {found}")
        check.expect_same_device(OP, q=q, k=k, v=v)
        if q.shape[3 if layout == "nhwc" else 1] != heads:
            check.fail(OP, f"q [{_APART[layout]}] must have heads={heads}, got shape {tuple(q.shape)}")
    else:
        check.fail(OP, f"qkv must be a packed tensor or a tuple (q, k, v), got {type(qkv).__name__}", TypeError)
    if not torch.compiler.is_compiling() and min(maps[0].shape) < 1:
        check.fail(OP, f"qkv must not be empty, got shape {tuple(maps[0].shape)}")
    return maps


def _check_rest(temperature: Tensor, heads: int, precision: str) -> None:
    if not isinstance(temperature, Tensor) or not temperature.is_floating_point():
        what = temperature.dtype if isinstance(temperature, Tensor) else type(temperature).__name__
        check.fail(OP, f"temperature must be a float tensor [heads] or [heads, 1, 1], got {what}", TypeError)
    if tuple(temperature.shape) not in ((heads,), (heads, 1, 1)):
        check.fail(OP, f"temperature must be ({heads},) or ({heads}, 1, 1), got shape {tuple(temperature.shape)}")
    if precision not in get_args(Precision):
        check.fail(OP, f"precision must be one of {', '.join(get_args(Precision))}, got {precision!r}")


def _no_kernel(maps: list[Tensor], heads: int, layout: str) -> str | None:
    """Why the Triton kernels cannot serve these tensors, if so."""
    head_dim = unpack(maps, heads, layout)[0].shape[2]
    if maps[0].dtype == torch.float64:
        return "it computes no float64"
    return f"head_dim is {head_dim}, it serves up to {LARGEST_HEAD}" if head_dim > LARGEST_HEAD else None

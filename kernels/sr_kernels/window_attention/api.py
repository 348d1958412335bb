"""The public door of window attention: checks and dispatch."""

from typing import Literal, get_args

import torch
from torch import Tensor

from sr_kernels import check, dispatch
from sr_kernels.dispatch import Impl
from sr_kernels.window_attention import export, op, reference
from sr_kernels.window_attention.windows import Windows

OP = "window_attention"
MAX_HEAD_DIM = 128
Precision = Literal["auto", "tf32x3", "tf32", "ieee"]
QKV = Tensor | tuple[Tensor, Tensor, Tensor]


def window_attention(
    qkv: QKV,
    bias: Tensor | None = None,
    *,
    heads: int,
    windows: int | Windows,
    scale: float | None = None,
    logit_scale: Tensor | None = None,
    pad_token: Tensor | None = None,
    precision: Precision = "auto",
    impl: Impl = "auto",
) -> Tensor:
    """Multi-head self-attention inside windows of an unrolled map, relative-position bias and shift mask included.

    The exact formula is `reference.py`; where windows, their shift, their keys and the outside lie is `Windows`.

    Args:
        qkv: queries, keys and values. Packed (B,H,W,3C), the output of a Linear on the map as it lies: channels are
            [q | k | v], each [head 0 | head 1 | ...]. Or a tuple q (B,H,W,heads,d), k and v (B,Hk,Wk,heads,d) of any
            strides, where Hk, Wk differ from H, W only as `Windows.key_step` says. float16, bfloat16, float32 or
            float64; any value range. C = heads * d.
        bias: None, a compact table (R, heads) with R = `Windows.table_rows`, read with Swin's index rule
            (`Windows.relative_index`), or a dense bias (heads, Nq, Nk). May be float32 beside a half-precision qkv.
        heads: number of heads.
        windows: the window cut; an int is `Windows(size)`, unshifted.
        scale: factor on the dot products; default d ** -0.5. Not together with `logit_scale`.
        logit_scale: (heads,) or (heads, 1, 1): cosine attention with this factor, used as given (Swin V2 clamps and
            exponentiates its parameter first).
        pad_token: (3C,), what lies outside the map when `Windows.outside` is "token": usually the projection's bias.
        precision: how a Triton kernel multiplies float32: "tf32x3" (float32-grade, what "auto" means), "tf32" or
            "ieee". Without effect on half precision, float64 and the PyTorch implementations.
        impl: "auto", "triton", "torch" or "reference"; see `sr_kernels.dispatch`.

    Returns:
        (B,H,W,C) in the dtype of qkv, contiguous.

    Differentiable once in qkv, bias, logit_scale and pad_token; the reference any number of times. Gradients are the
    same on every run. A packed qkv gets one gradient (B,H,W,3C).

    Bytes moved by a fused kernel, T = B*H*W pixels: forward reads 3TC and writes TC elements; backward reads 4TC and
    writes 3TC.

    Raises:
        ValueError: shapes that do not fit together, or a map that is no whole number of windows with outside="error".
        TypeError: wrong types or dtypes.
        sr_kernels.dispatch.ImplUnavailableError: the implementation asked for cannot run here.

    Source: Liu et al., Swin Transformer (arXiv 2103.14030), sections 3.2 and eq. 4; cosine form arXiv 2111.09883 eq. 2.
    """
    windows = Windows(windows) if isinstance(windows, int) else windows
    maps = _check_qkv(qkv, heads, windows)
    head_dim = maps[0].shape[3] // (3 * heads) if len(maps) == 1 else maps[0].shape[4]
    _check_rest(bias, logit_scale, pad_token, scale, precision, heads, head_dim, windows)
    check.expect_same_device(OP, qkv=maps[0], bias=bias, logit_scale=logit_scale, pad_token=pad_token)
    factor = head_dim**-0.5 if scale is None else float(scale)
    chosen = dispatch.resolve(OP, impl, maps[0].device, _triton_obstacle(maps[0], head_dim))
    if dispatch.exporting() or chosen == "reference":
        q, k, v = maps if len(maps) == 3 else maps[0].unflatten(3, (3, heads, -1)).unbind(3)
        compute = export.window_attention if dispatch.exporting() else reference.window_attention
        return compute(q, k, v, bias, logit_scale, pad_token, windows, factor)
    inputs = (maps, bias, logit_scale, pad_token)
    settings = (heads, factor, *windows.encode(), windows.penalty, precision, chosen)
    learns = any(t is not None and t.requires_grad for t in (*maps, *inputs[1:]))
    return op.window_attention(*inputs, *settings, save=learns and torch.is_grad_enabled())[0]


def _triton_obstacle(x: Tensor, head_dim: int) -> str | None:
    """What keeps the Triton kernels from these tensors, if anything."""
    if x.dtype == torch.float64:
        return "its kernels compute in float32, these tensors are float64"
    if head_dim > MAX_HEAD_DIM:
        return f"its kernels hold at most {MAX_HEAD_DIM} channels a head, these have {head_dim}"
    if x.dtype == torch.bfloat16 and x.device.type == "cpu":
        return "its interpreter multiplies bfloat16 wrongly"
    return None


def _check_qkv(qkv: QKV, heads: int, windows: Windows) -> list[Tensor]:
    if not isinstance(windows, Windows):
        check.fail(OP, f"windows must be an int or a Windows, got {type(windows).__name__}", TypeError)
    if heads < 1:
        check.fail(OP, f"heads must be at least 1, got {heads}")
    if isinstance(qkv, Tensor):
        maps = [check.expect_tensor(OP, "qkv", qkv, "B H W 3C")]
        if qkv.shape[3] % (3 * heads) or not qkv.shape[3]:
            check.fail(OP, f"the last axis of qkv must be 3 * heads * head_dim with heads={heads}, got {qkv.shape[3]}")
        if windows.key_step != windows.size:
            check.fail(OP, "a key map of its own resolution (key_step) needs qkv as a tuple (q, k, v)")
    elif isinstance(qkv, tuple | list) and len(qkv) == 3:
        q, k, v = (check.expect_tensor(OP, n, t, "B H W heads d") for n, t in zip("qkv", qkv, strict=True))
        _check_maps(q, k, v, heads, windows)
        maps = [q, k, v]
    else:
        check.fail(OP, f"qkv must be a packed tensor or a tuple (q, k, v), got {type(qkv).__name__}", TypeError)
    H, W = maps[0].shape[1:3]
    if not torch.compiler.is_compiling() and min(H, W) < 1:
        check.fail(OP, f"a map of qkv must not be empty, got shape {tuple(maps[0].shape)}")
    if windows.outside == "error" and any(axis.reaches_outside for axis in windows.axes(H, W)):
        check.fail(
            OP,
            f"windows {windows.size} on a map of {H}x{W} reach outside it: "
            "pad the map or set Windows.outside to 'zero' or 'token'",
        )
    return maps


def _check_maps(q: Tensor, k: Tensor, v: Tensor, heads: int, windows: Windows) -> None:
    if k.shape != v.shape or k.dtype != q.dtype or v.dtype != q.dtype:
        check.fail(
            OP, f"q, k, v must have one dtype and k, v one shape, got {[(t.dtype, tuple(t.shape)) for t in (q, k, v)]}"
        )
    check.expect_same_device(OP, q=q, k=k, v=v)
    if q.shape[3] != heads:
        check.fail(OP, f"axis 3 of q must be heads={heads}, got {q.shape[3]}")
    for axis, size, step in zip((1, 2), windows.size, windows.key_step, strict=True):
        if k.shape[axis] * size != q.shape[axis] * step:
            check.fail(
                OP,
                f"k and v must measure q's size times key_step / size ({step}/{size}) on axis {axis}, "
                f"got {k.shape[axis]} for {q.shape[axis]}",
            )
    if (k.shape[0], k.shape[3], k.shape[4]) != (q.shape[0], q.shape[3], q.shape[4]):
        check.fail(OP, f"q and k must agree in B, heads and d, got {tuple(q.shape)} and {tuple(k.shape)}")


def _check_rest(
    bias: Tensor | None,
    logit_scale: Tensor | None,
    pad_token: Tensor | None,
    scale: float | None,
    precision: str,
    heads: int,
    head_dim: int,
    windows: Windows,
) -> None:
    if bias is not None:
        if not isinstance(bias, Tensor) or bias.dim() not in (2, 3):
            check.fail(OP, "bias must be a table [R, heads] or dense [heads, Nq, Nk]", TypeError)
        wanted = (windows.table_rows, heads) if bias.dim() == 2 else (heads, *windows.tokens)
        if tuple(bias.shape) != wanted:
            kind = "table [R, heads]" if bias.dim() == 2 else "dense bias [heads, Nq, Nk]"
            check.fail(OP, f"bias as a {kind} must be {wanted} for these windows, got {tuple(bias.shape)}")
    if logit_scale is not None:
        if scale is not None:
            check.fail(OP, "give scale or logit_scale, not both")
        if logit_scale.numel() != heads:
            check.fail(OP, f"logit_scale must hold one number per head ({heads}), got shape {tuple(logit_scale.shape)}")
    if (pad_token is not None) != (windows.outside == "token"):
        check.fail(OP, f"pad_token goes with Windows(outside='token') and only with it, outside is '{windows.outside}'")
    if pad_token is not None and tuple(pad_token.shape) != (3 * heads * head_dim,):
        check.fail(OP, f"pad_token must be [3C] = ({3 * heads * head_dim},), got {tuple(pad_token.shape)}")
    if precision not in get_args(Precision):
        check.fail(OP, f"precision must be one of {', '.join(get_args(Precision))}, got {precision!r}")

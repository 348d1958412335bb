"""The Triton kernels of channel_attention against the float64 specification: on a GPU, or in Triton's interpreter.

The interpreter is chosen before triton is imported: one test runs this file in a process with TRITON_INTERPRET=1.
"""

import os
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from sr_kernels import functional as K
from sr_kernels.channel_attention.layout import joined, unpack

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
DEVICE = "cpu" if INTERPRETED or not torch.cuda.is_available() else "cuda"
runs_kernels = pytest.mark.skipif(
    not INTERPRETED and DEVICE == "cpu", reason="needs a CUDA device, or TRITON_INTERPRET=1 with triton installed"
)
# The interpreter multiplies the bit patterns of bfloat16.
DTYPES = [torch.float32, torch.float16, pytest.param(torch.bfloat16, marks=pytest.mark.gpu)]

# layout, batch, heads, head dim, height, width
CASES = {
    "DAT": ("nhwc", 1, 3, 30, 9, 8),
    "Restormer": ("nchw", 1, 1, 48, 7, 9),
    "smallest heads": ("nhwc", 2, 2, 8, 5, 3),
    "odd heads": ("nchw", 1, 2, 53, 3, 5),
    "heads of 10": ("nhwc", 1, 6, 10, 4, 4),
    "widest heads": ("nhwc", 1, 1, 128, 6, 7),
    "wide heads": ("nchw", 1, 1, 77, 5, 4),
    "one pixel": ("nhwc", 1, 1, 16, 1, 1),
    "one row": ("nchw", 1, 1, 16, 1, 37),
    "several spans": ("nhwc", 1, 1, 12, 31, 13),
}


def inputs(case: tuple[str, int, int, int, int, int], dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    layout, B, heads, d, H, W = case
    generator = torch.Generator().manual_seed(0)
    size = (B, H, W, 3 * heads * d) if layout == "nhwc" else (B, 3 * heads * d, H, W)
    qkv = torch.randn(size, generator=generator).to(DEVICE, dtype)
    temperature = (torch.rand(heads, 1, 1, generator=generator) * 8 - 2).to(DEVICE)
    return qkv.requires_grad_(), temperature.requires_grad_()


def eager(maps: list[Tensor], temperature: Tensor, heads: int, layout: str) -> Tensor:
    """As the public networks compute, in the type of the maps."""
    q, k, v = (x.flatten(3) for x in unpack(maps, heads, layout))
    q, k = F.normalize(q, dim=-1), F.normalize(k, dim=-1)
    attention = ((q @ k.transpose(-2, -1)) * temperature.to(q.dtype).view(-1, 1, 1)).softmax(-1)
    shape = unpack(maps, heads, layout)[0].shape
    return joined((attention @ v).view(shape), layout)


def with_gradients(out: Tensor, of: list[Tensor]) -> tuple[Tensor, ...]:
    # Numbers that every type holds.
    pull = torch.randn(out.shape, generator=torch.Generator().manual_seed(1)).bfloat16()
    return out, *torch.autograd.grad(out, of, pull.to(out))


def check(
    maps: list[Tensor], temperature: Tensor, heads: int, layout: str, finish: Callable[..., tuple[Tensor, ...]]
) -> None:
    """Output and every gradient: no further from float64 than twice what the public form is."""
    packed = maps[0] if len(maps) == 1 else tuple(maps)
    given = [*maps, temperature]
    ours = K.channel_attention(packed, heads=heads, temperature=temperature, layout=layout, impl="triton")  # type: ignore
    assert ours.dtype == maps[0].dtype
    actual = finish(ours, given)
    public = finish(eager(maps, temperature, heads, layout), given)
    doubles = [x.detach().double().requires_grad_() for x in given]
    exact = finish(eager(doubles[:-1], doubles[-1], heads, layout), doubles)
    names = ("out", *(f"map {i}" for i in range(len(maps))), "temperature")
    for name, got, other, want in zip(names, actual, public, exact, strict=True):
        assert got.shape == want.shape
        # Rounding of the result, and a few of float32 on the way; a gradient of temperature adds up larger terms.
        size = want.abs().max().item()
        floor = torch.finfo(got.dtype).eps / 2 * size + 1e-6 * max(size, float(name == "temperature"))
        error, allowed = (got - want).abs().max().item(), 2 * (other - want).abs().max().item() + floor
        assert error <= allowed, f"{name}: {error:.2e}, allowed {allowed:.2e}"


@runs_kernels
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("case", CASES)
def test_output_and_gradients(case, dtype, poisoned):
    layout, _, heads, *_ = CASES[case]
    qkv, temperature = inputs(CASES[case], dtype)
    check([qkv], temperature, heads, layout, with_gradients)


@runs_kernels
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("layout", ["nhwc", "nchw"])
def test_spans_of_several_tiles(layout, dtype, poisoned, monkeypatch):
    from sr_kernels.channel_attention import tiling

    monkeypatch.setattr(tiling, "PROGRAMS", 2)
    qkv, temperature = inputs((layout, 1, 1, 14, 23, 17), dtype)
    check([qkv], temperature, 1, layout, with_gradients)


@runs_kernels
@pytest.mark.parametrize("layout", ["nhwc", "nchw"])
@pytest.mark.parametrize("form", ["crop", "tuple", "tuple of strides", "channels last", "expanded gradient"])
def test_strides_are_read(form, layout, poisoned):
    heads, d = 2, 10
    qkv, temperature = inputs((layout, 2, heads, d, 6, 7), torch.float32)
    axis, maps, finish = 3 if layout == "nhwc" else 1, [qkv], with_gradients
    if form == "crop":
        maps = [qkv[:, 1:, 2:6] if layout == "nhwc" else qkv[:, :, 1:, 2:6]]
        assert not maps[0].is_contiguous()
    elif form == "channels last":
        maps = [qkv.detach().to(memory_format=torch.channels_last).requires_grad_()]
    elif form.startswith("tuple"):
        maps = [m.detach() for m in qkv.unflatten(axis, (3, heads, d)).unbind(axis)]
        if form == "tuple of strides":
            q, k, v = maps
            maps = [q.transpose(1, 4).contiguous().transpose(1, 4), k[:, :, :, :].clone(), v.flip(2)]
        maps = [m.requires_grad_() for m in maps]
    else:

        def finish(out: Tensor, of: list[Tensor]) -> tuple[Tensor, ...]:
            return out, *torch.autograd.grad(out.float().sum(), of)

    check(maps, temperature, heads, layout, finish)


@runs_kernels
@pytest.mark.parametrize("factor", [30, 1e4])
def test_channels_without_length_and_large_temperature(factor, poisoned):
    qkv, temperature = inputs(("nhwc", 1, 2, 8, 5, 5), torch.float32)
    with torch.no_grad():
        qkv[..., 0] = 0
        qkv[..., 17] *= 1e-14  # a key shorter than the 1e-12 that a norm is at least: scaled, not normalised
        temperature.copy_(torch.tensor([factor, -factor]).view(2, 1, 1))
    out, d_qkv, d_temperature = with_gradients(
        K.channel_attention(qkv, heads=2, temperature=temperature, impl="triton"), [qkv, temperature]
    )
    doubles = [x.detach().double().requires_grad_() for x in (qkv, temperature)]
    exact = with_gradients(K.channel_attention(doubles[0], heads=2, temperature=doubles[1], impl="torch"), doubles)
    for got, want in zip((out, d_qkv, d_temperature), exact, strict=True):
        assert got.isfinite().all()
        tolerance = factor * 2e-7
        torch.testing.assert_close(
            got.double(), want.double(), rtol=tolerance, atol=tolerance * want.abs().max().item() + 1e-30
        )


@runs_kernels
def test_temperature_may_be_flat_strided_and_half():
    qkv, temperature = inputs(("nhwc", 1, 2, 8, 4, 4), torch.float32)
    expected = K.channel_attention(qkv, heads=2, temperature=temperature.half(), impl="triton")
    strided = torch.stack((temperature.flatten(), temperature.flatten()), 1).half()[:, 0]
    assert torch.equal(K.channel_attention(qkv, heads=2, temperature=strided, impl="triton"), expected)


@runs_kernels
def test_repeats_give_the_same_bits():
    qkv, temperature = inputs(("nhwc", 2, 2, 8, 24, 11), torch.float32)
    results = [
        with_gradients(K.channel_attention(qkv, heads=2, temperature=temperature, impl="triton"), [qkv, temperature])
        for _ in range(2)
    ]
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))


@pytest.mark.gpu
@pytest.mark.parametrize("layout", ["nhwc", "nchw"])
@pytest.mark.parametrize("precision", ["tf32x3", "tf32", "ieee"])
def test_precision_of_float32(precision, layout):
    qkv, temperature = inputs((layout, 2, 4, 48, 64, 64), torch.float32)
    given = {"heads": 4, "temperature": temperature, "layout": layout}
    out = with_gradients(K.channel_attention(qkv, **given, precision=precision, impl="triton"), [qkv, temperature])
    exact = with_gradients(K.channel_attention(qkv.double(), **given, impl="torch"), [qkv, temperature])
    for got, want in zip(out, exact, strict=True):
        scale = want.abs().max().item()
        torch.testing.assert_close(
            got.double(), want.double(), rtol=0, atol=scale * (1e-2 if precision == "tf32" else 2e-5)
        )


@pytest.mark.gpu
@pytest.mark.parametrize("layout", ["nhwc", "nchw"])
def test_offsets_beyond_32_bits(layout):
    """2^31 numbers lie between the first pixel and the last."""
    heads, d, H, W = 2, 32, 3400, 3400
    shape = (1, H, W, 3 * heads * d) if layout == "nhwc" else (1, 3 * heads * d, H, W)
    qkv = torch.zeros(shape, dtype=torch.bfloat16, device=DEVICE)
    assert qkv.numel() > 2**31
    corner = qkv[:, -8:, -8:] if layout == "nhwc" else qkv[:, :, -8:, -8:]
    corner.normal_()
    temperature = torch.ones(heads, device=DEVICE)
    given = {"heads": heads, "temperature": temperature, "layout": layout}
    out = K.channel_attention(qkv, **given, impl="triton")
    end = out[:, -8:, -8:] if layout == "nhwc" else out[:, :, -8:, -8:]
    expected = K.channel_attention(corner.contiguous(), **given, impl="torch")
    torch.testing.assert_close(end, expected, rtol=2e-2, atol=2e-2)

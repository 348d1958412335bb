"""channel_attention: the public networks' own forms, the fast path against the specification, precision, errors."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from sr_kernels import dispatch
from sr_kernels import functional as K

HEADS, HEAD_DIM = 3, 5
C = HEADS * HEAD_DIM
SHAPES = {"odd": (2, 7, 5), "one pixel": (1, 1, 1), "one row": (3, 1, 9), "several chunks": (1, 41, 33)}
LAYOUTS = ["nhwc", "nchw"]


def restormer(qkv: Tensor, temperature: Tensor, heads: int) -> Tensor:
    """Multi-Dconv head transposed attention on the output (B,3C,H,W) of its depthwise convolution."""
    B, _, H, W = qkv.shape
    q, k, v = (x.reshape(B, heads, -1, H * W) for x in qkv.chunk(3, dim=1))
    q, k = F.normalize(q, dim=-1), F.normalize(k, dim=-1)
    attention = ((q @ k.transpose(-2, -1)) * temperature.view(heads, 1, 1)).softmax(dim=-1)
    return (attention @ v).reshape(B, -1, H, W)


def dat(qkv: Tensor, temperature: Tensor, heads: int) -> Tensor:
    """Adaptive channel self-attention on the output of its Linear, here (B,H,W,3C)."""
    B, H, W, channels = qkv.shape
    N, width = H * W, channels // 3
    q, k, v = qkv.reshape(B, N, 3, heads, width // heads).permute(2, 0, 3, 1, 4)
    q, k, v = q.transpose(-2, -1), k.transpose(-2, -1), v.transpose(-2, -1)
    q, k = F.normalize(q, dim=-1), F.normalize(k, dim=-1)
    attention = ((q @ k.transpose(-2, -1)) * temperature.view(heads, 1, 1)).softmax(dim=-1)
    return (attention @ v).permute(0, 3, 1, 2).reshape(B, N, width).view(B, H, W, width)


LITERAL = {"nhwc": dat, "nchw": restormer}


def inputs(shape: tuple[int, int, int], layout: str, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    B, H, W = shape
    size = (B, H, W, 3 * C) if layout == "nhwc" else (B, 3 * C, H, W)
    qkv = torch.randn(size, generator=generator, dtype=torch.float64).to(dtype).requires_grad_()
    temperature = torch.tensor([0.5, -2.0, 20.0], dtype=torch.float64).to(dtype).view(HEADS, 1, 1).requires_grad_()
    return qkv, temperature


def with_gradients(out: Tensor, *of: Tensor) -> tuple[Tensor, ...]:
    # Numbers that every type holds.
    pull = torch.randn(out.shape, generator=torch.Generator().manual_seed(1)).bfloat16()
    return out, *torch.autograd.grad(out, of, pull.to(out))


def run(qkv: Tensor, temperature: Tensor, layout: str, impl: str) -> tuple[Tensor, ...]:
    out = K.channel_attention(qkv, heads=HEADS, temperature=temperature, layout=layout, impl=impl)  # type: ignore
    return with_gradients(out, qkv, temperature)


@pytest.mark.parametrize("impl", ["reference", "torch"])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_restormer_and_dat_are_one_call(layout, shape, impl, poisoned):
    qkv, temperature = inputs(SHAPES[shape], layout)
    expected = with_gradients(LITERAL[layout](qkv, temperature, HEADS), qkv, temperature)
    torch.testing.assert_close(run(qkv, temperature, layout, impl), expected, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_one_head_of_several_pictures(layout, poisoned):
    qkv, temperature = inputs((3, 6, 5), layout)
    temperature = temperature[1:2]
    expected = with_gradients(LITERAL[layout](qkv, temperature, 1), qkv, temperature)
    out = K.channel_attention(qkv, heads=1, temperature=temperature, layout=layout, impl="torch")  # type: ignore
    torch.testing.assert_close(with_gradients(out, qkv, temperature), expected, rtol=1e-9, atol=1e-11)


def test_unit_vectors_need_no_norm():
    """By hand: one head, two channels of one pixel each; cosines are signs."""
    qkv = torch.tensor([2.0, -3.0, 0.5, 4.0, 1.0, 10.0], dtype=torch.float64).view(1, 1, 1, 6)
    out = K.channel_attention(qkv, heads=1, temperature=torch.tensor([0.5]), impl="torch")
    high = torch.sigmoid(torch.tensor(0.0, dtype=torch.float64))  # both keys are positive: equal cosines
    torch.testing.assert_close(out.flatten(), torch.stack((high * 11, high * 11)))
    qkv[..., 2] = -0.5
    weight = torch.sigmoid(torch.tensor(1.0, dtype=torch.float64))  # exp(0.5) / (exp(0.5) + exp(-0.5))
    out = K.channel_attention(qkv, heads=1, temperature=torch.tensor([0.5]), impl="torch")
    expected = torch.stack((weight * 10 + (1 - weight), weight * 1 + (1 - weight) * 10))
    torch.testing.assert_close(out.flatten(), expected)


@pytest.mark.parametrize("impl", ["reference", "torch"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_separate_maps_of_any_strides(layout, impl):
    qkv, temperature = inputs((2, 6, 5), layout)
    axis = 3 if layout == "nhwc" else 1
    maps = tuple(m.detach().clone().transpose(1, 2).contiguous().transpose(1, 2).requires_grad_()
                 for m in qkv.unflatten(axis, (3, HEADS, HEAD_DIM)).unbind(axis))  # fmt: skip
    out = K.channel_attention(maps, heads=HEADS, temperature=temperature, layout=layout, impl=impl)  # type: ignore
    *actual, d_temperature = with_gradients(out, *maps, temperature)
    out, d_qkv, expected = run(qkv, temperature, layout, "reference")
    torch.testing.assert_close(actual[0], out)
    torch.testing.assert_close(actual[1:], list(d_qkv.unflatten(axis, (3, HEADS, HEAD_DIM)).unbind(axis)))
    torch.testing.assert_close(d_temperature, expected)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_crops_and_memory_formats(layout):
    big, temperature = inputs((2, 9, 8), layout)
    crop = big[:, 2:7, 1:6] if layout == "nhwc" else big[:, :, 2:7, 1:6].to(memory_format=torch.channels_last)
    out = K.channel_attention(crop, heads=HEADS, temperature=temperature, layout=layout, impl="torch")
    expected = LITERAL[layout](crop, temperature, HEADS)
    torch.testing.assert_close(out, expected)
    assert out.is_contiguous() or out.is_contiguous(memory_format=torch.channels_last)
    assert out.is_contiguous(memory_format=torch.channels_last) == (layout == "nchw")
    torch.testing.assert_close(with_gradients(out, big), with_gradients(expected, big))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_error_is_at_most_that_of_the_public_form(layout, dtype):
    qkv, temperature = inputs((2, 12, 11), layout, dtype)
    temperature = temperature.detach().float().requires_grad_()
    exact_inputs = [x.detach().double().requires_grad_() for x in (qkv, temperature)]
    exact = with_gradients(LITERAL[layout](exact_inputs[0], exact_inputs[1], HEADS), *exact_inputs)
    public = LITERAL[layout](qkv, temperature.to(dtype), HEADS)
    public = with_gradients(public, qkv, temperature)
    for name, got, other, want in zip(
        ("out", "qkv", "temperature"), run(qkv, temperature, layout, "torch"), public, exact, strict=True
    ):
        size = want.abs().max().item()
        floor = torch.finfo(got.dtype).eps / 2 * size + 1e-6 * max(size, float(name == "temperature"))
        error, allowed = (got - want).abs().max(), 2 * (other - want).abs().max() + floor
        assert error <= allowed, f"{name}: {error:.2e}, allowed {allowed:.2e}"


@pytest.mark.parametrize("impl", ["reference", "torch"])
def test_channels_without_length_give_no_nan(impl):
    qkv, temperature = inputs((1, 4, 4), "nhwc")
    with torch.no_grad():
        qkv[..., 0] = 0
        qkv[..., C + 1] *= 1e-14  # shorter than the 1e-12 that a norm is at least: scaled, not normalised
    out, d_qkv, d_temperature = run(qkv, temperature, "nhwc", impl)
    expected = with_gradients(dat(qkv, temperature, HEADS), qkv, temperature)
    assert all(x.isfinite().all() for x in (out, d_qkv, d_temperature))
    torch.testing.assert_close((out, d_qkv, d_temperature), expected, rtol=1e-9, atol=1e-11)


def test_reference_has_second_derivatives():
    qkv, temperature = inputs((1, 2, 3), "nhwc")

    def function(x: Tensor, t: Tensor) -> Tensor:
        return K.channel_attention(x, heads=HEADS, temperature=t, impl="reference")

    assert torch.autograd.gradgradcheck(function, (qkv, temperature))


def test_repeats_give_the_same_bits():
    qkv, temperature = inputs((2, 30, 40), "nhwc", torch.float32)
    first, second = (run(qkv, temperature, "nhwc", "torch") for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def test_autocast_leaves_the_callers_dtype():
    qkv, temperature = inputs((1, 6, 6), "nhwc", torch.float32)
    plain = run(qkv, temperature, "nhwc", "torch")
    with torch.autocast("cpu", dtype=torch.bfloat16):
        cast = run(qkv, temperature, "nhwc", "torch")
    assert all(torch.equal(a, b) for a, b in zip(plain, cast, strict=True))


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"layout": "hwc"}, ValueError, "layout must be one of nhwc, nchw, got 'hwc'"),
        ({"heads": 0}, ValueError, "heads must be at least 1, got 0"),
        ({"heads": 4}, ValueError, "must be 3 \\* heads \\* head_dim with heads=4, got shape .*; layout is 'nhwc'"),
        ({"layout": "nchw"}, ValueError, "qkv \\[B 3C H W\\] must be 3 \\* heads .* layout is 'nchw'"),
        ({"qkv": torch.zeros(4, 45)}, ValueError, "qkv must have 4 dimensions \\[B H W 3C\\]"),
        ({"qkv": torch.zeros(1, 4, 4, 45, dtype=torch.int32)}, TypeError, "qkv must be one of float16"),
        ({"qkv": torch.zeros(1, 0, 4, 45)}, ValueError, "qkv must not be empty"),
        ({"qkv": "map"}, TypeError, "packed tensor or a tuple \\(q, k, v\\), got str"),
        ({"qkv": (torch.zeros(1, 4, 4, 3, 5), torch.zeros(1, 4, 4, 3, 6), torch.zeros(1, 4, 4, 3, 5))}, ValueError,
         "one dtype and one shape \\[B H W heads d\\]"),
        ({"qkv": (torch.zeros(1, 4, 4, 5, 3),) * 3}, ValueError, "must have heads=3, got shape"),
        ({"temperature": 1.0}, TypeError, "temperature must be a float tensor .* got float"),
        ({"temperature": torch.ones(3, dtype=torch.int64)}, TypeError, "got torch.int64"),
        ({"temperature": torch.ones(1)}, ValueError, "must be \\(3,\\) or \\(3, 1, 1\\), got shape \\(1,\\)"),
        ({"precision": "fp32"}, ValueError, "precision must be one of auto, tf32x3, tf32, ieee, got 'fp32'"),
        ({"impl": "cuda"}, ValueError, "impl must be one of"),
    ],
)  # fmt: skip
def test_errors_name_the_value_and_the_remedy(changes, error, message):
    given = {"qkv": torch.zeros(1, 7, 4, 45), "heads": HEADS, "temperature": torch.ones(HEADS)} | changes
    with pytest.raises(error, match=f"channel_attention: .*{message}"):
        K.channel_attention(given.pop("qkv"), **given)


def test_triton_by_name_refuses_what_it_does_not_compute(monkeypatch):
    monkeypatch.setattr(dispatch, "resolve", lambda *_: "triton")
    with pytest.raises(dispatch.ImplUnavailableError, match="computes no float64; use impl='torch'"):
        K.channel_attention(torch.zeros(1, 2, 2, 6).double(), heads=1, temperature=torch.ones(1), impl="triton")
    with pytest.raises(dispatch.ImplUnavailableError, match="head_dim is 130, it serves up to 128; use impl='torch'"):
        K.channel_attention(torch.zeros(1, 2, 2, 390), heads=1, temperature=torch.ones(1), impl="triton")
    out = K.channel_attention(torch.zeros(1, 2, 2, 6).double(), heads=1, temperature=torch.ones(1))
    assert out.shape == (1, 2, 2, 2)

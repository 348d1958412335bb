"""The Triton kernels of magic_resample against the float64 specification: on a GPU, or in Triton's interpreter.

The interpreter is chosen before triton is imported: test_interpreter.py runs this file with TRITON_INTERPRET=1.
"""

import os
from itertools import product
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.library import opcheck

from sr_kernels import functional as K
from sr_kernels.dispatch import ImplUnavailableError
from sr_kernels.magic_resample import op
from sr_kernels.magic_resample.filters import FILTERS
from sr_kernels.magic_resample.reference import resample

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
DEVICE = "cpu" if INTERPRETED or not torch.cuda.is_available() else "cuda"
runs_kernels = pytest.mark.skipif(
    not INTERPRETED and DEVICE == "cpu", reason="needs a CUDA device, or TRITON_INTERPRET=1 with triton installed"
)
HALF = (torch.float16, torch.bfloat16)
UPSCALES, OTHERS = (2, 3, 4, (2, 3)), (1, 1.5, 1 / 2, 1 / 3.3, (1, 2), (2, 1.5), (3, 0.5), 9)


def picture(*shape: int, dtype: torch.dtype = torch.float32, last: bool = False) -> Tensor:
    numbers = torch.rand(shape, generator=torch.Generator().manual_seed(0)) * 255
    layout = torch.channels_last if last else torch.contiguous_format
    return numbers.to(DEVICE, dtype).contiguous(memory_format=layout)


def with_gradient(x: Tensor, impl: Any, **arguments: Any) -> tuple[Tensor, Tensor]:
    x = x.detach().requires_grad_()
    out = K.magic_resample(x, impl=impl, **arguments)
    # Numbers that every type holds, in the memory format of the output.
    pull = torch.empty_like(out).copy_(torch.randn(out.shape, generator=torch.Generator().manual_seed(1)).bfloat16())
    return out.detach(), torch.autograd.grad(out, x, pull)[0]


def check(x: Tensor, **arguments: Any) -> None:
    """Output and gradient: no further from float64 than twice what the torch path is, in type and memory format."""
    ours, torchs = with_gradient(x, "triton", **arguments), with_gradient(x, "torch", **arguments)
    exact = with_gradient(x.double(), "reference", **arguments)
    for name, got, other, want in zip(("out", "gradient"), ours, torchs, exact, strict=True):
        assert (got.dtype, got.shape, got.stride()) == (other.dtype, other.shape, other.stride()), name
        # Where torch happens to be exact: an ulp of the largest number, and a few of float32 on the way.
        size = want.abs().max().item()
        floor = (torch.finfo(got.dtype).eps * (got.dtype in HALF) + 1e-6) * size
        error, allowed = (got - want).abs().max().item(), 2 * (other - want).abs().max().item() + floor
        assert error <= allowed, f"{name}: {error:.2e}, allowed {allowed:.2e}"


@runs_kernels
@pytest.mark.parametrize("scale", OTHERS + UPSCALES)
@pytest.mark.parametrize("kernel", FILTERS)
def test_every_filter_and_ratio(kernel, scale, poisoned):
    if INTERPRETED and kernel == "mks_v7" and scale in UPSCALES:
        out = K.magic_resample(x := picture(1, 1, 3, 5), scale=scale, kernel=kernel, impl="triton")
        expected = resample(x.double(), (out.shape[2], out.shape[3]), kernel)
        torch.testing.assert_close(out.double(), expected, rtol=0, atol=1e-4)
    else:
        check(picture(1, 1, 3, 5), scale=scale, kernel=kernel)


@runs_kernels
@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("channels", [1, 3, 4, pytest.param(45, marks=pytest.mark.gpu), 64])
@pytest.mark.parametrize("scale", [2, 3, 0.6])
def test_channels_and_layouts(scale, channels, last, poisoned):
    if INTERPRETED and channels == 64 and not last:
        pytest.skip("planes are alike")
    check(picture(2 if channels == 1 else 1, channels, 3, 2, last=last), scale=scale, kernel="mks2013")


@runs_kernels
@pytest.mark.parametrize("size", [(1, 1), (1, 7), (11, 1), (2, 2)])
@pytest.mark.parametrize("scale", [2, 1.5, 0.3])
def test_pictures_smaller_than_the_filter(scale, size, poisoned):
    check(picture(1, 1, *size), scale=scale)


@runs_kernels
@pytest.mark.parametrize("dtype", HALF)
@pytest.mark.parametrize(("scale", "last"), [(2, False), (4, False), (2, True), (0.5, False)])
def test_half_precision(scale, last, dtype, poisoned):
    check(picture(1, 3 if last else 1, 4, 5, dtype=dtype, last=last), scale=scale, kernel="mks2013")


@runs_kernels
@pytest.mark.parametrize(("scale", "channels", "last"), [(2, 1, False), (4, 1, False), (2, 3, True), (2, 16, True)])
def test_programs_inside_the_picture(scale, channels, last, poisoned):
    """Runs of rows and strips of columns that meet, some of which touch no edge."""
    width = {1: 32 * 4 * 2 + 32, 3: 100, 16: 40}[channels]
    check(picture(1, channels, 25, width, last=last), scale=scale, kernel="magic")


@runs_kernels
def test_sharpening_inside_the_picture(poisoned):
    check(picture(1, 1, 33, 32 * 4 * 2 + 32), scale=2, kernel="mks2013")


@runs_kernels
@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("scale", [2, 3, 0.7])
def test_uint8_is_rounded_and_clipped(scale, last):
    x = torch.where(picture(1, 3, 9, 10, last=last) > 128, 255, 0).to(torch.uint8)
    out = K.magic_resample(x, scale=scale, kernel="mks2013", impl="triton")
    exact = K.magic_resample(x.double(), scale=scale, kernel="mks2013", impl="reference")
    assert out.dtype == torch.uint8
    assert exact.min() < -1
    assert exact.max() > 256
    assert ((out - exact.clamp(0, 255)).abs() <= 0.5 + 1e-4).all()


@runs_kernels
def test_uint8_rounds_half_to_even():
    x = torch.tensor([[0, 1], [2, 5]], dtype=torch.uint8, device=DEVICE).view(1, 1, 2, 2)
    out = K.magic_resample(x.repeat(1, 1, 1, 9), size=(2, 6), kernel="magic", impl="triton")
    assert torch.equal(out, K.magic_resample(x.repeat(1, 1, 1, 9), size=(2, 6), kernel="magic", impl="torch"))


@runs_kernels
@pytest.mark.parametrize("scale", [2, 1.5])
@pytest.mark.parametrize("view", ["crop", "crop of channels last", "transposed", "flat channels", "unaligned"])
def test_strides_are_read(view, scale, poisoned):
    whole = picture(1, 3, 8, 9)
    x = {
        "crop": whole[..., 1:6, 2:7],
        "crop of channels last": picture(1, 3, 8, 9, last=True)[..., 1:6, 2:7],
        "transposed": whole[..., :4].transpose(2, 3),
        "flat channels": whole[:, :1, :4, :5].expand(1, 3, 4, 5),
        "unaligned": whole.flatten()[1:61].view(1, 3, 4, 5),
    }[view]
    expected = K.magic_resample(x.contiguous(), scale=scale, kernel="magic", impl="triton")
    assert torch.equal(K.magic_resample(x, scale=scale, kernel="magic", impl="triton"), expected)
    assert expected.is_contiguous()


@runs_kernels
@pytest.mark.parametrize("form", ["expanded", "channels last", "crop"])
@pytest.mark.parametrize("scale", [2, 1.5])
def test_strides_of_the_gradient_are_read(scale, form, poisoned):
    x = picture(1, 3, 4, 4).requires_grad_()
    out = K.magic_resample(x, scale=scale, kernel="magic", impl="triton")
    pull = {
        "expanded": out.new_ones(()).expand_as(out),
        "channels last": torch.ones_like(out).contiguous(memory_format=torch.channels_last),
        "crop": out.new_ones(1, 3, 10, 10)[..., : out.shape[2], 1 : 1 + out.shape[3]],
    }[form]
    pull = pull if form == "expanded" else pull.copy_(torch.rand(out.shape))
    got, expected = (torch.autograd.grad(out, x, p, retain_graph=True)[0] for p in (pull, pull.contiguous()))
    torch.testing.assert_close(got, expected, rtol=1e-6, atol=1e-6)


@runs_kernels
@pytest.mark.parametrize("channels", [1, 3, 16])
@pytest.mark.parametrize("scale", [2, 3, 1.5])
def test_the_learned_part_is_added_and_pulled_back(scale, channels):
    """`bend`, resampled with the magic kernel in the same pass, and the gradient of it."""
    from sr_kernels.launch import run
    from sr_kernels.magic_resample import banded, fused
    from sr_kernels.magic_resample.bands import Map
    from sr_kernels.magic_resample.reference import memory_format

    before = (5, 2 if channels > 1 else 5)
    x = picture(1, channels, *before, last=channels > 1)
    layout = memory_format(x)
    bend = x.flip(2, 3).contiguous(memory_format=layout)
    size = (round(before[0] * scale), round(before[1] * scale))
    out = torch.full((1, channels, *size), torch.nan, device=DEVICE).contiguous(memory_format=layout)
    if scale == 1.5:
        terms = [banded.Term(x, Map("mks2013", before, size)), banded.Term(bend, Map("magic", before, size))]
        run(banded.resample(terms, out, layout), out.device)
    else:
        fused.upscaled(x, bend, out, "mks2013", layout).run()
    exact = resample(x.double(), size, "mks2013") + resample(bend.double(), size, "magic")
    torch.testing.assert_close(out.double(), exact, rtol=0, atol=1e-4)
    if scale != 1.5:
        dx, dbend = torch.full_like(x, torch.nan), torch.full_like(x, torch.nan)
        fused.transposed(out, dx, dbend, "mks2013", layout).run()
        for got, kernel in ((dx, "mks2013"), (dbend, "magic")):
            leaf = torch.zeros_like(x, dtype=torch.float64, requires_grad=True)
            want = torch.autograd.grad(resample(leaf, size, kernel), leaf, out.double())[0]
            torch.testing.assert_close(got.double(), want, rtol=1e-5, atol=1e-5 * want.abs().max().item())


@runs_kernels
@pytest.mark.parametrize("scale", [2, 0.7])
def test_double_backward(scale):
    """The gradient of the gradient: both implementations agree."""
    found = []
    for impl in ("triton", "torch"):
        x = picture(1, 1, 4, 5).requires_grad_()
        out = K.magic_resample(x / 255, scale=scale, kernel="magic", impl=impl)
        first = torch.autograd.grad(out.square().sum(), x, create_graph=True)[0]
        found.append(torch.autograd.grad(first.square().sum(), x)[0])
    torch.testing.assert_close(*found, rtol=1e-5, atol=1e-9)


@runs_kernels
def test_opcheck():
    x = picture(1, 1, 2, 3).requires_grad_()
    opcheck(op.magic_resample, (x, None, None, [3, 4], "magic", "triton"))
    opcheck(op.magic_resample_backward, (picture(1, 1, 3, 4), x, None, None, "magic", "triton"))


@runs_kernels
def test_repeats_give_the_same_bits():
    for scale in (2, 0.7):
        first, second = (with_gradient(picture(1, 3, 7, 6), "triton", scale=scale, kernel="magic") for _ in range(2))
        assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


@runs_kernels
def test_float64_is_left_to_torch():
    x = picture(1, 1, 4, 4, dtype=torch.float64)
    with pytest.raises(ImplUnavailableError, match="float64 is computed by torch; use impl='auto' or 'torch'"):
        K.magic_resample(x, scale=2, impl="triton")
    assert torch.equal(K.magic_resample(x, scale=2), K.magic_resample(x, scale=2, impl="torch"))


@pytest.mark.gpu
@pytest.mark.parametrize(("shape", "last"), list(product([(1, 3, 270, 480), (2, 64, 67, 93)], [False, True])))
@pytest.mark.parametrize("scale", [2, 3, 4, 1.5, 0.5])
@pytest.mark.parametrize("dtype", [torch.float32, *HALF])
def test_larger_pictures(shape, last, scale, dtype, poisoned):
    check(picture(*shape, dtype=dtype, last=last), scale=scale)


@pytest.mark.gpu
@pytest.mark.parametrize("scale", [2, 1.001])
@pytest.mark.parametrize("last", [False, True])
def test_offsets_beyond_32_bits(scale, last):
    """More than 2^31 numbers lie before the last of the output: rows are found with 64 bits."""
    side = int((2**31 / 8) ** 0.5 / scale) + 8
    layout = torch.channels_last if last else torch.contiguous_format
    x = torch.zeros(1, 8, side, side, dtype=torch.uint8, device=DEVICE).contiguous(memory_format=layout)
    x[..., -40:, -40:].random_()
    out = K.magic_resample(x, scale=scale, impl="triton")
    assert out.numel() > 2**31
    corner = K.magic_resample(x[..., -40:, -40:].contiguous(), scale=2, impl="torch")
    if scale == 2:
        assert (out[..., -40:, -40:].int() - corner[..., -40:, -40:].int()).abs().max() <= 1
    assert out[..., -40:, -40:].any()

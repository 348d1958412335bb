"""The Triton kernels of magic_resample's learned part against float64: on a GPU, or in Triton's interpreter.

The interpreter is chosen before triton is imported: `test_interpreter.py` runs this file with TRITON_INTERPRET=1.
"""

import os

import pytest
import torch
from torch import Tensor

from sr_kernels import functional as K
from sr_kernels.launch import Steps, run
from sr_kernels.magic_resample import steering
from sr_kernels.magic_resample.filters import FILTERS
from sr_kernels.magic_resample.reference import sharpened

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
DEVICE = "cpu" if INTERPRETED or not torch.cuda.is_available() else "cuda"
pytestmark = [
    pytest.mark.usefixtures("poisoned"),
    pytest.mark.skipif(
        not INTERPRETED and DEVICE == "cpu", reason="needs a CUDA device, or TRITON_INTERPRET=1 with triton installed"
    ),
]
LAST, PLANES = torch.channels_last, torch.contiguous_format

# form ("mks2021": its lags; (3, 5): three 5 x 5 stencils), picture [B C H W], gains [B G H W], type, memory format
CASES = {
    "stencils": ((3, 5), (1, 3, 7, 9), (1, 3, 7, 9), torch.float32, PLANES),
    "stencils shared by all pixels": ((3, 5), (2, 2, 4, 9), (2, 3, 1, 1), torch.float32, PLANES),
    "stencils shared by all": ((3, 3), (2, 2, 5, 34), (1, 3, 1, 1), torch.float32, PLANES),
    "stencils shared by pictures": ((2, 3), (2, 1, 5, 4), (1, 2, 5, 4), torch.float32, PLANES),
    "stencils shared by rows": ((2, 3), (2, 2, 5, 4), (2, 2, 1, 4), torch.float32, PLANES),
    "stencils shared by columns": ((2, 3), (2, 2, 5, 4), (1, 2, 5, 1), torch.float32, PLANES),
    "stencils on one pixel": ((2, 5), (1, 2, 1, 1), (1, 2, 1, 1), torch.float32, PLANES),
    "stencils on one row": ((1, 5), (1, 1, 1, 37), (1, 1, 1, 37), torch.float32, PLANES),
    "stencils on one column": ((2, 3), (1, 2, 19, 1), (1, 2, 19, 1), torch.float32, PLANES),
    "stencils larger than the picture": ((2, 7), (1, 1, 2, 3), (1, 2, 2, 3), torch.float32, PLANES),
    "stencils of several tiles": ((2, 3), (1, 2, 18, 33), (1, 2, 18, 33), torch.float32, PLANES),
    "stencils of one tap": ((2, 1), (1, 1, 3, 3), (1, 2, 3, 3), torch.float32, PLANES),
    "stencils, interleaved": ((2, 3), (2, 3, 5, 6), (2, 2, 5, 6), torch.float32, LAST),
    "stencils, channels in several rounds": ((2, 3), (1, 19, 4, 3), (1, 2, 4, 3), torch.float32, PLANES),
    "stencils, channels as lanes": ((2, 3), (1, 10, 4, 5), (1, 2, 4, 5), torch.float32, LAST),
    "stencils, many channels as lanes": ((2, 3), (1, 64, 4, 3), (1, 2, 1, 1), torch.bfloat16, LAST),
    "stencils in bfloat16": ((2, 3), (1, 3, 5, 6), (1, 2, 5, 6), torch.bfloat16, PLANES),
    "stencils in float16": ((2, 3), (1, 3, 5, 6), (1, 2, 5, 6), torch.float16, LAST),
    "stencils in uint8": ((2, 3), (1, 3, 5, 6), (1, 2, 5, 6), torch.uint8, PLANES),
    "lags": ("mks2021", (1, 2, 7, 9), (1, 6, 7, 9), torch.float32, PLANES),
    "lags shared by all pixels": ("mks2021", (1, 1, 5, 34), (1, 6, 1, 1), torch.float32, PLANES),
    "lags shared by all": ("mks2013", (2, 3, 7, 9), (1, 2, 1, 1), torch.float32, PLANES),
    "lags shared by pictures": ("mks2013", (2, 3, 7, 9), (1, 2, 7, 9), torch.float32, PLANES),
    "lags shared by rows": ("mks2013", (2, 2, 5, 4), (1, 2, 1, 4), torch.float32, PLANES),
    "lags shared by columns": ("mks2013", (2, 2, 5, 4), (2, 2, 5, 1), torch.float32, PLANES),
    "long lags": ("mks_v7", (1, 1, 9, 6), (1, 14, 9, 6), torch.float32, PLANES),
    "lags on one pixel": ("mks2021", (1, 3, 1, 1), (1, 6, 1, 1), torch.float32, PLANES),
    "lags on one row": ("mks2021", (1, 1, 1, 37), (1, 6, 1, 37), torch.float32, PLANES),
    "lags, channels as lanes": ("mks2013", (1, 10, 4, 5), (1, 2, 4, 5), torch.float32, LAST),
    "lags, interleaved in bfloat16": ("mks2021", (1, 3, 5, 6), (1, 6, 5, 6), torch.bfloat16, LAST),
    "lags in float16": ("mks2013", (1, 3, 5, 6), (1, 2, 5, 6), torch.float16, PLANES),
    "lags in uint8": ("mks2013", (1, 3, 5, 6), (1, 2, 5, 6), torch.uint8, PLANES),
}
Form = str | tuple[int, int]


def kernel_and_basis(form: Form) -> tuple[str, Tensor | None]:
    if isinstance(form, str):
        return form, None
    count, side = form
    # Their sums are not zero: the centre must be minus the sum of the others.
    return "mks2021", torch.randn(count, side, side, generator=torch.Generator().manual_seed(2)).to(DEVICE)


def inputs(name: str) -> tuple[Tensor, Tensor, Tensor]:
    """x, gains far from neutral, gradient of the correction."""
    _, size, gains_size, dtype, layout = CASES[name]
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(size, generator=generator) * (255 if dtype == torch.uint8 else 1)
    gains, pull = (torch.randn(s, generator=generator) for s in (gains_size, size))
    return x.to(DEVICE, dtype).contiguous(memory_format=layout), 1 + gains.to(DEVICE), pull.to(DEVICE)


def correction(x: Tensor, gains: Tensor, form: Form) -> Tensor:
    from sr_kernels.magic_resample import bend

    return run(bend.correction(x, gains, *kernel_and_basis(form)), x.device)


def gradients(pull: Tensor, x: Tensor, gains: Tensor, form: Form) -> tuple[Tensor, Tensor]:
    """dx, added to ones, and dgains."""
    from sr_kernels.magic_resample import bend_backward

    dx = torch.ones_like(x, dtype=torch.float32)
    steps: Steps[Tensor] = bend_backward.gradients(pull, x, gains, *kernel_and_basis(form), dx)
    return dx, run(steps, x.device)


def expect_near(name: str, got: Tensor, eager: Tensor, exact: Tensor) -> None:
    """No further from float64 than twice what the torch path is, and a few roundings."""
    assert got.shape == exact.shape
    floor = 1e-6 * exact.abs().max().item() + 1e-7
    error, allowed = (got - exact).abs().max().item(), 2 * (eager - exact).abs().max().item() + floor
    assert error <= allowed, f"{name}: {error:.2e}, allowed {allowed:.2e}"


@pytest.mark.parametrize("name", CASES)
def test_correction_and_gradients(name: str) -> None:
    form = CASES[name][0]
    kernel, basis = kernel_and_basis(form)
    x, gains, pull = inputs(name)
    out = correction(x, gains, form)
    assert out.dtype == torch.float32
    assert out.stride() == x.stride()
    dx, dgains = gradients(pull, x, gains, form)
    assert (dgains.dtype, dgains.shape) == (gains.dtype, gains.shape)

    wide, double = (t.detach().clone().requires_grad_() for t in (x.float(), x.double()))
    double_gains = gains.double().requires_grad_()
    double_basis = None if basis is None else basis.double()
    exact = sharpened(double, double_gains, kernel, double_basis) - sharpened(
        double, torch.ones_like(double_gains), kernel, double_basis
    )
    exact_dx, exact_dgains = torch.autograd.grad(exact, (double, double_gains), pull.double())
    eager_dx, eager_dgains = steering.correction_gradients(pull, wide.detach(), gains, kernel, basis)
    expect_near("correction", out, steering.correction(wide.detach(), gains, kernel, basis), exact.detach())
    expect_near("dx", dx, 1 + eager_dx, 1 + exact_dx)
    expect_near("dgains", dgains, eager_dgains, exact_dgains)


@pytest.mark.parametrize("form", [(3, 3), "mks2021"])
@pytest.mark.parametrize("pixels", [(1, 1), (5, 6)])
def test_neutral_gains_correct_nothing(form: Form, pixels: tuple[int, int]) -> None:
    x = torch.randn(1, 2, 5, 6, device=DEVICE)
    count = 6 if form == "mks2021" else 3
    out = correction(x, torch.ones(1, count, *pixels, device=DEVICE), form)
    assert torch.equal(out, torch.zeros_like(out))


@pytest.mark.parametrize("form", [(3, 3), "mks2021"])
def test_constants_are_not_corrected(form: Form) -> None:
    gains = torch.randn(1, 6 if form == "mks2021" else 3, 5, 6, device=DEVICE)
    out = correction(torch.full((1, 2, 5, 6), 0.7, device=DEVICE), gains, form)
    assert torch.equal(out, torch.zeros_like(out))


@pytest.mark.parametrize(
    ("form", "dtype"),
    [
        ((2, 3), torch.float16),
        ("mks2013", torch.float64),
        # The interpreter cuts bfloat16 off where a GPU rounds it.
        pytest.param((2, 3), torch.bfloat16, marks=pytest.mark.gpu),
        pytest.param("mks2013", torch.bfloat16, marks=pytest.mark.gpu),
    ],
)
def test_gains_of_other_types_and_strides(form: Form, dtype: torch.dtype) -> None:
    """Read as they lie, and gradients have their type."""
    x, pull = torch.rand(1, 1, 5, 6, device=DEVICE), torch.randn(1, 1, 5, 6, device=DEVICE)
    gains = (1 + torch.randn(5, 2, 6, 1, device=DEVICE)).to(dtype).permute(3, 1, 0, 2)
    assert not gains.is_contiguous()
    plain = gains.float().contiguous()
    assert torch.equal(correction(x, gains, form), correction(x, plain, form))
    (dx, dgains), (plain_dx, plain_dgains) = gradients(pull, x, gains, form), gradients(pull, x, plain, form)
    assert torch.equal(dx, plain_dx)
    assert dgains.dtype == dtype
    assert torch.equal(dgains, plain_dgains.to(dtype))


@pytest.mark.parametrize("form", [(2, 3), "mks2013"])
def test_gradients_of_any_strides(form: Form) -> None:
    x, gains = torch.rand(1, 2, 5, 6, device=DEVICE), 1 + torch.randn(1, 2, 5, 6, device=DEVICE)
    pull = torch.randn(1, 2, 6, 5, device=DEVICE).transpose(2, 3)
    results = [gradients(p, x, gains, form) for p in (pull, pull.contiguous())]
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))


@pytest.mark.parametrize(
    ("form", "scale", "layout"),
    [
        ((2, 3), 2, "plain"),
        ("mks2013", 2, "plain"),
        ("mks2013", 2, "channels_last"),
        ((2, 3), 2, "transposed"),
        ("mks2013", 1.5, "cropped"),
    ],
)
def test_the_whole_operation(form: Form, scale: float, layout: str) -> None:
    """Resize and correction together, on pictures as they lie, through the public door."""
    if layout == "transposed":
        x = torch.rand(1, 2, 5, 6, device=DEVICE).transpose(2, 3)
    elif layout == "cropped":
        x = torch.rand(1, 2, 9, 8, device=DEVICE)[:, :, 2:8, 1:6]
    else:
        form_ = LAST if layout == "channels_last" else PLANES
        x = torch.rand(1, 2, 6, 5, device=DEVICE).contiguous(memory_format=form_)
    kernel, basis = kernel_and_basis(form)
    gains = 1 + torch.randn(1, 2, 6, 5, device=DEVICE)
    pull = torch.randn(1, 2, round(6 * scale), round(5 * scale), device=DEVICE)

    def call(impl: str, dtype: torch.dtype) -> tuple[Tensor, ...]:
        given = [t.to(dtype).detach().requires_grad_() for t in (x, gains)]
        stencils = None if basis is None else basis.to(dtype)
        out = K.magic_resample(given[0], scale=scale, kernel=kernel, gains=given[1], basis=stencils, impl=impl)  # type: ignore
        return out.detach(), *torch.autograd.grad(out, given, pull.to(dtype))

    results = call("triton", torch.float32), call("torch", torch.float32), call("reference", torch.float64)
    for name, got, eager, exact in zip(("out", "dx", "dgains"), *results, strict=True):
        expect_near(name, got, eager, exact)


def test_stencils_of_the_generator() -> None:
    """Twelve sparse 5 x 5 stencils, one lag each."""
    basis = torch.zeros(12, 5, 5, device=DEVICE)
    offsets = [(v, u) for v in range(3) for u in range(-2, 3) if (v, u) > (0, 0)]
    for taps, (v, u) in zip(basis, offsets, strict=True):
        taps[2 + v, 2 + u] = taps[2 - v, 2 - u] = 0.5
    from sr_kernels.magic_resample import bend

    x, gains = torch.rand(1, 1, 6, 5, device=DEVICE), 1 + torch.randn(1, 12, 6, 5, device=DEVICE)
    out = run(bend.correction(x, gains, "mks2021", basis), x.device)
    exact = steering.correction(x.double(), gains.double(), "mks2021", basis.double())
    expect_near("correction", out, steering.correction(x, gains, "mks2021", basis), exact)


def test_every_kernel_has_the_lags_that_are_tested() -> None:
    counts = {len(FILTERS[form].lags) for form, *_ in CASES.values() if isinstance(form, str)}
    assert counts == {len(f.lags) for f in FILTERS.values()} - {0}


@pytest.mark.gpu
@pytest.mark.parametrize("form", [(12, 5), "mks2021"])
@pytest.mark.parametrize("shared", [False, True])
def test_repeats_give_the_same_bits(form: Form, shared: bool) -> None:
    x, pull = (torch.randn(4, 3, 131, 97, device=DEVICE) for _ in range(2))
    gains = torch.randn(4, 6 if form == "mks2021" else 12, *((1, 1) if shared else (131, 97)), device=DEVICE)
    results = [gradients(pull, x, gains, form) for _ in range(2)]
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))


@pytest.mark.gpu
@pytest.mark.parametrize("layout", [PLANES, LAST])
@pytest.mark.parametrize("form", [(2, 3), "mks2013"])
def test_offsets_beyond_32_bits(form: Form, layout: torch.memory_format) -> None:
    """2^31 numbers lie between the first pixel and the last."""
    x = torch.zeros(1, 64, 5800, 5800, dtype=torch.float16, device=DEVICE).contiguous(memory_format=layout)
    assert x.numel() > 2**31
    x[:, :, -8:, -8:].normal_()
    gains = torch.tensor([0.5, 1.5], device=DEVICE).view(1, 2, 1, 1)
    end = correction(x, gains, form)[:, :, -4:, -4:]
    expected = steering.correction(x[:, :, -16:, -16:].float(), gains, *kernel_and_basis(form))[:, :, -4:, -4:]
    torch.testing.assert_close(end, expected, rtol=1e-5, atol=1e-5)

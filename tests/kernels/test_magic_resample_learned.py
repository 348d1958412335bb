"""The learned form: neutral gains, what gains do, gradients of both orders."""

import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck

from sr_kernels import functional as K
from sr_kernels.dispatch import Impl
from sr_kernels.magic_resample import op, steering

IMPLS: tuple[Impl, ...] = ("torch", "reference")


def double(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def case(name: str) -> tuple[Tensor, Tensor, Tensor | None]:
    """(x, gains far from neutral, basis): gains per pixel, shared by rows and batch, or one for all."""
    x = double(2, 2, 4, 3)
    match name:
        case "lags":
            return x, 1 + double(2, 6, 4, 3, seed=1), None
        case "lags_shared":
            return x, 1 + double(1, 6, 1, 3, seed=1), None
        case "basis":
            return x, 1 + double(2, 3, 4, 3, seed=1), double(3, 5, 5, seed=2)
        case _:
            return x, 1 + double(1, 3, 1, 1, seed=1), double(3, 3, 3, seed=2)


CASES = ["lags", "lags_shared", "basis", "basis_shared"]


@pytest.mark.parametrize("impl", IMPLS)
@pytest.mark.parametrize("size", [(9, 7), (1, 1), (300, 9)])
@pytest.mark.parametrize(("kernel", "count"), [("mks2013", 2), ("mks2021", 6), ("mks_v7", 14)])
def test_neutral_gains_are_classical_to_the_bit(kernel: str, count: int, size: tuple[int, int], impl: Impl) -> None:
    x = torch.rand(2, 3, *size)
    classical = K.magic_resample(x, scale=2, kernel=kernel, impl=impl)
    for shape in ((1, 1, 1), (2, *size)):
        gains = torch.ones(shape[0], count, *shape[1:])
        assert torch.equal(K.magic_resample(x, scale=2, kernel=kernel, gains=gains, impl=impl), classical)
        gains, basis = torch.ones(shape[0], 5, *shape[1:]), torch.randn(5, 3, 3)
        assert torch.equal(K.magic_resample(x, scale=2, kernel=kernel, gains=gains, basis=basis, impl=impl), classical)


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("scale", [1, 2, 1.5, 0.5, (1, 3)])
def test_fast_path_equals_the_reference(name: str, scale: float) -> None:
    x, gains, basis = case(name)
    fast, literal = (K.magic_resample(x, scale=scale, gains=gains, basis=basis, impl=impl) for impl in IMPLS)
    torch.testing.assert_close(fast, literal, rtol=0, atol=1e-12)
    assert (literal - K.magic_resample(x, scale=scale)).abs().max() > 0.05


@pytest.mark.parametrize("impl", IMPLS)
def test_gains_lead_from_one_kernel_to_another(impl: Impl) -> None:
    """Away from the edges, where the two borders differ: no sharpening at 0, the 2013 kernel at (36/35, 0, 0)."""
    x = double(1, 2, 24, 20)
    inside = (..., slice(24, -24), slice(24, -24))
    for axis_gains, kernel in (((0, 0, 0), "magic"), ((36 / 35, 0, 0), "mks2013")):
        gains = torch.tensor([*axis_gains, *axis_gains], dtype=torch.float64).view(1, 6, 1, 1)
        out = K.magic_resample(x, scale=3, gains=gains, impl=impl)
        expected = K.magic_resample(x, scale=3, kernel=kernel, impl="reference")
        torch.testing.assert_close(out[inside], expected[inside], rtol=0, atol=1e-12)


def test_vertical_gains_come_first() -> None:
    rows = double(1, 1, 16, 1).expand(1, 1, 16, 16)
    gains = torch.ones(1, 6, 1, 1, dtype=torch.float64)
    gains[:, 3:] = 0
    torch.testing.assert_close(K.magic_resample(rows, scale=2, gains=gains), K.magic_resample(rows, scale=2))
    assert (K.magic_resample(rows, scale=2, gains=gains.flip(1)) - K.magic_resample(rows, scale=2)).abs().max() > 0.1


@pytest.mark.parametrize("impl", IMPLS)
@pytest.mark.parametrize("basis", [None, double(6, 5, 5)])
def test_constants_survive_any_gains(basis: Tensor | None, impl: Impl) -> None:
    """Also with a basis whose stencils don't sum to zero: the centre tap is replaced."""
    x = torch.full((1, 2, 9, 8), 0.7, dtype=torch.float64)
    out = K.magic_resample(x, scale=3, gains=double(1, 6, 9, 8), basis=basis, impl=impl)
    torch.testing.assert_close(out, torch.full_like(out, 0.7), rtol=0, atol=1e-13)


def test_a_gain_acts_only_around_its_pixel() -> None:
    x, gains = double(1, 1, 20, 20), torch.ones(1, 1, 20, 20, dtype=torch.float64)
    gains[..., 10, 10] = 2
    basis = double(1, 5, 5)
    change = K.magic_resample(x, scale=4, gains=gains, basis=basis) - K.magic_resample(x, scale=4)
    cells = (change.abs() > 1e-12).nonzero()[:, 2:] // 4
    assert len(cells)
    assert (cells - 10).abs().max() == 1


@pytest.mark.parametrize("impl", IMPLS)
@pytest.mark.parametrize("name", CASES)
def test_gradients_of_both_orders(name: str, impl: Impl) -> None:
    x, gains, basis = case(name)

    def function(x: Tensor, gains: Tensor) -> Tensor:
        return K.magic_resample(x, scale=(1.5, 1.3), gains=gains, basis=basis, impl=impl)

    inputs = (x.requires_grad_(), gains.requires_grad_())
    assert gradcheck(function, inputs)
    assert gradgradcheck(function, inputs, fast_mode=True)


@pytest.mark.parametrize("name", CASES)
def test_gradients_of_the_registered_op(name: str) -> None:
    x, gains, basis = case(name)

    def function(x: Tensor, gains: Tensor) -> Tensor:
        return op.magic_resample(x, gains, basis, [6, 4], "mks2021")

    inputs = (x.requires_grad_(), gains.requires_grad_())
    assert gradcheck(function, inputs)
    assert gradgradcheck(function, inputs, fast_mode=True)
    assert gradgradcheck(lambda x: op.magic_resample(x, None, None, [3, 5], "mks2021"), (x,))


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("scale", [2, 0.96])
def test_striped_gradient_equals_the_reference(scale: float, layout: torch.memory_format) -> None:
    x = double(1, 3, 280, 11).contiguous(memory_format=layout).requires_grad_()
    gains = (1 + 0.5 * double(1, 6, 280, 11)).requires_grad_()
    grads = []
    for impl in IMPLS:
        out = K.magic_resample(x, scale=scale, gains=gains, impl=impl)
        grads.append(torch.autograd.grad((out * double(*out.shape, seed=3)).sum(), (x, gains)))
    torch.testing.assert_close(*grads, rtol=0, atol=1e-12)


@pytest.mark.parametrize("impl", IMPLS)
def test_sums_of_16_bit_pictures_are_float32(impl: Impl) -> None:
    x, gains = torch.rand(1, 3, 20, 17, dtype=torch.bfloat16), 1 + torch.randn(1, 6, 20, 17)
    exact = K.magic_resample(x.double(), scale=2, gains=gains.double(), impl="reference")
    error = (K.magic_resample(x, scale=2, gains=gains, impl=impl).double() - exact).abs()
    assert (error <= exact.abs() * torch.finfo(torch.bfloat16).eps / 2 + 2e-6).all()


def test_gradients_in_bfloat16_have_the_dtype_of_their_tensors() -> None:
    x = torch.rand(1, 3, 8, 8, dtype=torch.bfloat16, requires_grad=True)
    gains = torch.ones(1, 6, 8, 8, requires_grad=True)
    for function in (K.magic_resample(x, scale=2, gains=gains), op.magic_resample(x, gains, None, [16, 16], "mks2021")):
        assert function.dtype == torch.bfloat16
        dx, dgains = torch.autograd.grad(function.float().sum(), (x, gains))
        assert (dx.dtype, dgains.dtype) == (torch.bfloat16, torch.float32)


def test_centre_tap_is_minus_the_others() -> None:
    stencils = steering.zero_sum(double(4, 5, 5))
    assert stencils.sum((1, 2)).abs().max() < 1e-14


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"basis": torch.rand(2, 3, 3)}, "basis was given without gains"),
        ({"gains": torch.ones(1, 5, 1, 1)}, r"gains must have 6 channels \(axis 1\).*lags of mks2021.*got 5"),
        ({"gains": torch.ones(1, 6, 4, 1)}, r"gains must be \[2 or 1, 6, 8 or 1, 9 or 1\].*got \(1, 6, 4, 1\)"),
        ({"gains": torch.ones(1, 6, 1, 1), "kernel": "magic"}, "'magic' has no sharpening to bend: give a basis"),
        ({"gains": torch.ones(1, 6, 1, 1), "basis": torch.rand(2, 3, 3)}, "2 channels .*stencils of basis, got 6"),
        ({"gains": torch.ones(1, 2, 1, 1), "basis": torch.rand(2, 4, 4)}, "square stencils of odd size"),
        ({"gains": torch.ones(1, 2, 1, 1), "basis": torch.rand(2, 3, 3, requires_grad=True)}, "basis is a constant"),
        ({"gains": torch.ones(6)}, "gains must have 4 dimensions"),
    ],
)
def test_wrong_gains(arguments: dict, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        K.magic_resample(torch.rand(2, 3, 8, 9), scale=2, **arguments)

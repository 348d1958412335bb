"""The Triton kernels of content_stats against the float64 specification: on a GPU, or in Triton's interpreter.

The interpreter is chosen before triton is imported: test_interpreter.py runs this file with TRITON_INTERPRET=1.
"""

import os

import pytest
import torch
from torch import Tensor

from sr_kernels import functional as K
from sr_kernels.content_stats import op
from sr_kernels.dispatch import Impl

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
DEVICE = "cpu" if INTERPRETED or not torch.cuda.is_available() else "cuda"
pytestmark = pytest.mark.skipif(
    not INTERPRETED and DEVICE == "cpu", reason="needs a CUDA device, or TRITON_INTERPRET=1 with triton installed"
)
NAMES = ("fine", "coarse", "difficulty", "gradient")

# batch, channels, height, width, window, type
CASES = {
    "one pixel": (1, 3, 1, 1, 8, torch.float32),
    "one row": (1, 1, 1, 7, 1, torch.float32),
    "one column": (1, 3, 7, 1, 5, torch.float16),
    "odd sizes": (1, 3, 13, 17, 8, torch.float32),
    "odd windows": (1, 1, 13, 17, 5, torch.bfloat16),
    "two strips and bands": (1, 1, 9, 57, 8, torch.bfloat16),
    "wide windows": (1, 3, 5, 50, 16, torch.float16),
    "widest windows": (1, 1, 3, 33, 32, torch.float32),
    "several pictures": (2, 1, 4, 6, 40, torch.float32),
}
# What a GPU does in no time.
LARGE = {
    f"{window} {H}x{W} {str(dtype)[6:]}": (2, 3, H, W, window, dtype)
    for window, H, W in ((8, 70, 250), (16, 101, 120), (32, 64, 131), (7, 40, 90), (100, 130, 210), (1, 33, 65))
    for dtype in (torch.float32, torch.float16, torch.bfloat16)
}


@pytest.fixture(autouse=True)
def high_bands(request, monkeypatch):
    """The interpreter's time is in the number of rows, and every band begins with eight more."""
    if INTERPRETED and "bands" not in request.node.name and "tiles" not in request.node.name:
        from sr_kernels.content_stats import tiling

        monkeypatch.setattr(tiling, "BANDS", (64,))


def picture(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """Noise beside a gentle slope, so that strong and weak statistics are there."""
    noise = torch.rand(shape, generator=torch.Generator().manual_seed(sum(shape)))
    slope = torch.linspace(0.2, 0.7, shape[-1]).expand(shape)
    return torch.where(torch.arange(shape[-1]) % 24 < 12, noise, slope).to(DEVICE, dtype)


def run(x: Tensor, window: int, impl: Impl, gradient: bool = True) -> tuple[Tensor, ...]:
    """The outputs and the gradient for pulls that every type holds."""
    x = x.detach().requires_grad_(gradient)
    stats = tuple(K.content_stats(x, window=window, impl=impl))
    if not gradient:
        return stats
    generator = torch.Generator().manual_seed(1)
    pulls = [torch.randn(s.shape, generator=generator).bfloat16().to(s) for s in stats]
    return *(s.detach() for s in stats), *torch.autograd.grad(stats, x, pulls)


def check(x: Tensor, window: int) -> None:
    """No further from float64 than twice what the torch path of the same type is."""
    found, torch_path = (run(x, window, impl) for impl in ("triton", "torch"))
    exact = run(x.double(), window, "torch" if DEVICE == "cuda" else "reference")
    for name, got, other, want in zip(NAMES, found, torch_path, exact, strict=True):
        assert got.shape == want.shape, name
        assert got.dtype == x.dtype, name
        size = want.abs().max().item()
        floor = (torch.finfo(x.dtype).eps / 2 + 4e-6) * size + 1e-6
        error, allowed = (got - want).abs().max().item(), 2 * (other - want).abs().max().item() + floor
        assert error <= allowed, f"{name}: {error:.2e}, allowed {allowed:.2e}"


@pytest.mark.parametrize("case", CASES)
def test_outputs_and_gradient(case, poisoned):
    *shape, window, dtype = CASES[case]
    check(picture(*shape, dtype=dtype), window)


@pytest.mark.gpu
@pytest.mark.parametrize("case", LARGE)
def test_outputs_and_gradient_of_larger_pictures(case, poisoned):
    *shape, window, dtype = LARGE[case]
    check(picture(*shape, dtype=dtype), window)


@pytest.mark.parametrize("form", ["crop", "channels last", "transposed", "expanded"])
def test_strides_are_read(form):
    x, gradient = picture(1, 3, 4, 6), form == "crop"
    if form == "crop":
        x = picture(1, 4, 5, 9)[:, 1:, 1:, 2:8]
    elif form == "channels last":
        x = x.contiguous(memory_format=torch.channels_last)
    elif form == "transposed":
        x = picture(1, 3, 6, 4).mT
    else:
        x = x[:, :1].expand(1, 3, 4, 6)
    found, expected = (run(given, 8, "triton", gradient) for given in (x, x.contiguous()))
    assert all(torch.equal(got, want) for got, want in zip(found, expected, strict=True))


def test_gradients_may_have_any_strides():
    x = picture(1, 1, 6, 9)
    pulls = [torch.randn(1, 8, 9, 6).mT, torch.randn(1, 3, 5, 8).permute(0, 3, 1, 2), torch.randn(1, 2, 1, 1)]
    pulls = [pull.to(DEVICE) for pull in pulls]
    pulls[2] = pulls[2].expand(1, 2, 1, 2)
    strided = op.content_stats_backward(*pulls, x, 8, "triton")
    assert torch.equal(strided, op.content_stats_backward(*(p.contiguous() for p in pulls), x, 8, "triton"))


def test_tiles_see_what_the_picture_sees():
    x = picture(1, 1, 24, 32)
    whole, tile = K.content_stats(x, impl="triton"), K.content_stats(x[..., 8:, 8:], impl="triton")
    pairs = [
        (tile.fine[..., 4:, 4:], whole.fine[..., 12:, 12:]),
        (tile.coarse[..., 4:, 4:], whole.coarse[..., 8:, 8:]),
        (tile.difficulty[..., 1:, 1:], whole.difficulty[..., 2:, 2:]),
    ]
    for got, want in pairs:
        assert got.numel()
        if INTERPRETED:
            assert torch.equal(got, want)
        else:
            # The order of all sums is the same, but the compiler may fuse products into sums differently.
            torch.testing.assert_close(got, want, rtol=0, atol=2e-4)
    assert not torch.equal(tile.fine[..., 3, 4:], whole.fine[..., 11, 12:])


@pytest.mark.parametrize("value", [0.0, 0.3])
def test_flat_ground_is_zero_with_finite_gradients(value):
    x = torch.full((1, 3, 5, 6), value, device=DEVICE)
    fine, coarse, difficulty, gradient = run(x, 8, "triton")
    assert max(fine[:, :7].abs().max(), coarse[:, :7].abs().max(), difficulty.abs().max()) < 1e-3
    torch.testing.assert_close(fine[:, 7], torch.full_like(fine[:, 7], value), rtol=0, atol=1e-6)
    assert gradient.isfinite().all()


def test_repeats_give_the_same_bits():
    x = picture(1, 1, 5, 7)
    assert all(torch.equal(a, b) for a, b in zip(*(run(x, 8, "triton") for _ in range(2)), strict=True))


def test_float64_is_refused():
    with pytest.raises(RuntimeError, match="float64"):
        K.content_stats(torch.rand(1, 1, 2, 2, dtype=torch.float64, device=DEVICE), impl="triton")


def test_operator_is_registered_properly():
    x = picture(1, 1, 2, 3).requires_grad_()
    torch.library.opcheck(op.content_stats, (x, 8, "triton"), test_utils=("test_schema", "test_faketensor"))
    grads = tuple(torch.ones_like(s) for s in K.content_stats(x.detach()))
    utils = ("test_schema", "test_faketensor")
    torch.library.opcheck(op.content_stats_backward, (*grads, x.detach(), 8, "triton"), test_utils=utils)


@pytest.mark.gpu
def test_offsets_beyond_32_bits():
    """2^31 numbers lie between the first statistic and the last."""
    x = torch.zeros(1, 1, 16400, 16400, dtype=torch.bfloat16, device=DEVICE)
    x[..., -16:, -16:] = picture(1, 1, 16, 16, dtype=torch.bfloat16)
    whole, corner = K.content_stats(x, impl="triton"), K.content_stats(x[..., -32:, -32:], impl="torch")
    torch.testing.assert_close(whole.fine[..., -16:, -16:], corner.fine[..., -16:, -16:], rtol=2e-2, atol=2e-2)

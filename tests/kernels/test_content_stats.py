"""content_stats: the formulas against a NumPy loop with angles, both implementations, gradients, tiles, operator."""

import numpy as np
import pytest
import torch
from torch import Tensor

from sr_kernels import functional as K
from sr_kernels.content_stats import op

IMPLS = pytest.mark.parametrize("impl", ["reference", "torch"])
SIZES = [(1, 1), (2, 3), (1, 9), (9, 14), (17, 8)]


def picture(*shape: int, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(sum(shape)), dtype=torch.float64).to(dtype)


def oracle(y: np.ndarray) -> np.ndarray:
    """The eight statistics of a luma picture (H, W), pixel by pixel, with true angles."""
    scharr = np.array([[-3, 0, 3], [-10, 0, 10], [-3, 0, 3]]) / 32
    laplacian = np.array([[0, 1, 0], [1, -4, 1], [0, 1, 0]])
    taps = np.array([1, 6, 15, 20, 15, 6, 1]) / 64
    blur = np.outer(taps, taps)
    extended = np.pad(y, 4, mode="edge")

    def filtered(values: np.ndarray, kernel: np.ndarray) -> np.ndarray:
        n = len(kernel)
        rows, columns = (size - n + 1 for size in values.shape)
        return np.array([[(values[i : i + n, j : j + n] * kernel).sum() for j in range(columns)] for i in range(rows)])

    gx, gy = filtered(extended, scharr), filtered(extended, scharr.T)
    lap = filtered(np.abs(filtered(extended, laplacian)), blur)
    J11, J12, J22 = (filtered(v, blur) for v in (gx * gx, gx * gy, gy * gy))
    centre = extended[1:-1, 1:-1]
    mean = filtered(centre, blur)
    variance = filtered(centre**2, blur) - mean**2
    angle = np.arctan2(2 * J12, J11 - J22) / 2
    strength = np.hypot(J11 - J22, 2 * J12) / (J11 + J22 + 255.0**-2)
    fourfold = strength**2 / np.sqrt(strength**2 + 1e-4)
    return np.stack(
        [
            np.log1p(255 * lap) / 4,
            np.log1p(255**2 * variance) / 8,
            np.log1p(255**2 * (J11 + J22)) / 8,
            strength * np.cos(2 * angle),
            strength * np.sin(2 * angle),
            fourfold * np.cos(4 * angle),
            fourfold * np.sin(4 * angle),
            mean,
        ]
    )


@IMPLS
def test_agrees_with_the_definition(impl):
    x = picture(1, 3, 11, 17)
    y = (0.299 * x[0, 0] + 0.587 * x[0, 1] + 0.114 * x[0, 2]).numpy()
    stats = K.content_stats(x, window=5, impl=impl)
    np.testing.assert_allclose(stats.fine[0].numpy(), oracle(y), atol=1e-10)
    cells = np.pad(y, ((0, 1), (0, 1)), mode="edge").reshape(6, 2, 9, 2).mean(axis=(1, 3))
    np.testing.assert_allclose(stats.coarse[0].numpy(), oracle(cells), atol=1e-10)
    hard = stats.fine[0, 0].numpy()
    assert stats.difficulty.shape == (1, 2, 3, 4)
    assert stats.difficulty[0, 0, 2, 3].item() == pytest.approx(hard[10:, 15:].mean())
    assert stats.difficulty[0, 1, 1, 3].item() == pytest.approx(hard[5:10, 15:].max())


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("channels", [1, 3])
def test_implementations_agree(size, channels):
    for dtype, tolerance in ((torch.float64, 1e-10), (torch.float32, 1e-3), (torch.float16, 2e-3)):
        x = picture(2, channels, *size, dtype=dtype)
        exact = K.content_stats(x.double(), window=4, impl="reference")
        for got, want in zip(K.content_stats(x, window=4, impl="torch"), exact, strict=True):
            assert got.dtype == dtype
            torch.testing.assert_close(got.double(), want, atol=tolerance, rtol=0)


def test_direction_has_the_right_sign():
    ramp = torch.linspace(0, 1, 16, dtype=torch.float64)
    down, across = ramp[:, None].expand(16, 16), ramp[None].expand(16, 16)
    pictures = torch.stack([across, down, (across + down) / 2, (across - down) / 2])[:, None]
    centre = K.content_stats(pictures).fine[:, 3:7, 8, 8]
    expected = torch.tensor([[1, 0, 1, 0], [-1, 0, 1, 0], [0, 1, -1, 0], [0, -1, -1, 0]], dtype=torch.float64)
    torch.testing.assert_close(centre, expected, atol=0.02, rtol=0)


def test_tiles_see_what_the_picture_sees():
    x = picture(1, 3, 48, 48)
    whole, tile = K.content_stats(x), K.content_stats(x[..., 8:40, 16:48])
    torch.testing.assert_close(tile.fine[..., 4:-4, 4:], whole.fine[..., 12:36, 20:], atol=1e-12, rtol=0)
    torch.testing.assert_close(tile.coarse[..., 4:-4, 4:], whole.coarse[..., 8:16, 12:], atol=1e-12, rtol=0)
    torch.testing.assert_close(tile.difficulty[..., 1:-1, 1:], whole.difficulty[..., 2:4, 3:], atol=1e-12, rtol=0)
    assert not torch.allclose(tile.fine[..., 3, 4:], whole.fine[..., 11, 20:], atol=1e-12, rtol=0)


@IMPLS
@pytest.mark.parametrize("shape", [(1, 3, 5, 6), (2, 1, 3, 1)])
def test_gradient(impl, shape):
    x = picture(*shape).requires_grad_()
    assert torch.autograd.gradcheck(lambda v: tuple(K.content_stats(v, window=3, impl=impl)), (x,), fast_mode=True)


def test_gradients_of_implementations_agree():
    x = picture(2, 3, 13, 9).requires_grad_()
    stats = [K.content_stats(x, window=4, impl=impl) for impl in ("reference", "torch")]
    pull = [torch.randn_like(s) for s in stats[0]]
    expected, actual = (torch.autograd.grad(tuple(s), x, pull)[0] for s in stats)
    torch.testing.assert_close(actual, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("value", [0.0, 0.3, 1.0])
def test_flat_ground_is_zero_with_finite_gradients(value):
    x = torch.full((1, 3, 9, 9), value, requires_grad=True)
    stats = K.content_stats(x)
    assert stats.fine[:, :7].abs().max() < 1e-3
    torch.cat([s.flatten() for s in stats]).sum().backward()
    assert x.grad is not None
    assert x.grad.isfinite().all()


def test_operator_is_registered_properly():
    x = picture(2, 3, 7, 10, dtype=torch.float32).requires_grad_()
    torch.library.opcheck(op.content_stats, (x, 4, "torch"))
    grads = tuple(torch.ones_like(s) for s in K.content_stats(x.detach(), window=4))
    torch.library.opcheck(op.content_stats_backward, (*grads, x.detach(), 4, "torch"))


def test_compiles_as_a_whole():
    x = picture(2, 3, 7, 10, dtype=torch.float32).requires_grad_()
    plain = torch.cat([s.flatten() for s in K.content_stats(x, window=4)])
    compiled = torch.compile(
        lambda v: torch.cat([s.flatten() for s in K.content_stats(v, window=4)]), fullgraph=True, backend="aot_eager"
    )(x)
    pull = torch.randn_like(plain)
    torch.testing.assert_close(compiled, plain)
    torch.testing.assert_close(torch.autograd.grad(compiled, x, pull), torch.autograd.grad(plain, x, pull))


def test_autocast_changes_nothing():
    x = picture(1, 3, 16, 16, dtype=torch.float32).requires_grad_()
    plain = K.content_stats(x).fine
    with torch.autocast("cpu", torch.bfloat16):
        cast = K.content_stats(x).fine
        assert torch.equal(cast, plain)
        assert torch.equal(*(torch.autograd.grad(fine.square().sum(), x)[0] for fine in (cast, plain)))


def test_exported_program_needs_no_kernels_and_takes_any_size():
    class Stats(torch.nn.Module):
        def forward(self, x: Tensor) -> tuple[Tensor, ...]:
            return tuple(K.content_stats(x, window=4))

    size = {2: torch.export.Dim("h", min=5, max=512), 3: torch.export.Dim("w", min=5, max=512)}
    program = torch.export.export(Stats(), (picture(1, 3, 16, 20, dtype=torch.float32),), dynamic_shapes=(size,))
    assert not any("sr_kernels" in str(node.target) for node in program.graph.nodes)
    other = picture(1, 3, 7, 13, dtype=torch.float32)
    for got, want in zip(program.module()(other), K.content_stats(other, window=4), strict=True):
        torch.testing.assert_close(got, want)


@pytest.mark.parametrize(
    ("x", "window", "kind", "message"),
    [
        (torch.rand(3, 8, 8), 8, ValueError, "4 dimensions"),
        (torch.rand(1, 4, 8, 8), 8, ValueError, r"3 channels \(RGB\) or 1"),
        (torch.rand(1, 3, 0, 8), 8, ValueError, "empty"),
        (torch.zeros(1, 3, 8, 8, dtype=torch.uint8), 8, TypeError, "float32"),
        (np.zeros((1, 3, 8, 8)), 8, TypeError, "tensor"),
        (torch.rand(1, 3, 8, 8), 0, ValueError, "at least 1"),
    ],
)
def test_errors_say_what_to_do(x, window, kind, message):
    with pytest.raises(kind, match=message):
        K.content_stats(x, window=window)

"""content_stats: the formulae against scipy-free NumPy loops, agreement of implementations, gradients, registration."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from sr_kernels import functional as K
from sr_kernels.content_stats import op
from sr_kernels.content_stats.reference import BINOMIAL

SIZES = [(1, 1), (2, 3), (9, 14), (17, 8)]


def picture(*shape: int, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(sum(shape)), dtype=torch.float64).to(dtype)


def weighted(y: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    """Correlation with replicated borders, one pixel at a time."""
    r = kernel.shape[0] // 2
    padded = np.pad(y, r, mode="edge")
    return np.array(
        [
            [(padded[i : i + 2 * r + 1, j : j + 2 * r + 1] * kernel).sum() for j in range(y.shape[1])]
            for i in range(y.shape[0])
        ]
    )


def oracle(y: np.ndarray) -> np.ndarray:
    """The eight channels of one luma picture, written with angles where the implementation has none."""
    scharr = np.array([[-3, 0, 3], [-10, 0, 10], [-3, 0, 3]]) / 32
    blur = np.outer(BINOMIAL, BINOMIAL)
    gx, gy = weighted(y, scharr), weighted(y, scharr.T)
    edge = weighted(np.abs(weighted(y, np.array([[0, 1, 0], [1, -4, 1], [0, 1, 0]]))), blur)
    j11, j12, j22 = (weighted(v, blur) for v in (gx * gx, gx * gy, gy * gy))
    std = np.sqrt(np.maximum(weighted(y * y, blur) - weighted(y, blur) ** 2, 0))
    angle = 0.5 * np.arctan2(2 * j12, j11 - j22)
    coherence = np.hypot(j11 - j22, 2 * j12) / (j11 + j22)
    return np.stack(
        [
            np.log1p(255 * edge) / math.log(256),
            np.log1p(255 * std) / math.log(256),
            np.log1p(255**2 * (j11 + j22)) / math.log(255**2 + 1),
            *(coherence * f(m * angle) for m in (2, 4) for f in (np.cos, np.sin)),
            weighted(y, blur),
        ]
    )


@pytest.mark.parametrize("impl", ["reference", "torch"])
def test_agrees_with_the_definition(impl: str) -> None:
    x = picture(1, 3, 12, 17)
    y = (0.299 * x[0, 0] + 0.587 * x[0, 1] + 0.114 * x[0, 2]).numpy()
    stats = K.content_stats(x, window=5, impl=impl)  # pyright: ignore[reportArgumentType]
    # The floors against noise (trace 1e-5, contrast 1e-3) shift a textured picture by less than this.
    np.testing.assert_allclose(stats.fine[0].numpy(), oracle(y), atol=2e-3)
    padded = np.pad(y, ((0, 0), (0, 1)), mode="edge")
    cells = padded.reshape(6, 2, 9, 2).mean(axis=(1, 3))
    np.testing.assert_allclose(stats.coarse[0].numpy(), oracle(cells), atol=2e-3)
    hard = stats.fine[0, 0].numpy()
    assert stats.difficulty.shape == (1, 2, 3, 4)
    assert stats.difficulty[0, 0, 2, 3].item() == pytest.approx(hard[10:, 15:].mean())
    assert stats.difficulty[0, 1, 1, 3].item() == pytest.approx(hard[5:10, 15:].max())


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("channels", [1, 3])
def test_implementations_agree(size: tuple[int, int], channels: int) -> None:
    exact = K.content_stats(picture(2, channels, *size), window=4, impl="reference")
    for dtype, tolerance in ((torch.float64, 1e-9), (torch.float32, 2e-3), (torch.float16, 2e-2)):
        x = picture(2, channels, *size, dtype=dtype)
        same_input = exact if dtype != torch.float16 else K.content_stats(x.double(), window=4, impl="reference")
        for got, want in zip(K.content_stats(x, window=4, impl="torch"), same_input, strict=True):
            assert got.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
            torch.testing.assert_close(got.double(), want, atol=tolerance, rtol=0)


def test_orientation_has_the_right_sign() -> None:
    ramp = torch.linspace(0, 1, 16, dtype=torch.float64)
    down, across = ramp[:, None].expand(16, 16), ramp[None].expand(16, 16)
    pictures = torch.stack([across, down, (across + down) / 2, (across - down) / 2])[:, None]
    centre = K.content_stats(pictures).fine[:, 3:7, 8, 8]
    expected = torch.tensor([[1, 0, 1, 0], [-1, 0, 1, 0], [0, 1, -1, 0], [0, -1, -1, 0]], dtype=torch.float64)
    torch.testing.assert_close(centre, expected, atol=0.02, rtol=0)


def test_tiles_see_what_the_picture_sees() -> None:
    x = picture(1, 3, 48, 48, dtype=torch.float32)
    whole, tile = K.content_stats(x), K.content_stats(x[..., 8:40, 16:48])
    torch.testing.assert_close(tile.fine[..., 4:-4, 4:], whole.fine[..., 12:36, 20:], atol=2e-5, rtol=0)
    torch.testing.assert_close(tile.coarse[..., 5:-5, 5:], whole.coarse[..., 9:15, 13:], atol=2e-5, rtol=0)
    torch.testing.assert_close(tile.difficulty[..., 1:-1, 1:], whole.difficulty[..., 2:4, 3:], atol=2e-5, rtol=0)


@pytest.mark.parametrize("impl", ["reference", "torch"])
def test_gradients(impl: str) -> None:
    x = picture(1, 3, 5, 6).requires_grad_()
    assert torch.autograd.gradcheck(lambda v: tuple(K.content_stats(v, window=3, impl=impl)), (x,))  # pyright: ignore[reportArgumentType]


def test_flat_ground_has_finite_gradients() -> None:
    x = torch.full((1, 3, 9, 9), 0.5, requires_grad=True)
    torch.cat([s.flatten() for s in K.content_stats(x)]).sum().backward()
    assert x.grad is not None
    assert x.grad.isfinite().all()


def test_registered_operator() -> None:
    x = picture(2, 3, 7, 10, dtype=torch.float32).requires_grad_()
    torch.library.opcheck(op.content_stats, (x, 4))
    compiled = torch.compile(
        lambda v: torch.cat([s.flatten() for s in K.content_stats(v, window=4)]), fullgraph=True, backend="aot_eager"
    )
    plain = torch.cat([s.flatten() for s in K.content_stats(x, window=4)])
    torch.testing.assert_close(compiled(x), plain)
    pull = torch.randn_like(plain)
    torch.testing.assert_close(torch.autograd.grad(compiled(x), x, pull), torch.autograd.grad(plain, x, pull))


def test_exported_graph_needs_no_kernels() -> None:
    class Stats(torch.nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return K.content_stats(x).fine

    program = torch.export.export(Stats(), (picture(1, 3, 16, 16, dtype=torch.float32),))
    assert not any("sr_kernels" in str(node.target) for node in program.graph.nodes)


@pytest.mark.parametrize(
    ("x", "window", "message"),
    [
        (torch.rand(3, 8, 8), 8, "4 dimensions"),
        (torch.rand(1, 4, 8, 8), 8, "1 or 3 channels"),
        (torch.zeros(1, 3, 8, 8, dtype=torch.uint8), 8, "float32"),
        (torch.rand(1, 3, 8, 8), 0, "positive integer"),
    ],
)
def test_errors_say_what_to_do(x: Tensor, window: int, message: str) -> None:
    with pytest.raises((ValueError, TypeError), match=message):
        K.content_stats(x, window=window)

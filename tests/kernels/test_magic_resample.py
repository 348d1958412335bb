"""The classical resize against Pillow, published coefficients and itself."""

from collections.abc import Callable, Sequence

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from sr_kernels import functional as K
from sr_kernels.dispatch import Impl, ImplUnavailableError
from sr_kernels.magic_resample.filters import FILTERS, axis_weights, phase_weights

if not hasattr(Image.Resampling, "MKS2021"):
    pytest.skip("the oracle needs Pillow 13, which brought MagicKernelSharp", allow_module_level=True)

PILLOW = {
    "mks2013": Image.Resampling.MKS2013,
    "mks2021": Image.Resampling.MKS2021,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos3": Image.Resampling.LANCZOS,
}
RATIOS = [2, 3, 4, 1.5, 4 / 3, 1 / 2, 1 / 3, 1 / 4, 1 / 1.375, 1 / 1.5]
# MKS2021, offset of the output centre from the nearest input pixel, taps i-4 .. i+4 (research, and exact by hand).
PHASES = {
    ("magic", 2): ([9, 22, 1], 32),
    ("magic", 3): ([25, 46, 1], 72),
    ("magic", 4): ([49, 78, 1], 128),
    ("mks2013", 2): ([-9, 32, 122, -16, -1], 128),
    ("mks2013", 3): ([-25, 104, 250, -40, -1], 288),
    ("mks2013", 4): ([-49, 216, 418, -72, -1], 512),
    ("mks2021", 2): ([-9, 32, -184, 1072, 4138, -512, 88, -16, -1], 4608),
    ("mks2021", 3): ([-25, 104, -600, 3496, 8474, -1256, 216, -40, -1], 10368),
    ("mks2021", 4): ([-49, 216, -1248, 7272, 14162, -2232, 384, -72, -1], 18432),
}
INNER_PHASES = {
    ("magic", 3): ([1, 6, 1], 8),
    ("magic", 4): ([25, 94, 9], 128),
    ("mks2013", 3): ([-1, 0, 34, 0, -1], 32),
    ("mks2013", 4): ([-25, 56, 530, -40, -9], 512),
    ("mks2021", 3): ([-1, 0, 0, 0, 1154, 0, 0, 0, -1], 1152),
    ("mks2021", 4): ([-25, 56, -320, 1864, 17986, -1304, 224, -40, -9], 18432),
}


def picture(height: int, width: int, channels: int = 3, batch: int = 1) -> Tensor:
    """Edges, ramps and noise on the 0..255 scale."""
    generator = torch.Generator().manual_seed(height * 1000 + width)
    y, x = torch.meshgrid(torch.arange(height) / height, torch.arange(width) / width, indexing="ij")
    edges = ((x * 7).floor() + (y * 5).floor()) % 2
    noise = torch.rand(batch, channels, height, width, generator=generator)
    return (110 * edges + 60 * x + 85 * noise).clamp(0, 255)


def pillow(x: Tensor, size: Sequence[int], kernel: str) -> np.ndarray:
    planes = x.flatten(0, 1).numpy()
    resized = [np.asarray(Image.fromarray(p, "F").resize((size[1], size[0]), PILLOW[kernel])) for p in planes]
    return np.stack(resized).reshape(*x.shape[:2], *size)


@pytest.mark.parametrize("ratio", RATIOS, ids=lambda r: f"{r:.3g}")
@pytest.mark.parametrize("kernel", PILLOW)
@pytest.mark.parametrize("impl", ["torch", "reference"])
def test_equals_pillow_with_edges(kernel: str, ratio: float, impl: Impl) -> None:
    x = picture(127, 94, channels=2)
    out = K.magic_resample(x, scale=ratio, kernel=kernel, impl=impl)
    assert out.shape[2:] == (round(127 * ratio), round(94 * ratio))
    oracle = pillow(x, out.shape[2:], kernel)
    assert np.abs(out.numpy() - oracle).max() <= 1e-4
    # In float64 what remains is Pillow's own rounding to float32 between its passes.
    wide = K.magic_resample(x.double(), scale=ratio, kernel=kernel, impl=impl)
    assert np.abs(wide.numpy() - oracle).max() <= 4e-5


@pytest.mark.parametrize("size", [(700, 333), (301, 800), (290, 90), (80, 600), (600, 80)])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_stripes_equal_pillow(size: tuple[int, int], layout: torch.memory_format) -> None:
    """Heights over and under one stripe; each axis up or down."""
    x = picture(319, 197)
    out = K.magic_resample(x.contiguous(memory_format=layout), size=size, impl="torch")
    assert np.abs(out.numpy() - pillow(x, size, "mks2021")).max() <= 1e-4


@pytest.mark.parametrize(("kernel", "scale"), PHASES)
def test_phase_tables(kernel: str, scale: int) -> None:
    phases = phase_weights(kernel, scale)
    taps, denominator = PHASES[kernel, scale]
    outer = np.array(taps) / denominator
    np.testing.assert_allclose(phases[0], outer, atol=1e-15)
    np.testing.assert_allclose(phases[-1], outer[::-1], atol=1e-15)
    if (kernel, scale) in INNER_PHASES:
        taps, denominator = INNER_PHASES[kernel, scale]
        np.testing.assert_allclose(phases[1], np.array(taps) / denominator, atol=1e-15)


def test_composite_polynomials() -> None:
    """The published piecewise quadratics of k(x) = sum_j s_j m(x - j)."""
    x = np.linspace(0, 5, 4001)
    pieces: list[tuple[float, Callable[[np.ndarray], np.ndarray]]] = [
        (0.5, lambda x: 577 / 576 - 239 / 144 * x**2),
        (1.5, lambda x: (140 * x**2 - 379 * x + 239) / 144),
        (2.5, lambda x: -(24 * x**2 - 113 * x + 130) / 144),
        (3.5, lambda x: (4 * x**2 - 27 * x + 45) / 144),
        (4.5, lambda x: -((x - 4.5) ** 2) / 288),
        (np.inf, np.zeros_like),
    ]
    expected = np.select([x <= end for end, _ in pieces], [piece(x) for _, piece in pieces])
    np.testing.assert_allclose(FILTERS["mks2021"](x), expected, atol=1e-14)
    assert FILTERS["mks2021"].lags == pytest.approx((-70 / 144, 12 / 144, -2 / 144), abs=1e-15)


@pytest.mark.parametrize("kernel", ["magic", "mks2013", "mks2021", "mks_v7"])
def test_partition_of_unity_and_linear_ramps(kernel: str) -> None:
    """Away from the edges the weights sum to 1 without normalisation and reproduce x, whatever the phase."""
    offset = np.linspace(-0.5, 0.5, 101)[:, None]
    taps = np.arange(-10, 11)
    weights = FILTERS[kernel](taps - offset)
    np.testing.assert_allclose(weights.sum(1), 1, atol=1e-13)
    np.testing.assert_allclose((weights * taps).sum(1), offset[:, 0], atol=1e-13)


@pytest.mark.parametrize(("n_in", "n_out"), [(1, 1), (1, 7), (7, 1), (2, 5), (13, 5), (5, 13), (1000, 999), (97, 11)])
@pytest.mark.parametrize("kernel", FILTERS)
def test_rows_are_normalised_and_in_range(kernel: str, n_in: int, n_out: int) -> None:
    start, weights = axis_weights(kernel, n_in, n_out)
    np.testing.assert_allclose(weights.sum(1), 1, atol=1e-12)
    assert (np.diff(start) >= 0).all()
    assert start[0] >= 0
    assert start[-1] + weights.shape[1] <= n_in


@pytest.mark.parametrize("impl", ["torch", "reference"])
@pytest.mark.parametrize("size", [(1, 1), (1, 9), (9, 1), (3, 2)])
@pytest.mark.parametrize("scale", [4, 1.5, 1, 0.3])
def test_tiny_constant_pictures_stay_constant(size: tuple[int, int], scale: float, impl: Impl) -> None:
    out = K.magic_resample(torch.full((2, 3, *size), 0.7), scale=scale, impl=impl)
    assert out.shape[2:] == tuple(max(1, round(n * scale)) for n in size)
    torch.testing.assert_close(out, torch.full_like(out, 0.7), rtol=0, atol=3e-7)


@pytest.mark.parametrize("impl", ["torch", "reference"])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("channels", [1, 3, 4, 64])
@pytest.mark.parametrize("scale", [2, (0.5, 3)])
def test_memory_format_is_kept(scale: float, channels: int, layout: torch.memory_format, impl: Impl) -> None:
    x = picture(19, 26, channels, batch=2)
    out = K.magic_resample(x.contiguous(memory_format=layout), scale=scale, impl=impl)
    assert out.is_contiguous(memory_format=layout)
    expected = K.magic_resample(x.double(), scale=scale, impl="reference").float()
    torch.testing.assert_close(out, expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("height", [20, 160])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_only_the_result_is_rounded(dtype: torch.dtype, height: int) -> None:
    """16-bit inputs are widened before the first product: the result is the float64 one, rounded once."""
    x = (picture(height, 17) / 255).to(dtype)
    exact = K.magic_resample(x.double(), scale=2, impl="reference")
    out = K.magic_resample(x, scale=2, impl="torch")
    assert out.dtype == dtype
    allowed = exact.abs() * torch.finfo(dtype).eps / 2 + 1e-6 * (dtype != torch.float64) + 1e-14
    assert ((out.double() - exact).abs() <= allowed).all()


@pytest.mark.parametrize("size", [(20, 17), (160, 33)])
@pytest.mark.parametrize("impl", ["torch", "reference"])
def test_uint8_is_rounded_and_clipped(size: tuple[int, int], impl: Impl) -> None:
    x = torch.where(picture(*size) > 128, 255, 0).to(torch.uint8)
    out = K.magic_resample(x, scale=2, impl=impl)
    exact = K.magic_resample(x.double(), scale=2, impl="reference")
    assert out.dtype == torch.uint8
    assert exact.min() < -1
    assert exact.max() > 256
    assert (out - exact.clamp(0, 255)).abs().max() <= 0.5 + 1e-4


def test_views_and_other_strides() -> None:
    x = picture(40, 50)
    for view in (x[..., 3:33, 5:44], x.transpose(2, 3), x[:, :1].expand(2, 3, 40, 50)):
        expected = K.magic_resample(view.contiguous(), scale=2)
        torch.testing.assert_close(K.magic_resample(view, scale=2), expected, rtol=0, atol=0)


def test_stays_fp32_under_autocast() -> None:
    x = picture(20, 30)
    with torch.autocast("cpu", torch.bfloat16):
        for impl in ("torch", "reference"):
            out = K.magic_resample(x, scale=2, gains=torch.rand(1, 6, 1, 1), impl=impl)
            assert out.dtype == torch.float32
        inside = K.magic_resample(x, scale=2)
    torch.testing.assert_close(inside, K.magic_resample(x, scale=2), rtol=0, atol=0)


def test_same_size_is_the_identity() -> None:
    x = picture(31, 18)
    for impl in ("torch", "reference"):
        assert torch.equal(K.magic_resample(x, scale=1, impl=impl), x)
        one_axis = K.magic_resample(x, scale=(1, 2), impl=impl)
        torch.testing.assert_close(one_axis[:, :, 5:6], K.magic_resample(x[:, :, 5:6], scale=(1, 2), impl=impl))


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({}, ValueError, "give size .* or scale"),
        ({"size": 4, "scale": 2}, ValueError, "one of the two"),
        ({"scale": 0}, ValueError, "scale must be positive and finite, got 0"),
        ({"scale": float("nan")}, ValueError, "scale must be positive"),
        ({"scale": (1, 2, 3)}, ValueError, r"scale must be one number or \(height, width\)"),
        ({"size": (4, 0)}, ValueError, r"size must be positive integers \(height, width\), got \(4, 0\)"),
        ({"size": 4.5}, ValueError, "size must be positive integers"),
        ({"scale": 2, "kernel": "mks2020"}, ValueError, "kernel must be one of magic, mks2013.*'mks2020'"),
        ({"scale": 2, "impl": "cuda"}, ValueError, "impl must be one of"),
        ({"scale": 2, "impl": "triton"}, ImplUnavailableError, "use impl='auto' or 'torch'"),
    ],
)
def test_wrong_arguments(arguments: dict, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        K.magic_resample(torch.rand(1, 3, 8, 8), **arguments)


@pytest.mark.parametrize(
    ("x", "error", "words"),
    [
        (torch.rand(3, 8, 8), ValueError, r"x must have 4 dimensions \[B C H W\]"),
        (torch.rand(1, 3, 0, 8), ValueError, "must not be empty"),
        (torch.ones(1, 3, 8, 8, dtype=torch.int32), TypeError, "x must be one of .*uint8, got int32"),
        (np.ones((1, 3, 8, 8)), TypeError, "x must be a tensor"),
    ],
)
def test_wrong_pictures(x: Tensor, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        K.magic_resample(x, scale=2)

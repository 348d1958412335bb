"""The real-world degradation: its kernels against their formulas, and a result that depends on its arguments alone."""

import numpy as np
import pytest
import torch
from scipy import ndimage, special

from sr_engine.data.blur import gaussian_family, random_kernel, sinc
from sr_engine.data.realworld import RealWorld, _add_noise, filter2d, real_world_down
from sr_engine.errors import DataError

HR = np.random.default_rng(0).integers(0, 256, (96, 120, 3), dtype=np.uint8)


def test_gaussian_kernel_has_its_covariance() -> None:
    theta, sigma = 0.7, (2.0, 1.0)
    kernel = gaussian_family(41, sigma, theta).astype(np.float64)
    y, x = np.mgrid[-20:21, -20:21]
    rotation = np.array([[np.cos(theta), -np.sin(theta)], [np.sin(theta), np.cos(theta)]])
    expected = rotation @ np.diag(np.square(sigma)) @ rotation.T
    moments = [[(kernel * p * q).sum() for q in (x, y)] for p in (x, y)]
    np.testing.assert_allclose(moments, expected, rtol=1e-3)


def test_generalised_and_plateau_shapes() -> None:
    radius = 3.0
    for beta in (0.5, 2.0):
        flat = gaussian_family(21, (2.0, 2.0), 0.0, beta)
        assert flat[10, 13] / flat[10, 10] == pytest.approx(np.exp(-0.5 * (radius / 2) ** (2 * beta)), rel=1e-5)
        plateau = gaussian_family(21, (2.0, 2.0), 0.0, beta, "plateau")
        assert plateau[10, 13] / plateau[10, 10] == pytest.approx(1 / (1 + (radius / 2) ** (2 * beta)), rel=1e-5)


def test_sinc_is_the_circular_low_pass() -> None:
    kernel = sinc(21, 1.5)
    y, x = np.mgrid[-10:11, -10:11]
    r = np.hypot(x, y)
    with np.errstate(invalid="ignore"):
        expected = 1.5 * special.j1(1.5 * r) / (2 * np.pi * r)
    expected[10, 10] = 1.5**2 / (4 * np.pi)
    np.testing.assert_allclose(kernel, expected / expected.sum(), atol=1e-6)


def test_random_kernels_are_normalised_and_within_size() -> None:
    rng, sides, defaults = np.random.default_rng(1), set(), RealWorld()
    for _ in range(300):
        kernel = random_kernel(
            rng,
            names=defaults.kernel_list,
            probabilities=defaults.kernel_prob,
            sigma=defaults.blur_sigma,
            betag=defaults.betag_range,
            betap=defaults.betap_range,
            sinc_prob=defaults.sinc_prob,
            max_size=21,
        )
        sides.add(kernel.shape[0])
        assert kernel.sum() == pytest.approx(1, abs=1e-5)
    assert sides == set(range(7, 22, 2))


@pytest.mark.parametrize("shape", [(3, 40, 33), (3, 5, 30)])
def test_filter_equals_direct_correlation(shape: tuple[int, ...]) -> None:
    rng = np.random.default_rng(2)
    x, kernel = rng.random(shape, np.float32), rng.random((11, 11), np.float32)
    mode = "mirror" if min(shape[1:]) > 5 else "nearest"
    expected = [ndimage.correlate(channel.astype(np.float64), kernel.astype(np.float64), mode=mode) for channel in x]
    np.testing.assert_allclose(filter2d(torch.from_numpy(x), kernel), expected, rtol=1e-4)


@pytest.mark.parametrize("gray", [0.0, 1.0])
def test_noise_has_the_strength_asked_for(gray: float) -> None:
    x = torch.full((3, 200, 200), 0.5)
    options = RealWorld(gaussian_noise_prob=1.0, noise_range=(10.0, 10.0), gray_noise_prob=gray)
    noise = _add_noise(x, np.random.default_rng(0), options, "") - x
    assert noise.std().item() * 255 == pytest.approx(10, rel=0.05)
    assert torch.equal(noise[0], noise[1]) == (gray == 1.0)
    # Photon noise: a picture of 64 levels has 64 photons at white, so that the variance is mean / 64.
    levels = torch.arange(64).repeat(625).reshape(1, 200, 200).repeat(3, 1, 1) / 255.0
    options = RealWorld(gaussian_noise_prob=0.0, poisson_scale_range=(1.0, 1.0), gray_noise_prob=gray)
    bright = levels + 64 / 255
    noise = (_add_noise(bright, np.random.default_rng(0), options, "") - bright).numpy()
    assert noise.var() == pytest.approx(float(bright.mean()) / 64, rel=0.05)


@pytest.mark.parametrize("scale", [1, 2, 3, 4])
def test_depends_on_its_arguments_alone(scale: int) -> None:
    results = [real_world_down(HR, scale, RealWorld(), np.random.default_rng(seed)) for seed in (0, 0, 1)]
    assert results[0].shape == (96 // scale, 120 // scale, 3)
    assert results[0].dtype == np.uint8
    assert np.array_equal(results[0], results[1])
    assert not np.array_equal(results[0], results[2])


def test_mean_colour_survives() -> None:
    hr = np.broadcast_to(np.array([200, 90, 40], np.uint8), (96, 96, 3))
    mild = RealWorld(noise_range=(1, 1), noise_range2=(1, 1), gaussian_noise_prob=1, gaussian_noise_prob2=1)
    for seed in range(12):
        low = real_world_down(hr, 4, mild, np.random.default_rng(seed))
        assert np.abs(low.mean((0, 1)) - [200, 90, 40]).max() < 8  # JPEG rounds the colour of a flat block


@pytest.mark.parametrize(
    "wrong",
    [
        {"noise_range": (5, 1)},
        {"blur_sigma": (0, 1)},
        {"betag_range": (2, 4)},
        {"resize_prob": (0, 0, 0)},
        {"kernel_list": ("iso",)},
    ],
)
def test_impossible_parameters_are_refused(wrong: dict) -> None:
    with pytest.raises(DataError, match="real_world: "):
        RealWorld(**wrong)

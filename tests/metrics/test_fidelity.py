import math

import numpy as np
import pytest
from PIL import Image
from skimage.color import rgb2ycbcr
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from sr_engine.errors import DataError
from sr_engine.metrics import psnr_rgb, psnr_y, rgb_to_y, ssim_y


def pair(shape=(41, 57, 3), noise=12.0):
    rng = np.random.default_rng(0)
    y, x = np.mgrid[: shape[0], : shape[1]]
    clean = (127 + 90 * np.sin(x / 6) * np.cos(y / 9))[..., None] + rng.standard_normal((1, 1, 3)) * 10
    clean = np.broadcast_to(clean, (*shape[:2], 3))[..., : shape[2]]
    return tuple(
        np.clip(np.round(z), 0, 255).astype(np.uint8) for z in (clean + noise * rng.standard_normal(shape), clean)
    )


def test_luma_is_studio_range_bt601():
    colours = np.array([[[0, 0, 0], [255, 255, 255], [255, 0, 0], [0, 255, 0], [0, 0, 255]]], np.uint8)
    np.testing.assert_allclose(rgb_to_y(colours)[0], [16, 235, 81.481, 144.553, 40.966])
    image = np.random.default_rng(0).integers(0, 256, (9, 7, 3), np.uint8)
    np.testing.assert_allclose(rgb_to_y(image), rgb2ycbcr(image)[..., 0], rtol=1e-12)


@pytest.mark.parametrize("shave", [0, 2, 4])
def test_psnr_equals_skimage(shave):
    sr, hr = pair()
    a, b = (rgb2ycbcr(z)[shave : 41 - shave, shave : 57 - shave, 0] for z in (sr, hr))
    assert psnr_y(sr, hr, shave=shave) == pytest.approx(peak_signal_noise_ratio(b, a, data_range=255), rel=1e-12)


def test_psnr_of_rgb_equals_skimage():
    sr, hr = pair()
    assert psnr_rgb(sr, hr) == pytest.approx(peak_signal_noise_ratio(hr, sr, data_range=255), rel=1e-12)
    assert psnr_rgb(hr, hr) == math.inf
    with pytest.raises(DataError, match="one shape"):
        psnr_rgb(sr, hr[:-1])


def test_psnr_of_a_known_error():
    hr = np.full((8, 8, 3), 100, np.uint8)
    step = 10 * 219 / 255  # 10 grey levels are this many steps of luma
    assert psnr_y(hr + 10, hr, shave=1) == pytest.approx(20 * math.log10(255 / step))
    assert psnr_y(hr, hr, shave=1) == math.inf


@pytest.mark.parametrize("shave", [0, 3])
def test_ssim_equals_skimage_on_whole_windows(shave):
    sr, hr = pair()
    a, b = (rgb2ycbcr(z)[shave : 41 - shave, shave : 57 - shave, 0] for z in (sr, hr))
    full = structural_similarity(
        a, b, gaussian_weights=True, sigma=1.5, use_sample_covariance=False, data_range=255, full=True
    )[1]
    assert ssim_y(sr, hr, shave=shave) == pytest.approx(full[5:-5, 5:-5].mean(), rel=1e-12)
    assert ssim_y(hr, hr, shave=shave) == 1.0


@pytest.mark.parametrize("metric", [psnr_y, ssim_y])
def test_grey_counts_as_three_equal_channels(metric):
    sr, hr = pair((41, 57, 1))
    expected = metric(np.repeat(sr, 3, 2), np.repeat(hr, 3, 2), shave=4)
    assert metric(sr, hr, shave=4) == pytest.approx(expected, rel=1e-9)
    assert metric(sr[..., 0], hr, shave=4) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("metric", [psnr_y, ssim_y])
@pytest.mark.parametrize(
    ("sr", "hr", "shave", "message"),
    [
        (np.zeros((8, 9, 3), np.uint8), np.zeros((8, 8, 3), np.uint8), 0, r"\(8, 9\) and hr \(8, 8\)"),
        (np.zeros((8, 8, 3)), np.zeros((8, 8, 3), np.uint8), 0, "sr is float64"),
        (np.zeros((8, 8, 3), np.uint8), np.zeros((8, 8, 3), np.uint16), 0, "hr is uint16"),
        (np.zeros((8, 8, 3), np.uint8), np.zeros((8, 8, 3), np.uint8), 4, "shave 4"),
        (np.zeros((8, 8, 3), np.uint8), np.zeros((8, 8, 3), np.uint8), -1, "shave -1"),
        (np.zeros((8, 8, 4), np.uint8), np.zeros((8, 8, 4), np.uint8), 0, r"shape \(8, 8, 4\) has no luma"),
    ],
)
def test_unfit_pictures_are_explained(metric, sr, hr, shave, message):
    with pytest.raises(DataError, match=message):
        metric(sr, hr, shave=shave)


def test_ssim_of_less_than_a_window_is_refused():
    image = np.zeros((18, 30, 3), np.uint8)
    with pytest.raises(DataError, match=r"11 pixels.*\(10, 22\)"):
        ssim_y(image, image, shave=4)


def bicubic_pair(path, scale):
    hr = Image.open(path).convert("RGB")
    width, height = (side - side % scale for side in hr.size)
    hr = hr.crop((0, 0, width, height))
    lr = hr.resize((width // scale, height // scale), Image.Resampling.BICUBIC)
    return np.asarray(lr.resize((width, height), Image.Resampling.BICUBIC)), np.asarray(hr)


@pytest.mark.parametrize(("folder", "psnr", "ssim"), [("Set5", 28.42, 0.8104), ("BSD100", 25.96, None)])
def test_published_bicubic_scores_are_reproduced(folder, psnr, ssim, shared_data):
    pairs = [bicubic_pair(path, 4) for path in sorted((shared_data / "test" / folder).iterdir())]
    assert np.mean([psnr_y(*p, shave=4) for p in pairs]) == pytest.approx(psnr, abs=0.02)
    if ssim is not None:
        assert np.mean([ssim_y(*p, shave=4) for p in pairs]) == pytest.approx(ssim, abs=2e-3)

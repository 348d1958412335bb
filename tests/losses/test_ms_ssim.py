import numpy as np
import pytest
import torch
from scipy.signal import convolve2d
from skimage.metrics import structural_similarity

from sr_engine.losses.inputs import LossInputs
from sr_engine.losses.ms_ssim import MSSSIMLoss, ms_ssim

WEIGHTS = [0.0448, 0.2856, 0.3001, 0.2363, 0.1333]


def pictures(height, width, seed=0):
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    clean = np.stack([0.5 + 0.4 * np.sin(x / 7 + i) * np.cos(y / (5 + i)) for i in range(3)])
    return clean, np.clip(clean + 0.1 * rng.standard_normal(clean.shape), 0, 1)


def oracle(a, b, scales, window=11):
    """MS-SSIM of one channel after the 2003 paper, by 2-D convolution in float64."""
    at = np.arange(window) - window // 2
    gauss = np.exp(-(at[:, None] ** 2 + at[None] ** 2) / (2 * 1.5**2))
    gauss /= gauss.sum()

    def mean(z):
        return convolve2d(z, gauss, mode="valid")

    weights, value = np.array(WEIGHTS[:scales]) / sum(WEIGHTS[:scales]), 1.0
    for j in range(scales):
        if j:
            h, w = (n // 2 * 2 for n in a.shape)
            a, b = (z[:h, :w].reshape(h // 2, 2, w // 2, 2).mean((1, 3)) for z in (a, b))
        ma, mb = mean(a), mean(b)
        va, vb, cov = mean(a * a) - ma**2, mean(b * b) - mb**2, mean(a * b) - ma * mb
        cs = (2 * cov + 9e-4) / (va + vb + 9e-4)
        lum = (2 * ma * mb + 1e-4) / (ma**2 + mb**2 + 1e-4)
        value *= (cs if j < scales - 1 else lum * cs).mean() ** weights[j]
    return value


@pytest.mark.parametrize(
    ("size", "scales"),
    [((176, 180), 5), ((175, 300), 4), ((90, 88), 4), ((87, 90), 3), ((44, 44), 3), ((43, 60), 2), ((22, 30), 2)],
)
def test_equals_the_paper_with_as_many_scales_as_fit(size, scales):
    a, b = pictures(*size)
    expected = [oracle(a[c], b[c], scales) for c in range(3)]
    value = ms_ssim(torch.from_numpy(a)[None], torch.from_numpy(b)[None])[0]
    np.testing.assert_allclose(value, expected, rtol=1e-9)
    single = ms_ssim(torch.from_numpy(a)[None].float(), torch.from_numpy(b)[None].float())[0]
    np.testing.assert_allclose(single, expected, rtol=1e-4)


def test_one_scale_is_the_ssim_of_skimage():
    a, b = pictures(21, 17)
    full = structural_similarity(
        a, b, data_range=1, gaussian_weights=True, sigma=1.5, use_sample_covariance=False, channel_axis=0, full=True
    )[1]
    value = ms_ssim(torch.from_numpy(a)[None], torch.from_numpy(b)[None])[0]
    np.testing.assert_allclose(value, full[:, 5:-5, 5:-5].mean((1, 2)), rtol=1e-9)


@pytest.mark.parametrize(("side", "window"), [(10, 9), (9, 9), (4, 3), (1, 1)])
def test_window_shrinks_to_a_tiny_picture(side, window):
    a, b = pictures(side, side + 3)
    value = ms_ssim(torch.from_numpy(a)[None], torch.from_numpy(b)[None])[0]
    np.testing.assert_allclose(value, [oracle(a[c], b[c], 1, window) for c in range(3)], rtol=1e-9)


def test_loss_is_zero_for_equal_pictures_and_grows_with_noise():
    a, b = (torch.from_numpy(z)[None].float() for z in pictures(64, 64))
    values = [MSSSIMLoss()(LossInputs(a + t * (b - a), a, a)).item() for t in (0, 0.3, 1)]
    assert values[0] == pytest.approx(0, abs=1e-6)
    assert values[0] < values[1] < values[2] < 1


def test_gradient_is_finite_for_opposite_pictures():
    a = torch.from_numpy(pictures(48, 48)[0])[None].float()
    sr = (1 - a).requires_grad_()
    loss = MSSSIMLoss()(LossInputs(sr, a, a))
    loss.backward()
    assert sr.grad is not None
    assert torch.isfinite(loss)
    assert torch.isfinite(sr.grad).all()


def test_gradient_equals_finite_differences():
    a, b = (torch.from_numpy(z[:, :24, :23])[None] for z in pictures(24, 24))
    b = b[:, :1].requires_grad_()
    assert torch.autograd.gradcheck(lambda x: ms_ssim(x, a[:, :1]).sum(), (b,), fast_mode=True)


def test_autocast_does_not_reach_the_moments():
    a, b = (torch.from_numpy(z)[None].float() for z in pictures(32, 32))
    expected = 1 - ms_ssim(b, a).mean()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(MSSSIMLoss()(LossInputs(b, a, a)), expected)

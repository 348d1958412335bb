"""Linear light: the curves of IEC 61966-2-1, and what means of light look like."""

import numpy as np
import pytest
import torch

from sr_engine.infer.light import to_display, to_linear
from sr_engine.infer.upscaler import Upscaler
from tests.infer.test_upscaler import random


def test_the_curves_have_the_values_of_the_standard():
    x = torch.tensor([0.0, 0.04045, 10 / 255, 11 / 255, 0.5, 188 / 255, 1.0], dtype=torch.float64)
    expected = [0.0, 0.0031308, 0.00303527, 0.00334654, 0.21404114, 0.50288646, 1.0]
    torch.testing.assert_close(to_linear(x), torch.tensor(expected, dtype=torch.float64), atol=5e-8, rtol=1e-6)


def test_there_and_back_is_nothing_for_16_bits():
    x = torch.arange(65536, dtype=torch.float32) / 65535
    assert torch.equal((to_display(to_linear(x)) * 65535).round(), x * 65535)


def test_what_lies_outside_is_clipped_and_nan_stays():
    x = torch.tensor([-0.5, 1.5, torch.nan])
    for curve in (to_linear, to_display):
        torch.testing.assert_close(curve(x)[:2], torch.tensor([0.0, 1.0]), atol=1e-7, rtol=0)
        assert curve(x)[2].isnan()


def checkerboard(shape, dtype: type = np.float32) -> np.ndarray:
    picture = (np.indices(shape[:2]).sum(0) % 2 * (255 if dtype == np.uint8 else 1)).astype(dtype)
    return picture if len(shape) == 2 else np.repeat(picture[..., None], shape[2], 2)


@pytest.mark.parametrize("shape", [(64, 64), (64, 64, 3)])
@pytest.mark.parametrize("name", ["bicubic", "mks2021"])
def test_a_fine_checkerboard_keeps_its_light(name, shape):
    """Reduced to a few pixels it is the grey that emits half of white's light, 187.5, and not 127.5."""
    picture = checkerboard(shape, np.uint8)
    light, displayed = (Upscaler(name, scale=1, linear=flag)(picture, size=(8, 8)) for flag in (True, False))
    assert abs(light - 187.5).max() <= 1
    assert abs(displayed - 127.5).max() <= 1


@pytest.mark.parametrize("scale", [2, 3])
def test_a_coarse_checkerboard_keeps_its_light_when_enlarged(scale):
    """Values far enough from black and white that nothing is clipped: the mean of light is what it was."""
    low, high = 0.35, 0.65
    picture = (low + (high - low) * checkerboard((40, 40)).repeat(4, 0).repeat(4, 1)).astype(np.float64)

    def mean(values: np.ndarray) -> float:
        inner = values[scale * 16 : -scale * 16, scale * 16 : -scale * 16]
        return to_linear(torch.from_numpy(inner)).mean().item()

    before = to_linear(torch.from_numpy(picture)).mean().item()
    assert abs(mean(Upscaler("mks2021", scale=scale, linear=True)(picture)) - before) < 1e-6
    assert abs(mean(Upscaler("mks2021", scale=scale)(picture)) - before) > 1e-4, "the test could not notice"


def test_in_one_step_and_by_the_tiles_is_the_same():
    picture = random((50, 40, 3), np.float32)
    up = Upscaler("mks2021", scale=2, linear=True, tile=32)
    decoded = to_linear(torch.from_numpy(picture)).numpy()
    plain = Upscaler("mks2021", scale=2, tile="off")(decoded)
    expected = to_display(torch.from_numpy(plain)).numpy()
    # Near black an encoded value is 12.92 times as uncertain as the light it stands for.
    np.testing.assert_allclose(up(picture), expected, atol=3e-5)


def test_a_network_never_sees_light():
    picture = random((40, 40, 4), np.uint8)
    plain, linear = (Upscaler("tiny-x2", linear=flag, precision="fp32", device="cpu") for flag in (False, True))
    assert np.array_equal(plain(picture), linear(picture))
    a, b = plain(picture, size=(50, 50)), linear(picture, size=(50, 50))
    assert not np.array_equal(a[..., :3], b[..., :3]), "its result is resized in light"
    assert np.array_equal(a[..., 3], b[..., 3]), "alpha is no light"


def test_tensors_and_flat_pictures():
    x = torch.full((2, 3, 20, 20), 0.3)
    out = Upscaler("mks2021", scale=2, linear=True)(x, size=(33, 7))
    torch.testing.assert_close(out, torch.full((2, 3, 33, 7), 0.3), atol=1e-6, rtol=0)

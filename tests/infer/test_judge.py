"""Whether an output keeps to its input: reduced again, and its mean colour."""

import math

import numpy as np
import pytest
from PIL import Image

from sr_engine.data import EvalPair
from sr_engine.data.bicubic import bicubic_down
from sr_engine.infer.judge import colour_shift, reduced_psnr
from sr_engine.infer.upscaler import Upscaler


def picture(height=40, width=48) -> np.ndarray:
    """Smooth, of no extreme value, so that nothing is clipped."""
    small = np.random.default_rng(0).integers(60, 196, (height // 4, width // 4, 3), np.uint8)
    return np.asarray(Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC))


def pair_of(hr: np.ndarray, scale: int) -> EvalPair:
    return EvalPair("one", bicubic_down(hr, scale), hr)


@pytest.mark.parametrize("scale", [2, 4])
def test_the_original_reduces_to_the_input(scale):
    hr = picture()
    assert reduced_psnr(hr, pair_of(hr, scale)) == math.inf


def test_a_cast_shows_in_both():
    hr = picture()
    pair = pair_of(hr, 4)
    cast = hr + np.array([0, 3, 0], np.uint8)
    assert reduced_psnr(cast, pair) == pytest.approx(10 * math.log10(255**2 / 3), abs=0.1)  # one channel of three by 3
    clean = colour_shift(Upscaler("bicubic", scale=4)(pair.lr), pair)
    assert clean < 0.05
    assert colour_shift(Upscaler("bicubic", scale=4)(pair.lr) + np.array([0, 3, 0], np.uint8), pair) == pytest.approx(
        3, abs=0.05
    )


def test_a_darker_channel_counts_as_a_brighter_one():
    pair = pair_of(picture(), 2)
    up = Upscaler("bicubic", scale=2)(pair.lr)
    assert colour_shift(up - np.array([2, 0, 1], np.uint8), pair) == pytest.approx(2, abs=0.05)


def test_detail_that_the_reduction_does_not_see_costs_little():
    hr = picture()
    checks = np.indices(hr.shape[:2]).sum(0)[..., None] % 2 * 8
    pair = pair_of(hr, 4)
    assert reduced_psnr((hr + checks - 4).astype(np.uint8), pair) > 50

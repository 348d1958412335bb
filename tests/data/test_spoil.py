"""The fixed defect: as strong as asked for, the same every time, JPEG as Pillow writes it."""

import io
from typing import Any

import numpy as np
import pytest
from PIL import Image as Pillow

from sr_engine.data.spoil import spoil
from sr_engine.errors import DataError

LR = np.random.default_rng(0).integers(0, 256, (40, 51, 3), dtype=np.uint8)
GREY = np.full((100, 100, 3), 128, np.uint8)


def test_nothing_asked_for_is_the_picture_in_new_memory() -> None:
    out = spoil(LR, noise=0, jpeg=None, seed=0)
    assert np.array_equal(out, LR)
    assert not np.shares_memory(out, LR)


def test_noise_has_its_strength_in_each_channel() -> None:
    difference = spoil(GREY, noise=6.0, jpeg=None, seed="a") - 128.0
    assert difference.std((0, 1)) == pytest.approx([6.0] * 3, rel=0.05)
    assert difference.mean() == pytest.approx(0, abs=0.1)
    assert abs(np.corrcoef(difference[..., 0].ravel(), difference[..., 1].ravel())[0, 1]) < 0.05


def test_jpeg_follows_the_noise_with_halved_colours() -> None:
    noisy = spoil(LR, noise=3.0, jpeg=None, seed="b")
    buffer = io.BytesIO()
    Pillow.fromarray(noisy).save(buffer, "JPEG", quality=60, subsampling=2)
    assert np.array_equal(spoil(LR, noise=3.0, jpeg=60, seed="b"), np.asarray(Pillow.open(buffer)))


def test_the_result_depends_on_the_seed_alone() -> None:
    """Numbers as drawn when this was written: a score of another day or process is of the same pictures."""
    assert spoil(GREY, noise=20.0, jpeg=None, seed="baby")[0, :4, 0].tolist() == [156, 89, 135, 118]
    drawn = [spoil(GREY, noise=2.0, jpeg=None, seed=seed).tobytes() for seed in (0, 1, "1", "a")]
    assert len(set(drawn)) == 4


def test_grey_pictures_of_one_channel_stay_so() -> None:
    assert spoil(LR[:, :, :1], noise=2.0, jpeg=80, seed=0).shape == (40, 51, 1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"lr": LR.astype(np.float32)}, "uint8"),
        ({"lr": LR[:, :, 0]}, "uint8"),
        ({"noise": -1.0}, "noise must be"),
        ({"noise": float("nan")}, "noise must be"),
        ({"jpeg": 0}, "jpeg must be"),
        ({"jpeg": 101}, "jpeg must be"),
    ],
)
def test_impossible_arguments_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        spoil(**{"lr": LR, "noise": 0.0, "jpeg": None, "seed": 0} | arguments)

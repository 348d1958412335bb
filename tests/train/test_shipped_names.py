"""Models that come with the package are named in configurations as anywhere else."""

from pathlib import Path

import pytest
import torch

from sr_engine.errors import EngineError
from sr_engine.models import files
from sr_engine.models.files import load_model, read_model_file, save_model
from sr_engine.models.generator import Generator
from sr_engine.train import run
from sr_engine.train.distributed import World
from sr_engine.train.session import Session

NANO = "network_g={type: generator, preset: nano, width: 16, stages: 2}"
CPU = World(torch.device("cpu"))


@pytest.fixture(autouse=True)
def shipped(tmp_path: Path, teacher: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The teacher's network, folded, under the name of one that comes along."""
    monkeypatch.setattr(files, "SHIPPED", tmp_path / "weights")
    save_model(tmp_path / "weights" / "tiny-x2.safetensors", load_model(teacher), licence="Apache-2.0")


def test_load_from_a_name_starts_from_its_folded_weights(make_config) -> None:
    net = Session(make_config(NANO, "load_from=tiny-x2"), CPU).net_g
    assert isinstance(net, Generator)
    x = torch.rand(1, 3, 9, 8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(net.eval()(x), load_model("tiny-x2")(x), rtol=1e-4, atol=1e-4)


def test_load_from_a_name_of_another_scale(make_config) -> None:
    session = Session(make_config(NANO, "scale=4", "load_from=tiny-x2"), CPU)
    assert session.transferred is not None
    assert session.transferred.resized == ["tail.weight", "tail.bias"]


def test_the_teacher_may_be_a_name(tmp_path: Path, make_config, quiet) -> None:
    overrides = ("training.patch_size=8", "training.total_iter=1", "datasets.val=null", "distill={teacher: tiny-x2}")
    run(make_config(NANO, *overrides), output=tmp_path / "run", device="cpu", console=quiet)
    noted = read_model_file(tmp_path / "run").spec.training["distill"]["teacher"]
    assert (noted["name"], noted["licence"]) == ("tiny-x2", "Apache-2.0")


@pytest.mark.parametrize("override", ["load_from=tiny-x3", "distill={teacher: tiny-x3}"])
def test_a_name_that_does_not_exist_has_a_suggestion(make_config, override: str) -> None:
    with pytest.raises(EngineError, match=r"did you mean 'tiny-x2'.*names are: tiny-x2"):
        Session(make_config(NANO, override), CPU)

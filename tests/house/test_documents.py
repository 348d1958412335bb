"""What the documents show works: the README's configuration and error, and CONTRIBUTING's loss as a plugin."""

import re
from pathlib import Path

import pytest
import torch

from sr_engine.cli.registrations import load_all
from sr_engine.config import registry
from sr_engine.config.load import load_config
from sr_engine.errors import ConfigError
from sr_engine.losses.bank import LossBank
from sr_engine.losses.inputs import LossInputs

ROOT = Path(__file__).parents[2]


def blocks(document: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", (ROOT / document).read_text(encoding="utf-8"), re.S)


@pytest.fixture(autouse=True)
def _registered() -> None:
    load_all()


def test_readme_configuration_is_valid(tmp_path: Path) -> None:
    path = tmp_path / "x4.yml"
    path.write_text(blocks("README.md", "yaml")[0], encoding="utf-8")
    config = load_config(path)
    assert config.losses["feature_matching"].loss_weight.at(30000, config.training.total_iter) == pytest.approx(0.05)


def test_readme_error_is_what_the_program_says(tmp_path: Path) -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    shown = re.search(r"<!-- example: error -->\n```\n(.*?)\n```", text, re.S)
    assert shown is not None
    path = tmp_path / "x4.yml"
    lines = ["name: x4", "scale: 4", "datasets: {train: {type: demo}}", "losses: {pixel: {type: l1}}", "training:"]
    path.write_text("\n".join([*lines, "  totl_iter: 100\n"]), encoding="utf-8")
    with pytest.raises(ConfigError) as error:
        load_config(path)
    assert shown[1] in str(error.value).replace(str(path), "x4.yml").splitlines()


def test_contributing_loss_works_as_a_plugin(tmp_path: Path) -> None:
    (tmp_path / "my_losses.py").write_text(blocks("CONTRIBUTING.md", "python")[0], encoding="utf-8")
    path = tmp_path / "x4.yml"
    rest = "name: x\nscale: 4\ndatasets: {train: {type: demo}}\ntraining: {total_iter: 1000}\n"
    path.write_text(rest + blocks("CONTRIBUTING.md", "yaml")[0], encoding="utf-8")
    config = load_config(path)
    bank = LossBank(config.losses, total_iter=1000)
    sr = torch.arange(12.0).view(1, 1, 3, 4).requires_grad_()
    inputs = LossInputs(sr=sr, hr=torch.zeros(1, 1, 3, 4), lr=torch.zeros(1, 1, 1, 1))
    assert bank(inputs, 0).values.keys() == {"pixel"}
    assert bank(inputs, 1000).values["gradient"].item() == pytest.approx(1 + 4)
    assert "gradient" in registry.names("loss")
    path.write_text(path.read_text(encoding="utf-8").replace("order: 1", "ordr: 1"), encoding="utf-8")
    with pytest.raises(ConfigError, match="did you mean 'order'"):
        load_config(path)

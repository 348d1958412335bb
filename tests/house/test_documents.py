"""What the documents show works: the README's configuration and error, CONTRIBUTING's loss and family."""

import importlib.util
import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
import torch

from sr_engine.cli.registrations import load_all
from sr_engine.config import registry
from sr_engine.config.load import load_config
from sr_engine.dropin import accelerate
from sr_engine.dropin.families import FAMILIES
from sr_engine.dropin.fused import Fused
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


@pytest.fixture
def families() -> Iterator[list[type[Fused]]]:
    """The list that `register` adds to, put back afterwards."""
    before = [*FAMILIES]
    yield FAMILIES
    FAMILIES[:] = before


def module(path: Path, source: str) -> ModuleType:
    """A document's code as an imported file."""
    path.write_text(source, encoding="utf-8")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    return made


def test_contributing_family_is_swapped_and_its_mistake_is_found(tmp_path: Path, families: list[type[Fused]]) -> None:
    network, family = blocks("CONTRIBUTING.md", "python")[1:3]
    attention = module(tmp_path / "their_network.py", network).Attention(20, 2, window=4)
    before = len(families)
    module(tmp_path / "my_family.py", family)
    x = torch.randn(2, 8, 12, 20)
    expected = attention(x)
    _, report = accelerate(attention)
    assert [layer.family for layer in report.swapped] == ["their attention"]
    torch.testing.assert_close(attention(x), expected, rtol=1e-5, atol=1e-6)

    module(tmp_path / "wrong.py", family.replace("layer.pair_bias,", "-layer.pair_bias,"))
    _, report = accelerate(module(tmp_path / "again.py", network).Attention(20, 2, window=4))
    assert "its output differs from the original's" in report.summary()
    assert len(families) == before + 2

"""The configurations of the repository and the forms that users write, with everything that is really registered."""

import subprocess
import sys
from pathlib import Path

import pytest

from sr_engine.cli.registrations import load_all
from sr_engine.config import registry
from sr_engine.config.editor import json_schema
from sr_engine.config.load import dump_config, load_config, parse_config
from sr_engine.config.schema import WeightSchedule

ROOT = Path(__file__).parents[2]
FORMS = Path(__file__).parent / "forms"


@pytest.fixture(scope="module", autouse=True)
def rooms() -> None:
    load_all()


@pytest.mark.parametrize(
    "path", [*sorted(ROOT.glob("configs/*.yml")), *sorted(FORMS.glob("*.yml"))], ids=lambda p: p.name
)
def test_configurations_load_and_survive_a_dump(path: Path) -> None:
    if "type: spandrel" in path.read_text(encoding="utf-8"):
        pytest.importorskip("spandrel", reason="needs the extra: pip install 'sr-engine[zoo]'")
    config = load_config(path)
    assert parse_config(dump_config(config)) == config
    registry.get("network_g", config.network_g.type)(scale=config.scale, **config.network_g.arguments)
    for loss in config.losses.values():
        registry.build("loss", loss.type, **loss.arguments)


def test_scheduled_feature_matching() -> None:
    config = load_config(FORMS / "feature_matching.yml")
    matching = config.losses["feature_matching"]
    assert matching.type == "feature_matching"
    assert matching.arguments["layers"] == ["down1", "down2", -1]
    assert matching.loss_weight == WeightSchedule(start_iter=10000, final_weight=0.1, ramp="linear")
    assert matching.loss_weight.at(15000, config.training.total_iter) == pytest.approx(0.05)


def test_stages() -> None:
    assert load_config(FORMS / "stage_x2.yml").network_g.type == "generator"
    assert load_config(FORMS / "stage_x4.yml").load_from == "runs/stage_x2/model.safetensors"


def test_the_reference_page_is_up_to_date(tmp_path: Path) -> None:
    # In a process of its own: other tests register types for their own use in this one.
    made = tmp_path / "configuration.md"
    subprocess.run([sys.executable, "-m", "sr_engine", "schema", "--markdown", "-o", str(made)], cwd=ROOT, check=True)
    page = (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8")
    assert page == made.read_text(encoding="utf-8"), "run: sr-engine schema --markdown -o docs/configuration.md"


def test_the_schema_describes_what_is_registered() -> None:
    definitions = json_schema()["$defs"]
    kinds: tuple[registry.Kind, ...] = ("network_g", "network_d", "loss", "dataset", "scheduler")
    for kind in kinds:
        assert {f"{kind}.{name}" for name in registry.names(kind)} <= definitions.keys()

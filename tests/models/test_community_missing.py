"""Where the extra is not installed, one sentence says what to install, and everything else works."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

import sr_engine
from sr_engine.cli.registrations import load_all
from sr_engine.config.editor import json_schema
from sr_engine.config.load import parse_config
from sr_engine.config.reference import reference_page
from sr_engine.errors import ConfigError, EngineError, ModelFileError

INSTALL = r"pip install 'sr-engine\[zoo\]'\.$"

CONFIG = """
name: x2
scale: 2
network_g: {type: spandrel, arch: SwinIR, embed_dim: 12}
datasets: {train: {type: demo}}
losses: {pixel: {type: l1}}
training: {total_iter: 3}
"""


@pytest.fixture(autouse=True)
def _without_spandrel(monkeypatch: pytest.MonkeyPatch) -> None:
    load_all()
    monkeypatch.setitem(sys.modules, "spandrel", None)


@pytest.mark.parametrize("suffix", ["pth", "safetensors"])
def test_a_file_of_another_program(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"net.{suffix}"
    weights = {"conv.weight": torch.zeros(2)}
    save_file(weights, path) if suffix == "safetensors" else torch.save(weights, path)
    for use in (sr_engine.load_model, sr_engine.Upscaler):
        with pytest.raises(ModelFileError, match=INSTALL) as caught:
            use(path)
        assert str(caught.value).startswith(f"{path}: not a model file of sr-engine; ")


def test_a_configuration_names_the_line() -> None:
    with pytest.raises(ConfigError, match=r"^file:4: network_g\S*: networks of other projects need .*" + INSTALL):
        parse_config(CONFIG, "file")


def test_registering_there() -> None:
    with pytest.raises(EngineError, match="register_spandrel needs spandrel: " + INSTALL):
        sr_engine.register_spandrel()


def test_the_schema_is_the_same() -> None:
    assert "`arch`" in reference_page()
    assert "arch" in json_schema()["$defs"]["network_g.spandrel"]["properties"]


def test_nothing_imports_it_before_it_is_needed() -> None:
    code = (
        "import sys, sr_engine.train, sr_engine.infer.upscaler, sr_engine.models.community_register\n"
        "assert not {'spandrel', 'torchvision', 'timm'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[2], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr

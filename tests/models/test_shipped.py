"""The model files that come with the package: small, folded, whole, and telling where they are from."""

import re

import pytest
import torch

from sr_engine.layers.reparam import RepConv3x3
from sr_engine.models.card import scores
from sr_engine.models.files import SHIPPED, available_models, load_model, read_model_file

LARGEST = 4_000_000
NAMES = available_models() or [pytest.param("", marks=pytest.mark.skip(reason="no model comes with this version"))]


@pytest.mark.parametrize("name", NAMES)
def test_the_file_is_small_and_folded(name: str) -> None:
    assert (SHIPPED / f"{name}.safetensors").stat().st_size <= LARGEST
    assert read_model_file(name).folded
    assert not any(isinstance(module, RepConv3x3) for module in load_model(name, fold=False).modules())


@pytest.mark.parametrize("name", NAMES)
def test_it_upscales_by_what_its_name_says(name: str) -> None:
    scale = read_model_file(name).spec.scale
    assert re.search(rf"-x{scale}(-|$)", name)
    net = load_model(name)
    picture = torch.rand(1, 3, 9, 7, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        out = net(picture)
        flat = net(torch.full((1, 3, 16, 16), 0.5))
    assert out.shape == (1, 3, 9 * scale, 7 * scale)
    assert out.isfinite().all()
    assert (flat - 0.5).abs().mean() < 0.02, "a grey picture stays grey"


@pytest.mark.parametrize("name", NAMES)
def test_the_card_is_complete(name: str) -> None:
    spec = read_model_file(name).spec
    assert spec.licence == "Apache-2.0"
    facts = spec.training
    missing = [key for key in ("name", "iterations", "losses", "commit", "machine", "hours") if not facts.get(key)]
    assert not missing
    assert isinstance(facts["seed"], int)
    assert facts["recipe"]["dataset"]["degradation"]
    data = facts["data"]
    assert data["pictures"] == sum(data["licences"].values()) > 0
    assert data["attribution"]
    assert scores(spec)
    for title, score in scores(spec).items():
        assert 15 < score["psnr_y"] < 50, title
        assert score["pictures"] > 0

"""Our model files in spandrel's loader."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

import sr_engine
from sr_engine.models.files import DESCRIPTION, load_model, save_model
from sr_engine.models.generator import Generator

spandrel = pytest.importorskip("spandrel", reason="needs the extra: pip install 'sr-engine[zoo]'")


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch):
    """spandrel's main registry, put back afterwards."""
    main = spandrel.MAIN_REGISTRY
    kept = {name: getattr(main, name) for name in ("_architectures", "_ordered", "_by_id")}
    yield main
    for name, value in kept.items():
        setattr(main, name, value)


def write(path: Path, **arguments: object) -> None:
    torch.manual_seed(0)
    net = Generator(**{"scale": 2, "preset": "nano", "width": 8, "stages": 1, **arguments})  # pyright: ignore
    for parameter in net.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    save_model(path, net)


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"scale": 3, "steer": True, "film": True},
        {"scale": 1},
        {"preset": "small", "width": 16, "units": 1, "window": 4, "heads": 2, "kernel_size": 5, "kernel_channels": 4},
        {"preset": "resampler", "width": 32, "stages": 0},
    ],
)
@pytest.mark.parametrize("folded", [False, True])
def test_spandrel_loads_the_same_network(registry, tmp_path: Path, arguments: dict, folded: bool) -> None:
    sr_engine.register_spandrel()
    path = tmp_path / "model.safetensors"
    write(path, **arguments)
    if folded:
        save_model(path, load_model(path))
    descriptor = spandrel.ModelLoader().load_from_file(path)
    scale = arguments.get("scale", 2)
    assert isinstance(descriptor, spandrel.ImageModelDescriptor)
    assert (descriptor.scale, descriptor.input_channels, descriptor.output_channels) == (scale, 3, 3)
    assert descriptor.purpose == ("SR" if scale > 1 else "Restoration")
    assert descriptor.architecture.id == "sr-engine"
    x = torch.rand(1, 3, 9, 14)
    with torch.no_grad():
        assert torch.equal(descriptor(x), load_model(path)(x).clamp(0, 1))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_comes_back_as_it_went_in(registry, tmp_path: Path, dtype: torch.dtype) -> None:
    sr_engine.register_spandrel()
    write(tmp_path / "model.safetensors", steer=True, film=True)
    x = torch.rand(1, 3, 12, 16)
    expected = spandrel.ModelLoader().load_from_file(tmp_path / "model.safetensors")(x)
    got = spandrel.ModelLoader().load_from_file(tmp_path / "model.safetensors").to(dtype)(x.to(dtype))
    assert got.dtype == dtype
    assert (got.float() - expected).abs().mean() < 0.01


def test_calling_twice_is_harmless_and_others_still_load(registry, tmp_path: Path) -> None:
    sr_engine.register_spandrel()
    count = len(registry)
    sr_engine.register_spandrel()
    assert len(registry) == count
    assert registry.architectures("detection")[0].architecture.id == "sr-engine"  # nobody else's guess comes first
    net = registry["Compact"].architecture.load
    weights = {"body.0.weight": torch.rand(4, 3, 3, 3), "body.0.bias": torch.rand(4), "body.1.weight": torch.rand(4)}
    weights |= {"body.2.weight": torch.rand(12, 4, 3, 3), "body.2.bias": torch.rand(12)}
    assert registry.load(dict(weights)).architecture.id == net(dict(weights)).architecture.id == "Compact"


def test_a_file_without_a_description_is_refused_in_words(registry, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    write(path)
    tensors = load_file(path)
    del tensors[DESCRIPTION]
    save_file(tensors, path)
    with pytest.raises(spandrel.UnsupportedModelError):
        spandrel.ModelLoader().load_from_file(path)
    sr_engine.register_spandrel()
    with pytest.raises(spandrel.UnsupportedModelError, match="without a description among its weights"):
        spandrel.ModelLoader().load_from_file(path)


def test_weights_that_do_not_fit_the_description_are_refused(registry, tmp_path: Path) -> None:
    sr_engine.register_spandrel()
    path = tmp_path / "model.safetensors"
    write(path)
    tensors = load_file(path)
    del tensors["tail.bias"]
    save_file(tensors, path)
    with pytest.raises(spandrel.UnsupportedModelError, match=r"weight 'tail\.bias' does not fit the network"):
        spandrel.ModelLoader().load_from_file(path)

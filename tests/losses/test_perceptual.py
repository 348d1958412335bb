import builtins
import sys
import types

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from sr_engine.errors import ConfigError, ModelFileError
from sr_engine.losses.inputs import LossInputs
from sr_engine.losses.perceptual import REAL_ESRGAN, PerceptualLoss
from sr_engine.losses.vgg import VGG19, layer_names

SHALLOW = {"conv1_2": 0.1, "conv2_2": 1.0}
# Indices of convolutions in torchvision's vgg19().features, counted by hand from its printout.
TORCHVISION = {"conv1_2": 2, "conv2_2": 7, "conv3_4": 16, "conv4_4": 25, "conv5_4": 34}


def random_state(blocks):
    """torchvision's vgg19 state dict with random weights: a Sequential of convolutions, ReLUs and poolings."""
    torch.manual_seed(0)
    layers: list[nn.Module] = []
    cin = 3
    for width, count in [(64, 2), (128, 2), (256, 4), (512, 4), (512, 4)][:blocks]:
        for _ in range(count):
            conv = nn.Conv2d(cin, width, 3, padding=1)
            nn.init.kaiming_normal_(conv.weight)
            layers += [conv, nn.ReLU()]
            cin = width
        layers.append(nn.MaxPool2d(2))
    net = nn.Sequential(*layers)
    return net, {f"features.{name}": tensor for name, tensor in net.state_dict().items()}


@pytest.fixture(scope="module")
def shallow_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("vgg") / "vgg19.safetensors"
    save_file(random_state(2)[1], path)
    return path


def test_features_and_loss_equal_torchvisions_layout(tmp_path):
    net, state = random_state(5)
    torch.save({**state, "classifier.0.bias": torch.zeros(7)}, tmp_path / "vgg19.pth")
    loss = PerceptualLoss(weights=str(tmp_path / "vgg19.pth"))
    sr, hr = torch.rand(2, 1, 3, 40, 33)
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    expected = 0.0
    for name, index in TORCHVISION.items():
        fake, real = (net[: index + 1]((x - mean.view(3, 1, 1)) / std.view(3, 1, 1)) for x in (sr, hr))
        torch.testing.assert_close(loss.vgg(sr)[name], fake)
        expected += REAL_ESRGAN[name] * (fake - real).abs().mean().item()
    assert loss(LossInputs(sr, hr, sr)).item() == pytest.approx(expected, rel=1e-5)


def test_layer_names_count_as_torchvision_does():
    vgg = pytest.importorskip("torchvision.models.vgg")
    net = vgg.make_layers(vgg.cfgs["E"])
    convolutions = [i for i, layer in enumerate(net) if isinstance(layer, nn.Conv2d)]
    assert dict(zip(layer_names(), convolutions, strict=True)).items() >= TORCHVISION.items()


def test_network_is_frozen_and_not_saved(shallow_file):
    loss = PerceptualLoss(layers=SHALLOW, weights=str(shallow_file))
    assert list(loss.parameters()) == []
    assert loss.state_dict() == {}
    assert len(list(loss.buffers())) == 2 * 4 + 2  # nothing beyond conv2_2 is built
    sr = torch.rand(1, 3, 8, 8, requires_grad=True)
    loss(LossInputs(sr, torch.rand(1, 3, 8, 8), sr)).backward()
    assert sr.grad is not None
    assert sr.grad.abs().sum() > 0


@pytest.mark.parametrize("side", [1, 2, 5])
def test_tiny_pictures_work(side, shallow_file):
    loss = PerceptualLoss(layers=SHALLOW, weights=str(shallow_file))
    sr, hr = torch.rand(2, 1, 3, side, 7)
    assert torch.isfinite(loss(LossInputs(sr, hr, sr)))


def test_unknown_layer_is_explained(shallow_file):
    with pytest.raises(ConfigError, match=r"no layer 'conv3_5' \(did you mean 'conv3_\d'\?\); known are conv1_1"):
        PerceptualLoss(layers={"conv3_5": 1.0}, weights=str(shallow_file))
    with pytest.raises(ConfigError, match="empty"):
        PerceptualLoss(layers={}, weights=str(shallow_file))


@pytest.mark.parametrize("name", ["absent.pth", "absent.safetensors", "broken.pth", "broken.safetensors", "pickle.pth"])
def test_unreadable_weights_are_one_error(name, tmp_path, shallow_file):
    path = tmp_path / name
    if name.startswith("broken"):
        path.write_bytes(shallow_file.read_bytes()[:1000])
    elif name.startswith("pickle"):
        torch.save(nn.Conv2d(1, 1, 1), path)  # a whole module: needs arbitrary code to load
    with pytest.raises(ModelFileError, match=name):
        PerceptualLoss(layers=SHALLOW, weights=str(path))


def test_weights_of_another_network_are_named(tmp_path, shallow_file):
    with pytest.raises(ModelFileError, match=r"features.10.weight of shape \(256, 128, 3, 3\) expected, it is missing"):
        PerceptualLoss(weights=str(shallow_file))
    save_file({"features.0.weight": torch.zeros(32, 3, 3, 3)}, tmp_path / "other.safetensors")
    with pytest.raises(ModelFileError, match=r"of shape \(32, 3, 3, 3\)"):
        VGG19(["conv1_1"], str(tmp_path / "other.safetensors"))


@pytest.mark.parametrize("error", [ImportError("No module"), RuntimeError("operator torchvision::nms does not exist")])
def test_without_torchvision_and_file_the_remedy_is_named(error, monkeypatch):
    original = builtins.__import__

    def broken(name, *rest, **keywords):
        if name.startswith("torchvision"):
            raise error
        return original(name, *rest, **keywords)

    monkeypatch.setattr(builtins, "__import__", broken)
    with pytest.raises(ModelFileError, match=r"zoo.*weights: FILE.*leave out"):
        PerceptualLoss()


@pytest.fixture
def download(monkeypatch):
    """Stands for torchvision's download; returns or raises what is put in."""
    outcome = []

    def get_state_dict(**keywords):
        assert keywords["weights_only"]
        if isinstance(outcome[0], Exception):
            raise outcome[0]
        return outcome[0]

    models = types.ModuleType("torchvision.models")
    enum = types.SimpleNamespace(IMAGENET1K_V1=types.SimpleNamespace(get_state_dict=get_state_dict))
    models.VGG19_Weights = enum  # pyright: ignore[reportAttributeAccessIssue]
    monkeypatch.setitem(sys.modules, "torchvision", types.ModuleType("torchvision"))
    monkeypatch.setitem(sys.modules, "torchvision.models", models)
    return outcome


def test_download_is_torchvisions_own(download):
    download.append(random_state(2)[1])
    vgg = PerceptualLoss(layers=SHALLOW).vgg
    assert torch.equal(vgg.get_buffer("conv2_2_weight"), download[0]["features.7.weight"])


def test_failed_download_names_the_remedy(download):
    download.append(OSError("no route to host"))
    with pytest.raises(ModelFileError, match=r"could not download.*no route to host.*weights: FILE"):
        PerceptualLoss(layers=SHALLOW)

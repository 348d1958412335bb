import numpy as np
import pytest
import torch
from torch.nn import functional as F

from sr_engine.errors import ConfigError, TrainingError
from sr_engine.losses.feature_matching import FeatureMatchingLoss
from sr_engine.losses.inputs import LossInputs

NAMES = ["conv0", "down1", "down2", "up1"]
PICTURE = torch.zeros(1, 3, 4, 4)


def features(seed, sides=(8, 4, 2, 4)):
    torch.manual_seed(seed)
    return {name: torch.randn(2, 5 + i, side, side) for i, (name, side) in enumerate(zip(NAMES, sides, strict=True))}


def matching(fake, real, **arguments):
    return FeatureMatchingLoss(**arguments)(
        LossInputs(PICTURE, PICTURE, PICTURE, fake_features=fake, real_features=real)
    )


def errors(fake, real, criterion, eps=1e-3):
    differences = {n: fake[n].double().numpy() - real[n].double().numpy() for n in fake}
    reduce = {"l1": np.abs, "l2": np.square, "charbonnier": lambda d: np.sqrt(d * d + eps * eps)}[criterion]
    return {n: reduce(d).mean() for n, d in differences.items()}


@pytest.mark.parametrize("criterion", ["l1", "l2", "charbonnier"])
def test_all_layers_is_the_mean_of_their_distances(criterion):
    fake, real = features(0), features(1)
    expected = np.mean(list(errors(fake, real, criterion).values()))
    assert matching(fake, real, criterion=criterion).item() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(
    ("layers", "chosen"),
    [
        (["down1", "up1"], ["down1", "up1"]),
        ([0, 2], ["conv0", "down2"]),
        ([-1, -3], ["up1", "down1"]),
        (["conv0", "down1", -1], ["conv0", "down1", "up1"]),
        (NAMES, NAMES),
        ("all", NAMES),
    ],
)
def test_layers_by_name_and_index(layers, chosen):
    fake, real = features(0), features(1)
    each = errors(fake, real, "l1")
    assert list(FeatureMatchingLoss(layers=layers).resolve(NAMES)) == chosen
    assert matching(fake, real, layers=layers).item() == pytest.approx(np.mean([each[n] for n in chosen]), rel=1e-6)


@pytest.mark.parametrize("weights", [[1.0, 3.0], {"up1": 3.0}])
def test_layer_weights_make_a_weighted_mean(weights):
    fake, real = features(0), features(1)
    each = errors(fake, real, "l2")
    value = matching(fake, real, criterion="l2", layers=["conv0", -1], layer_weights=weights)
    assert value.item() == pytest.approx((each["conv0"] + 3 * each["up1"]) / 4, rel=1e-6)


def test_normalisation_removes_the_scale_of_a_layer():
    fake, real = features(0), features(1)
    loud = {"down1": 1000.0}
    scaled = [{n: f * loud.get(n, 1.0) for n, f in part.items()} for part in (fake, real)]
    assert matching(*scaled, normalize=True).item() == pytest.approx(
        matching(fake, real, normalize=True).item(), rel=1e-5
    )
    assert matching(*scaled).item() > 100 * matching(fake, real).item()
    each = errors(fake, real, "l1")
    expected = np.mean([each[n] / real[n].double().abs().mean().item() for n in NAMES])
    assert matching(fake, real, normalize=True).item() == pytest.approx(expected, rel=1e-5)


def test_normalisation_survives_a_dead_layer():
    dead = {n: torch.zeros(1, 4, 3, 3) for n in NAMES}
    assert matching(dead, dead, normalize=True).item() == 0


def test_real_features_are_resized_to_the_fake_ones():
    fake, real = features(0, sides=(8, 4, 2, 4)), features(1, sides=(16, 4, 3, 2))
    resized = {n: F.interpolate(r, size=fake[n].shape[2:], mode="bilinear", antialias=True) for n, r in real.items()}
    assert matching(fake, real).item() == pytest.approx(matching(fake, resized).item(), rel=1e-6)
    flat = {n: torch.full_like(r, 0.25) for n, r in real.items()}
    constant = {n: torch.full_like(f, 0.75) for n, f in fake.items()}
    assert matching(constant, flat).item() == pytest.approx(0.5, rel=1e-6)  # no edge effect


def test_another_number_of_channels_is_an_error():
    real = features(1)
    real["down1"] = real["down1"][:, :3]
    with pytest.raises(TrainingError, match=r"'down1' is \(2, 6, 4, 4\).*\(2, 3, 4, 4\)"):
        matching(features(0), real)


def test_gradient_reaches_fake_features_only():
    fake = {n: f.requires_grad_() for n, f in features(0).items()}
    real = {n: f.requires_grad_() for n, f in features(1).items()}
    matching(fake, real, layers=["down1", -1], normalize=True).backward()
    assert [n for n, f in fake.items() if f.grad is not None and f.grad.abs().sum() > 0] == ["down1", "up1"]
    assert all(f.grad is None for f in real.values())


def test_reduction_is_fp32():
    fake = {n: f.bfloat16() for n, f in features(0).items()}
    real = {n: f.bfloat16() for n, f in features(1).items()}
    expected = np.mean(list(errors(fake, real, "l2").values()))
    value = matching(fake, real, criterion="l2")
    assert value.dtype == torch.float32
    assert value.item() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"layers": ["donw1"]}, r"no layer 'donw1' \(did you mean 'down1'\?\).*0: conv0, 1: down1, 2: down2, 3: up1"),
        ({"layers": [4]}, "no layer 4;.*3: up1"),
        ({"layers": [-5]}, "no layer -5"),
        ({"layers": ["up1", -1]}, "up1 twice"),
        ({"layer_weights": {"head": 2.0}}, "no layer 'head'"),
        ({"layers": ["up1"], "layer_weights": {"conv0": 2.0}}, "conv0, which isn't among"),
        ({"layers": ["up1"], "layer_weights": [0.0]}, "all 0"),
        ({"layers": ["up1"], "layer_weights": [1.0, 2.0]}, "2 numbers"),
        ({"layer_weights": [1.0]}, "give one for each layer"),
        ({"layers": []}, "empty"),
    ],
)
def test_wrong_layers_are_explained(arguments, message):
    with pytest.raises(ConfigError, match=message):
        FeatureMatchingLoss(**arguments).resolve(NAMES)


def test_missing_discriminator_is_named():
    with pytest.raises(TrainingError, match="network_d"):
        FeatureMatchingLoss()(LossInputs(PICTURE, PICTURE, PICTURE))

"""Each loss reaches the generator, and none of them the discriminator during the generator's step."""

import pytest
import torch

from sr_engine.config import registry

LOSSES = [
    ("l1", {}),
    ("l2", {}),
    ("charbonnier", {}),
    ("fft", {}),
    ("ms_ssim", {}),
    ("consistency", {}),
    ("gan", {}),
    ("gan", {"gan_type": "lsgan"}),
    ("gan", {"gan_type": "hinge"}),
    ("gan", {"gan_type": "relativistic"}),
    ("feature_matching", {}),
    ("feature_matching", {"criterion": "l2", "layers": [-1], "normalize": True}),
    ("perceptual", {"layers": {"conv1_2": 1.0, "conv2_2": 1.0}}),
]


def build(name, arguments, vgg_file):
    if name == "perceptual":
        arguments = {**arguments, "weights": str(vgg_file)}
    return registry.build("loss", name, **arguments)


@pytest.fixture(scope="module")
def vgg_file(tmp_path_factory):
    torch.manual_seed(0)
    shapes = {0: (64, 3), 2: (64, 64), 5: (128, 64), 7: (128, 128)}
    state = {}
    for index, (cout, cin) in shapes.items():
        state[f"features.{index}.weight"] = torch.randn(cout, cin, 3, 3) * (2 / (9 * cin)) ** 0.5
        state[f"features.{index}.bias"] = torch.zeros(cout)
    path = tmp_path_factory.mktemp("vgg") / "vgg19.pth"
    torch.save(state, path)
    return path


def test_every_registered_loss_is_listed():
    ours = {name for name in registry.names("loss") if registry.get("loss", name).__module__.startswith("sr_engine.")}
    assert {name for name, _ in LOSSES} == ours


@pytest.mark.parametrize(("name", "arguments"), LOSSES)
def test_loss_changes_the_generators_gradient(name, arguments, vgg_file, scene):
    loss = build(name, arguments, vgg_file)
    pixel = registry.build("loss", "l1")
    gradients = []
    for extra in (0, 1):
        scene.net_g.zero_grad()
        inputs = scene.inputs(loss.needs)
        total = 0.5 * pixel(inputs) + (extra * loss(inputs) if extra else 0)
        total.backward()
        gradients.append([p.grad.clone() for p in scene.net_g.parameters()])
    for without, together in zip(*gradients, strict=True):
        assert torch.isfinite(together).all()
        assert (together - without).norm() > 1e-3 * without.norm()


@pytest.mark.parametrize(("name", "arguments"), LOSSES)
def test_loss_gives_the_discriminator_no_gradient(name, arguments, vgg_file, scene):
    loss = build(name, arguments, vgg_file)
    loss(scene.inputs(loss.needs)).backward()
    assert all(p.grad is None for p in scene.net_d.parameters())
    assert all(p.requires_grad for p in scene.net_d.parameters())  # it can train afterwards


@pytest.mark.parametrize(("name", "arguments"), LOSSES)
def test_a_step_down_the_gradient_lowers_the_loss(name, arguments, vgg_file, scene):
    loss = build(name, arguments, vgg_file)
    before = loss(scene.inputs(loss.needs))
    before.backward()
    norm = torch.stack([p.grad.square().sum() for p in scene.net_g.parameters()]).sum().sqrt()
    with torch.no_grad():
        for p in scene.net_g.parameters():
            p -= 1e-3 * p.grad / norm
    assert loss(scene.inputs(loss.needs)) < before


@pytest.mark.parametrize(("name", "arguments"), LOSSES)
def test_value_is_fp32_under_autocast(name, arguments, vgg_file, scene):
    loss = build(name, arguments, vgg_file)
    full = loss(scene.inputs(loss.needs))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inputs = scene.inputs(loss.needs)
        low = loss(inputs)
    assert inputs.sr.dtype == torch.float32  # the tiny generator adds its base in fp32
    assert low.dtype == torch.float32
    assert low.item() == pytest.approx(full.item(), rel=0.05)


@pytest.mark.parametrize(
    ("needs", "passes"), [(set(), 0), ({"fake"}, 1), ({"fake", "real"}, 2)], ids=["none", "fake", "both"]
)
def test_each_picture_is_seen_once(needs, passes, scene):
    scene.inputs(frozenset(needs))
    assert len(scene.net_d.passes) == passes

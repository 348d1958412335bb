import pytest
import torch
from torch import nn

from sr_engine.config import registry
from sr_engine.losses.discriminator import discriminator_loss, generator_inputs
from sr_engine.losses.gan import GANLoss
from sr_engine.models.discriminators import PatchGANDiscriminator, SpectralNormConv2d, UNetDiscriminator

pytestmark = pytest.mark.usefixtures("one_thread")


KINDS = [
    ("unet", {"width": 8}),
    ("unet", {"width": 4, "spectral_norm": False}),
    ("patchgan", {"width": 8}),
    ("patchgan", {"width": 4, "layers": 1, "spectral_norm": False}),
]
SIZES = [(1, 1), (1, 9), (7, 5), (8, 16), (33, 18)]


def build(name, arguments):
    torch.manual_seed(0)
    return registry.build("network_d", name, **arguments)


def test_default_unet_is_the_one_of_real_esrgan():
    # Its layers as (in, out, kernel); only the first and the last have a bias.
    layers = [(3, 64, 3), (64, 128, 4), (128, 256, 4), (256, 512, 4), (512, 256, 3), (256, 128, 3), (128, 64, 3)]
    layers += [(64, 64, 3), (64, 64, 3), (64, 1, 3)]
    expected = sum(cin * cout * k * k for cin, cout, k in layers) + 64 + 1
    assert sum(p.numel() for p in UNetDiscriminator().parameters()) == expected


def test_unet_is_wired_as_in_real_esrgan():
    net = build("unet", {"width": 4, "spectral_norm": False})
    w = dict(net.named_parameters())

    def conv(name, x, stride=1):
        y = nn.functional.conv2d(x, w[f"{name}.weight"], w.get(f"{name}.bias"), stride, padding=1)
        return torch.where(y > 0, y, 0.2 * y)

    def double(x):
        return nn.functional.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)

    x = torch.rand(1, 3, 16, 24)
    x0 = conv("conv0", x)
    x1 = conv("down1", x0, 2)
    x2 = conv("down2", x1, 2)
    x3 = double(conv("down3", x2, 2))
    x4 = double(conv("up1", x3) + x2)
    x5 = double(conv("up2", x4) + x1)
    x6 = conv("up3", x5) + x0
    out = conv("head", conv("neck", x6))
    expected = nn.functional.conv2d(out, w["logits.weight"], w["logits.bias"], padding=1)
    torch.testing.assert_close(net(x).logits, expected)


def test_default_patchgan_sees_70_pixels():
    net = PatchGANDiscriminator(width=4, spectral_norm=False)
    x = torch.rand(1, 3, 128, 128, requires_grad=True)
    (gradient,) = torch.autograd.grad(net(x).logits[0, 0, 7, 7], x)
    rows = gradient.abs().sum((0, 1, 3)).nonzero()
    assert rows.max() - rows.min() + 1 == 70


@pytest.mark.parametrize(("name", "arguments"), KINDS)
@pytest.mark.parametrize("size", SIZES)
def test_any_size_has_logits_and_named_features(name, arguments, size):
    net = build(name, arguments)
    logits, features = net(torch.rand(2, 3, *size))
    assert logits.dtype == torch.float32
    assert logits.shape[:2] == (2, 1)
    assert torch.isfinite(logits).all()
    assert tuple(features) == net.feature_names
    assert "logits" not in features
    assert all(f.shape[0] == 2 and f.numel() > 0 for f in features.values())


@pytest.mark.parametrize("size", SIZES)
def test_unet_maps_fit_the_picture(size):
    h, w = size
    logits, features = UNetDiscriminator(width=4)(torch.rand(1, 3, h, w))
    assert logits.shape == (1, 1, h, w)
    steps = dict(zip(features, (1, 2, 4, 8, 4, 2, 1, 1), strict=True))
    assert {n: f.shape[2:] for n, f in features.items()} == {n: (-(-h // s), -(-w // s)) for n, s in steps.items()}


def test_unet_repeats_the_edge():
    net = build("unet", {"width": 4}).eval()
    x = torch.rand(1, 3, 13, 8)
    padded = torch.cat([x, x[:, :, -1:].expand(-1, -1, 3, -1)], 2)
    assert torch.equal(net(x).logits, net(padded).logits[:, :, :13])


@pytest.mark.parametrize(("name", "arguments"), KINDS)
def test_features_stay_as_they_were_captured(name, arguments):
    """Each is its convolution's activated output, whatever comes after: nothing works in place."""
    net = build(name, arguments).eval()
    seen: dict[nn.Module, torch.Tensor] = {}

    def keep(module, arguments, output):
        seen[module] = output.clone()

    convolutions = {n.split(".")[-1]: m for n, m in net.named_modules() if isinstance(m, nn.Conv2d)}
    for module in convolutions.values():
        module.register_forward_hook(keep)
    for layer, feature in net(torch.rand(1, 3, 32, 48)).features.items():
        assert torch.equal(feature, nn.functional.leaky_relu(seen[convolutions[layer]], 0.2)), layer


@pytest.mark.parametrize(("name", "arguments"), KINDS)
def test_pictures_of_a_batch_do_not_see_each_other(name, arguments):
    net = build(name, arguments).eval()
    x = torch.rand(3, 3, 24, 24)
    torch.testing.assert_close(net(x).logits[1:2], net(x[1:2]).logits)


def test_spectral_norm_is_the_largest_singular_value():
    torch.manual_seed(0)
    conv = SpectralNormConv2d(6, 10, 3)
    for _ in range(60):
        conv(torch.rand(1, 6, 4, 4))
    sigma = torch.linalg.matrix_norm(conv.weight.detach().double().flatten(1), 2)
    x = torch.rand(1, 6, 5, 5)
    expected = nn.functional.conv2d(x, conv.weight / sigma.float(), padding=1)
    torch.testing.assert_close(conv.eval()(x), expected, rtol=1e-4, atol=1e-5)


def test_spectral_norm_equals_torchs_with_its_gradient():
    torch.manual_seed(0)
    ours = SpectralNormConv2d(4, 6, 4, stride=2)
    theirs = nn.Conv2d(4, 6, 4, 2, padding=1, bias=False)
    theirs.load_state_dict({"weight": ours.weight.detach().clone()})
    nn.utils.parametrizations.spectral_norm(theirs, n_power_iterations=200)
    for _ in range(200):
        ours(torch.rand(1, 4, 8, 8))
    x = torch.rand(1, 4, 8, 8)
    a, b = ours(x), theirs(x)
    torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)
    a.square().sum().backward()
    b.square().sum().backward()
    torch.testing.assert_close(
        ours.weight.grad, theirs.get_parameter("parametrizations.weight.original").grad, rtol=1e-3, atol=1e-4
    )


def test_spectral_norm_moves_in_training_only_and_in_fp32():
    conv = SpectralNormConv2d(4, 6, 3)
    x, before = torch.rand(1, 4, 8, 8), conv.u.clone()
    conv.eval()(x)
    assert torch.equal(conv.u, before)
    conv.train()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        low = conv(x)
    moved = conv.u.clone()
    conv.u.copy_(before)
    conv(x)
    assert low.dtype == torch.bfloat16
    assert torch.equal(conv.u, moved)
    assert not torch.equal(moved, before)


@pytest.mark.parametrize(("name", "arguments"), KINDS)
@pytest.mark.parametrize("gan_type", ["vanilla", "relativistic"])
@pytest.mark.parametrize("low", [False, True], ids=["fp32", "bf16"])
def test_trains_at_odd_sizes(name, arguments, gan_type, low):
    net = build(name, arguments)
    real, fake = torch.rand(2, 2, 3, 19, 13)
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=low):
        report = discriminator_loss(GANLoss(gan_type=gan_type), net, real, fake)
    report.total.backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in net.parameters())
    sr = fake.requires_grad_()
    inputs = generator_inputs(net, sr, real, real, needs=frozenset({"fake", "real"}))
    assert inputs.fake_logits is not None
    (gradient,) = torch.autograd.grad(inputs.fake_logits.sum(), sr)
    assert gradient.abs().sum() > 0


@pytest.mark.parametrize(("name", "arguments"), KINDS)
def test_state_continues_exactly(name, arguments):
    first, second = build(name, arguments), build(name, arguments)
    first(torch.rand(1, 3, 16, 16))
    second.load_state_dict(first.state_dict())
    x = torch.rand(1, 3, 16, 16)
    assert torch.equal(first(x).logits, second(x).logits)

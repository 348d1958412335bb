import math
from typing import NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from sr_engine.errors import TrainingError
from sr_engine.losses.discriminator import discriminator_loss, frozen
from sr_engine.losses.gan import GANLoss, GANType, squared_gradient
from sr_engine.losses.inputs import LossInputs

R = np.array([[0.3, -1.2], [2.0, 0.1]])
F = np.array([[-0.4, 0.9], [0.2, -3.0]])


def softplus(x):
    return np.log1p(np.exp(x))


CLOSED_FORMS: dict[GANType, tuple[float, float]] = {
    "vanilla": (softplus(-F).mean(), softplus(-R).mean() + softplus(F).mean()),
    "lsgan": (((F - 1) ** 2).mean(), ((R - 1) ** 2).mean() + (F**2).mean()),
    "hinge": (-F.mean(), np.maximum(0, 1 - R).mean() + np.maximum(0, 1 + F).mean()),
    "relativistic": (softplus(R - F).mean(), softplus(F - R).mean()),
}


class Verdict(NamedTuple):
    logits: Tensor
    features: dict[str, Tensor]


class Quadratic(nn.Module):
    """One logit a picture, D(x) = a/2 |x|^2 + b sum(x): its gradient is a x + b."""

    def __init__(self, a: float, b: float) -> None:
        super().__init__()
        self.a, self.b = nn.Parameter(torch.tensor(a)), nn.Parameter(torch.tensor(b))

    def forward(self, x: Tensor) -> Verdict:
        return Verdict((0.5 * self.a * x.square() + self.b * x).flatten(1).sum(1, keepdim=True), {})


class PerPixel(Quadratic):
    """The same function as a logit for every pixel."""

    def forward(self, x: Tensor) -> Verdict:
        return Verdict((0.5 * self.a * x.square() + self.b * x).sum(1, keepdim=True), {})


@pytest.mark.parametrize("gan_type", CLOSED_FORMS)
def test_both_sides_have_their_closed_form(gan_type):
    gan = GANLoss(gan_type=gan_type)
    generator, discriminator = CLOSED_FORMS[gan_type]
    real, fake = torch.tensor(R), torch.tensor(F)
    assert gan.generator(fake, real).item() == pytest.approx(generator, rel=1e-6)
    assert gan.discriminator(real, fake).item() == pytest.approx(discriminator, rel=1e-6)


def test_huge_logits_stay_finite():
    for gan_type in CLOSED_FORMS:
        fake = torch.tensor([-1e4, 1e4], dtype=torch.float16, requires_grad=True)
        loss = GANLoss(gan_type=gan_type).generator(fake, torch.zeros(2, dtype=torch.float16))
        loss.backward()
        assert math.isfinite(loss.item())
        assert fake.grad is not None
        assert torch.isfinite(fake.grad).all()


@pytest.mark.parametrize("gan_type", CLOSED_FORMS)
def test_only_relativistic_looks_at_the_original(gan_type):
    gan = GANLoss(gan_type=gan_type)
    assert gan.needs == ({"fake", "real"} if gan_type == "relativistic" else {"fake"})
    assert GANLoss.needs == {"fake"}  # unchanged by the instance
    assert (gan.gradient_penalty > 0) == (gan_type == "relativistic")


def test_missing_discriminator_is_named():
    x = torch.zeros(1, 3, 4, 4)
    with pytest.raises(TrainingError, match="network_d"):
        GANLoss()(LossInputs(x, x, x))


@pytest.mark.parametrize("net", [Quadratic, PerPixel])
def test_penalty_has_its_closed_form_and_derivative(net):
    torch.manual_seed(0)
    real, fake = torch.rand(4, 3, 5, 6), torch.rand(4, 3, 5, 6)
    a, b, gamma, logits = 0.7, -0.2, 3.0, 1 if net is Quadratic else 30
    net_d = net(a, b)
    report = discriminator_loss(GANLoss(gan_type="hinge", gradient_penalty=gamma), net_d, real, fake)

    def squared(x):
        return ((a * x.double() + b) ** 2).flatten(1).sum(1).mean().item() / logits

    assert report.values["d_r1"].item() == pytest.approx(squared(real), rel=1e-5)
    assert report.values["d_r2"].item() == pytest.approx(squared(fake), rel=1e-5)
    penalty = gamma / 2 * (squared(real) + squared(fake))
    assert (report.total - report.values["d_loss"]).item() == pytest.approx(penalty, rel=1e-4)

    # d penalty / db = gamma/2 * sum over both of mean(2 sum(a x + b)) / logits, by a second backward pass.
    (report.total - GANLoss(gan_type="hinge").discriminator(net_d(real).logits, net_d(fake).logits)).backward()
    slope = sum(gamma * (a * x.double() + b).flatten(1).sum(1).mean().item() / logits for x in (real, fake))
    assert net_d.b.grad is not None
    assert net_d.b.grad.item() == pytest.approx(slope, rel=1e-4)


def test_penalty_is_the_same_on_small_and_large_pictures():
    net_d = PerPixel(0.5, 1.0)
    values = []
    for side in (8, 64):
        x = torch.full((1, 3, side, side), 0.3, requires_grad=True)
        values.append(squared_gradient(net_d(x).logits, x).item())
    assert values[0] == pytest.approx(values[1], rel=1e-5)


@pytest.mark.parametrize("gan_type", CLOSED_FORMS)
def test_discriminator_learns_and_the_generator_does_not(gan_type, scene):
    gan = GANLoss(gan_type=gan_type)
    fake = scene.net_g(scene.lr)
    report = discriminator_loss(gan, scene.net_d, scene.hr, fake)
    report.total.backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in scene.net_d.parameters())
    assert all(p.grad is None for p in scene.net_g.parameters())
    assert not any(value.requires_grad for value in report.values.values())
    assert len(scene.net_d.passes) == 1  # both in one batch
    with torch.no_grad():
        for p in scene.net_d.parameters():
            p -= 1e-3 * p.grad
    assert discriminator_loss(gan, scene.net_d, scene.hr, fake).total < report.total


def test_penalised_pass_is_fp32_under_autocast(scene):
    fake = scene.net_g(scene.lr)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        low = discriminator_loss(GANLoss(gan_type="relativistic"), scene.net_d, scene.hr, fake.bfloat16().float())
        assert torch.is_autocast_enabled("cpu")
    full = discriminator_loss(GANLoss(gan_type="relativistic"), scene.net_d, scene.hr, fake.bfloat16().float())
    assert torch.equal(low.total, full.total)


def test_frozen_leaves_parameters_as_they_were(scene):
    scene.net_d.first.bias.requires_grad_(False)
    with frozen(scene.net_d):
        assert not any(p.requires_grad for p in scene.net_d.parameters())
    assert [n for n, p in scene.net_d.named_parameters() if not p.requires_grad] == ["first.bias"]

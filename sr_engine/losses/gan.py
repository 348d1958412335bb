"""Adversarial losses on logits of any shape, computed in fp32."""

from typing import ClassVar, Literal

import torch
from pydantic import NonNegativeFloat
from torch import Tensor, nn
from torch.nn import functional as F

from sr_engine.config import registry
from sr_engine.errors import TrainingError
from sr_engine.losses.inputs import LossInputs

GANType = Literal["vanilla", "lsgan", "hinge", "relativistic"]


@registry.register("loss", "gan")
class GANLoss(nn.Module):
    """What the generator pays for being recognised; `discriminator` is the other side.

    With real logits r and fake logits f, averaged over batch and positions, and s = softplus:

    | gan_type | generator | discriminator | source |
    |---|---|---|---|
    | vanilla | s(-f) | s(-r) + s(f) | Goodfellow et al. 2014, non-saturating |
    | lsgan | (f - 1)^2 | (r - 1)^2 + f^2 | Mao et al. 2017, eq. 9 without its halves |
    | hinge | -f | max(0, 1 - r) + max(0, 1 + f) | Lim and Ye 2017 |
    | relativistic | s(r - f) | s(f - r) | R3GAN, Huang et al. 2024, eq. 2; r and f are of the same picture |

    Args:
        gradient_penalty: gamma of the zero-centred penalties gamma/2 (R1 + R2) on the discriminator; None is 1 for
            relativistic, which needs them to converge, and 0 (no penalty) for the others.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"fake"})

    def __init__(self, *, gan_type: GANType = "vanilla", gradient_penalty: NonNegativeFloat | None = None) -> None:
        super().__init__()
        self.gan_type = gan_type
        if gradient_penalty is None:
            gradient_penalty = 1.0 if gan_type == "relativistic" else 0.0
        self.gradient_penalty = gradient_penalty
        if gan_type == "relativistic":
            self.needs = frozenset({"fake", "real"})  # pyright: ignore[reportAttributeAccessIssue]

    def forward(self, inputs: LossInputs) -> Tensor:
        if inputs.fake_logits is None or (inputs.real_logits is None and "real" in self.needs):
            raise TrainingError(
                f"the {self.gan_type} gan loss needs a discriminator: add network_d to the configuration."
            )
        return self.generator(inputs.fake_logits, inputs.real_logits)

    def generator(self, fake: Tensor, real: Tensor | None = None) -> Tensor:
        """Loss of the generator; `real` is only looked at by relativistic, and gets no gradient."""
        fake = fake.float()
        if self.gan_type == "vanilla":
            return F.softplus(-fake).mean()
        if self.gan_type == "lsgan":
            return (fake - 1).square().mean()
        if self.gan_type == "hinge":
            return -fake.mean()
        assert real is not None
        return F.softplus(real.detach().float() - fake).mean()

    def discriminator(self, real: Tensor, fake: Tensor) -> Tensor:
        """Loss of the discriminator, without the penalty."""
        real, fake = real.float(), fake.float()
        if self.gan_type == "vanilla":
            return F.softplus(-real).mean() + F.softplus(fake).mean()
        if self.gan_type == "lsgan":
            return (real - 1).square().mean() + fake.square().mean()
        if self.gan_type == "hinge":
            return F.relu(1 - real).mean() + F.relu(1 + fake).mean()
        return F.softplus(fake - real).mean()


def squared_gradient(logits: Tensor, pictures: Tensor) -> Tensor:
    """(B,) squared norm of d(sum of a picture's logits)/d(picture) per logit, in fp32 and differentiable.

    Its mean over real pictures is R1, over fake ones R2, when a picture has one logit (Mescheder et al. 2018, eq. 9).
    Dividing by the number of logits makes a discriminator with a logit per pixel pay the same on small and on large
    pictures.

    Args:
        logits: (B, ...) computed from `pictures`, each from its own picture alone.
        pictures: (B,C,H,W) requiring grad.
    """
    (gradient,) = torch.autograd.grad(logits.sum(), pictures, create_graph=True)
    return gradient.float().square().flatten(1).sum(1) / logits[0].numel()

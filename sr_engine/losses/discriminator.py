"""The two meetings with the discriminator: what the generator hears from it, and its own loss.

A discriminator is any callable from (B,3,H,W) to an object with `logits` and `features`, as in
`sr_engine.models.discriminators`.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from sr_engine.losses.gan import GANLoss, squared_gradient
from sr_engine.losses.inputs import LossInputs


class Judgement(Protocol):
    """What a discriminator returns: logits of any shape (B, ...), and features by name in order of depth."""

    @property
    def logits(self) -> Tensor: ...
    @property
    def features(self) -> Mapping[str, Tensor]: ...


@dataclass(frozen=True, slots=True)
class DiscriminatorReport:
    """Loss of the discriminator: `total` with its graph (fp32 scalar), and detached numbers for the log.

    `values` holds d_loss (without penalty), d_real and d_fake (mean logits), and with a penalty d_r1 and d_r2.
    """

    total: Tensor
    values: dict[str, Tensor]


@contextmanager
def frozen(module: object) -> Iterator[None]:
    """Graphs recorded inside reach through `module` but never its parameters, also if backward runs afterwards."""
    parameters = [p for p in module.parameters() if p.requires_grad] if isinstance(module, nn.Module) else []
    for parameter in parameters:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in parameters:
            parameter.requires_grad_(True)


def generator_inputs(
    net_d: Callable[[Tensor], Judgement] | None,
    sr: Tensor,
    hr: Tensor,
    lr: Tensor,
    *,
    needs: frozenset[str],
    teacher: Tensor | None = None,
) -> LossInputs:
    """LossInputs of a generator step, with the discriminator passes that `needs` (LossBank.needs) asks for.

    The fake is seen once, for all losses together, and the original without a graph. Give the bare module rather than
    its DDP wrapper: no parameter of it gets a gradient here, which DDP would wait for.
    """
    if net_d is None or not needs:
        return LossInputs(sr, hr, lr, teacher)
    with frozen(net_d):
        fake = net_d(sr) if "fake" in needs else None
        with torch.no_grad():
            real = net_d(hr) if "real" in needs else None
    return LossInputs(
        sr,
        hr,
        lr,
        teacher,
        fake_logits=fake.logits if fake is not None else None,
        real_logits=real.logits if real is not None else None,
        fake_features=fake.features if fake is not None else None,
        real_features=real.features if real is not None else None,
    )


def discriminator_loss(
    gan: GANLoss, net_d: Callable[[Tensor], Judgement], real: Tensor, fake: Tensor
) -> DiscriminatorReport:
    """Loss of the discriminator on originals and on the generator's pictures, in one concatenated pass.

    Args:
        gan: the type of loss and the strength of the penalty.
        real, fake: (B,3,H,W) of one shape in [0,1]; `fake` is detached here.

    With a penalty the pass runs in fp32 outside autocast: it is differentiated twice, where bf16 has too few digits.
    """
    penalised = gan.gradient_penalty > 0
    device = real.device.type
    pictures = torch.cat([real.detach(), fake.detach().to(real.dtype)])
    with torch.autocast(device, enabled=torch.is_autocast_enabled(device) and not penalised):
        pictures = pictures.float().requires_grad_() if penalised else pictures
        logits = net_d(pictures).logits.float()
        real_logits, fake_logits = logits.chunk(2)
        total = loss = gan.discriminator(real_logits, fake_logits)
        values = {"d_loss": loss, "d_real": real_logits.mean(), "d_fake": fake_logits.mean()}
        if penalised:
            r1, r2 = (part.mean() for part in squared_gradient(logits, pictures).chunk(2))
            total = loss + 0.5 * gan.gradient_penalty * (r1 + r2)
            values |= {"d_r1": r1, "d_r2": r2}
    return DiscriminatorReport(total, {name: value.detach() for name, value in values.items()})

"""An iteration of the generator alone in which the host never waits for the device.

Losses and gradient are judged on the device: one that is not finite makes the optimiser and the average leave out this
update, and the host hears of it when it reads the numbers, an iteration later. So the host launches the next iteration
while the device computes this one, and the work on the device can be recorded as a CUDA graph.
"""

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Adam, AdamW

from sr_engine.errors import TrainingError
from sr_engine.losses.bank import LossBank
from sr_engine.losses.finite import check_finite
from sr_engine.losses.inputs import LossInputs
from sr_engine.train.ema import Ema
from sr_engine.train.graph import Recorded
from sr_engine.train.learner import Learner
from sr_engine.train.optim import gradient_norm
from sr_engine.train.pair import Pair, StepReport

_torch: Any = torch  # whose type stubs leave out operations with an underscore


class PlainStep:
    """Forward, losses, backward, clipping, optimiser and average of one batch.

    Args:
        generator: without a gradient scaler, on one rank, with an optimiser that can leave out an update on the device
            (see `obstacle`).
        record: whether the work on the device becomes a CUDA graph.
    """

    def __init__(
        self,
        generator: Learner,
        ema: Ema[nn.Module],
        bank: LossBank,
        dtype: torch.dtype,
        *,
        record: bool = False,
    ) -> None:
        self.generator, self.ema, self.bank, self.dtype = generator, ema, bank, dtype
        self._work = Recorded(self._on_device) if record else self._on_device
        self._scalars: dict[str, tuple[float, Tensor]] = {}
        self._one = torch.ones((), device=generator.device)

    @property
    def recorded(self) -> bool:
        """Whether iterations are replayed as a CUDA graph now."""
        return isinstance(self._work, Recorded) and self._work.replays

    def launch(self, pair: Pair, it: int, lr: float) -> "Launched":
        """Start iteration `it`."""
        weights = self.bank.weights(it)
        for name, weight in weights.items():
            self._set(f"loss {name}", weight)
        self._set("share", self.ema.share())
        self.generator.set_learning_rate(lr)
        inputs = (pair.lr, pair.hr) if pair.teacher is None else (pair.lr, pair.hr, pair.teacher)
        return Launched(self, weights, self._work(tuple(weights), *inputs))

    def _on_device(self, names: tuple[str, ...], lr: Tensor, hr: Tensor, teacher: Tensor | None = None) -> Tensor:
        """The update; returns the losses called `names` and the norm of the gradient, (len(names) + 1,) fp32."""
        generator = self.generator
        generator.drop_gradients()  # of a recording that failed: memory that was never computed
        with torch.autocast(generator.device.type, self.dtype, enabled=self.dtype != torch.float32):
            sr = generator.forward(lr)
        losses = self.bank.compute(LossInputs(sr, hr, lr, teacher), names)
        # Weights as the gradients of their losses: no launches for the weighted sum.
        pulling = [name for name, loss in losses.items() if loss.requires_grad]
        weights = [self._scalars[f"loss {name}"][1] for name in pulling]
        torch.autograd.backward([losses[name] for name in pulling], weights)
        norm = gradient_norm(generator.parameters, generator.clip)
        numbers = torch.stack([*(loss.detach().float() for loss in losses.values()), norm.float()])
        # GradScaler's own check, since isfinite takes eight launches; it multiplies by 1 what it is given.
        wrong = torch.zeros((), device=numbers.device)
        _torch._amp_foreach_non_finite_check_and_unscale_([numbers.clone()], wrong, self._one)
        generator.step_unless(wrong)
        generator.drop_gradients()
        share = self._scalars["share"][1]
        self.ema.follow(generator.net, torch.addcmul(share, share, wrong, value=-1))
        return numbers

    def _set(self, name: str, value: float) -> None:
        """Give a number to the device; one that stays costs nothing."""
        old, scalar = self._scalars.get(name, (math.nan, None))
        if scalar is None:
            scalar = torch.zeros((), device=self.generator.device)
        if value != old:
            scalar.fill_(value)
        self._scalars[name] = value, scalar


class Launched:
    """An iteration on its way; `settle` ends it."""

    def __init__(self, step: PlainStep, weights: dict[str, float], numbers: Tensor) -> None:
        self._step, self._weights, self._numbers = step, weights, numbers
        self._ready: Any = None
        if numbers.is_cuda:
            self._numbers = torch.empty(numbers.shape, pin_memory=True).copy_(numbers, non_blocking=True)
            self._ready = torch.cuda.Event()
            self._ready.record()

    def settle(self) -> StepReport:
        """Wait for the end of this iteration, and of nothing launched after it.

        Raises:
            NonFiniteLossError, NonFiniteGradientError: the update has been left out.
        """
        if self._ready is not None:
            self._ready.synchronize()
        *losses, norm = self._numbers.unbind()
        values = dict(zip(self._weights, losses, strict=True))
        try:
            check_finite(values)
            self._step.generator.check_norm(norm)
        except TrainingError:
            # One iteration late: the share of the next one was computed with a count that is one too high, which
            # matters in the first iterations only and there by little.
            self._step.ema.updates -= 1
            raise
        return StepReport(values, self._weights)


def obstacle(generator: Learner, bank: LossBank, *, accumulate: int, adversarial: bool) -> str | None:
    """Why iterations are not to be plain steps; None if they are."""
    group = generator.optimizer.param_groups[0]
    # Not SGD: its fused step makes momentum without filling it, so a first update left out leaves any numbers there.
    fused = isinstance(generator.optimizer, Adam | AdamW) and bool(group.get("fused"))
    reasons = {
        f"the device is {generator.device.type}": generator.device.type != "cuda",
        "there is a discriminator": adversarial,
        "accumulate is above 1": accumulate > 1,
        "balance reads gradients on the host": bank.balance is not None,
        "fp16 scales gradients on the host": generator.scaler.is_enabled(),
        "several processes train together": generator.parallel is not None,
        f"{type(generator.optimizer).__name__} cannot leave out an update on the device": not fused,
    }
    return next((reason for reason, holds in reasons.items() if holds), None)

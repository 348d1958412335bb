"""One iteration: an update of the generator, and of the discriminator where there is one.

Passes through the discriminator in one iteration with one part: the fake once for all losses of the generator together,
the original once if a loss compares with it (both with frozen weights, the original without a graph), then the fake and
the original for its own update.
"""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from sr_engine.losses.bank import LossBank
from sr_engine.losses.discriminator import discriminator_loss, generator_inputs
from sr_engine.losses.gan import GANLoss
from sr_engine.train.ema import Ema
from sr_engine.train.learner import Learner
from sr_engine.train.pair import Pair, StepReport
from sr_engine.train.plain import Launched, PlainStep


class Steps:
    """The updates of a run.

    Args:
        generator, discriminator: what is trained; no discriminator, no adversarial losses.
        ema: follows the generator's updates.
        bank: losses of the generator.
        accumulate: parts a batch is computed in; gradients are those of the whole batch.
        init_iters: iterations the discriminator is trained before the generator hears it.
        extra: further updates of the discriminator in each iteration, each on a batch of its own.
        dtype: of autocast; float32 means none.
        plain: computes an iteration without a discriminator, where waiting for the device in its middle costs time.

    Attributes:
        heard: first iteration in which a loss looks at the discriminator; None without one.
        d_trained: iterations the discriminator has been trained; part of a checkpoint.
    """

    def __init__(
        self,
        generator: Learner,
        discriminator: Learner | None,
        ema: Ema,
        bank: LossBank,
        *,
        accumulate: int,
        init_iters: int,
        extra: int,
        dtype: torch.dtype,
        plain: PlainStep | None = None,
    ) -> None:
        self.generator = generator
        self.discriminator = discriminator
        self.ema = ema
        self.bank = bank
        self.accumulate = accumulate
        self.init_iters = init_iters
        self.extra = extra
        self.dtype = dtype
        self.plain = plain
        self.device = generator.device
        self.heard = first_heard(bank) if discriminator is not None else None
        self.d_trained = 0
        # A discriminator that only serves feature matching still needs an objective of its own.
        self._gan = next((loss for loss in bank.losses.values() if isinstance(loss, GANLoss)), None) or GANLoss()
        self._last_layer = getattr(generator.net, "last_layer", None)

    def run(self, pair: Pair, it: int, *, lr_g: float, lr_d: float, next_pair: Callable[[], Pair]) -> StepReport:
        """Iteration `it`.

        Raises:
            NonFiniteLossError, NonFiniteGradientError: the update concerned has not been made, nor any after it in this
                iteration; gradients are dropped.
        """
        return self.launch(pair, it, lr_g=lr_g, lr_d=lr_d, next_pair=next_pair).settle()

    def launch(
        self, pair: Pair, it: int, *, lr_g: float, lr_d: float, next_pair: Callable[[], Pair]
    ) -> StepReport | Launched:
        """Start iteration `it`; `settle` of the result ends it. Errors of `run` come from either."""
        try:
            if self.plain is not None:
                return self.plain.launch(pair, it, lr_g)
            report = StepReport({}, {})
            if self.generator_waits(it):
                fakes = self._upscale(pair)
            else:
                report, fakes = self._update_generator(pair, it, lr_g)
            if self.discriminator is not None and self.discriminator_trains(it):
                report.values.update(self._update_discriminator(self.discriminator, pair, fakes, lr_d))
                for _ in range(self.extra):
                    pair = next_pair()
                    fakes = self._upscale(pair)
                    report.values.update(self._update_discriminator(self.discriminator, pair, fakes, lr_d))
                self.d_trained += 1
            return report
        except Exception:
            self.generator.drop_gradients()
            if self.discriminator is not None:
                self.discriminator.drop_gradients()
            raise

    def generator_waits(self, it: int) -> bool:
        """Whether iteration `it` only trains the discriminator, which the generator would hear too early."""
        return bool(self.bank.needs(it)) and self.d_trained < self.init_iters

    def discriminator_trains(self, it: int) -> bool:
        """Whether iteration `it` updates the discriminator: while it is heard, and `init_iters` before."""
        if self.heard is None:
            return False
        return bool(self.bank.needs(it)) or self.heard - self.init_iters <= it < self.heard

    def _update_generator(self, pair: Pair, it: int, lr: float) -> tuple[StepReport, list[Tensor]]:
        needs = self.bank.needs(it)
        # The bare network, not its DDP wrapper: its frozen weights get no gradient that DDP could wait for.
        net_d = self.discriminator.net if self.discriminator is not None else None
        values: list[dict[str, Tensor]] = []
        weights: dict[str, float] = {}
        fakes: list[Tensor] = []
        for part, last in self._parts(pair):
            with self.generator.exchanging(last):
                with self._autocast():
                    sr = self.generator.forward(part.lr)
                    inputs = generator_inputs(net_d, sr, part.hr, part.lr, needs=needs, teacher=part.teacher)
                report = self.bank(inputs, it, last_layer=self._last_layer)  # in fp32, outside of autocast
                self.generator.backward(self._share(report.total))
            values.append(report.values)
            weights = report.weights
            fakes.append(sr.detach())
        self.generator.step(lr)
        self.ema.update(self.generator.net)
        return StepReport(_mean(values), weights), fakes

    def _update_discriminator(self, learner: Learner, pair: Pair, fakes: list[Tensor], lr: float) -> dict[str, Tensor]:
        values: list[dict[str, Tensor]] = []
        for (part, last), fake in zip(self._parts(pair), fakes, strict=True):
            with learner.exchanging(last):
                with self._autocast():
                    report = discriminator_loss(self._gan, learner.forward, part.hr, fake)
                learner.backward(self._share(report.total))
            values.append(report.values)
        learner.step(lr)
        return _mean(values)

    @torch.no_grad()
    def _upscale(self, pair: Pair) -> list[Tensor]:
        with self._autocast():
            return [self.generator.net(part.lr) for part, _ in self._parts(pair)]

    def _parts(self, pair: Pair) -> Iterator[tuple[Pair, bool]]:
        """The batch in `accumulate` equal parts, each with whether it is the last."""
        for index, part in enumerate(pair.parts(self.accumulate), start=1):
            yield part, index == self.accumulate

    def _share(self, total: Tensor) -> Tensor:
        """What one part adds to the loss of the batch."""
        return total if self.accumulate == 1 else total / self.accumulate

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32)


def first_heard(bank: LossBank) -> int | None:
    """The first iteration in which a loss looks at the discriminator; None if none ever does."""
    starts = {config.loss_weight.start_iter for config in bank.configs.values()}
    turns = {0, *starts, *(start + 1 for start in starts)}  # a weight leaves 0 at these iterations only
    return next((it for it in sorted(turns) if bank.needs(it)), None)


def _mean(values: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    if len(values) == 1:
        return values[0]
    return {name: torch.stack([part[name] for part in values]).mean() for name in values[0]}

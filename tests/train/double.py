"""The generator and the discriminator with weights in float64, as plugins of a configuration."""

from typing import Any

from torch import Tensor

from sr_engine.config.registry import register
from sr_engine.models.discriminators import PatchGANDiscriminator
from sr_engine.models.generator import Generator


@register("network_g", "test_double")
class DoubleGenerator(Generator):
    def __init__(self, *, scale: Any, stages: int = 2, width: int = 16) -> None:
        super().__init__(scale=scale, preset="nano", stages=stages, width=width)
        self.double()

    def forward(self, x: Tensor, **options: Any) -> Tensor:
        return super().forward(x.double(), **options)


@register("network_d", "test_double")
class DoublePatchGAN(PatchGANDiscriminator):
    def __init__(self, *, width: int = 8) -> None:
        super().__init__(width=width)
        self.double()
        self.logits.register_forward_pre_hook(lambda _, inputs: (inputs[0].double(),))

    def forward(self, x: Tensor) -> Any:
        return super().forward(x.double())

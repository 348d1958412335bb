"""A loss that is not a number in one process alone, as a plugin of a configuration."""

import os

from torch import Tensor, nn

from sr_engine.config.registry import register
from sr_engine.losses.inputs import LossInputs


@register("loss", "test_nan_on_one")
class NanOnOne(nn.Module):
    needs: frozenset[str] = frozenset()

    def forward(self, inputs: LossInputs) -> Tensor:
        return inputs.sr.mean() * (float("nan") if os.environ["RANK"] == "1" else 1.0)

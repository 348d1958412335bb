"""The kinds of mappings that a configuration is made of: sections, entries with a `type`, weights over the training."""

import math
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, PositiveInt, model_validator
from pydantic_core import PydanticCustomError

from sr_engine.config.registry import Kind

NonNegative = Annotated[float, Field(ge=0)]


class Section(BaseModel):
    """A mapping with fixed keys; nothing is converted, except that a whole number may stand for a number."""

    model_config = ConfigDict(
        strict=True, extra="forbid", frozen=True, allow_inf_nan=False, use_attribute_docstrings=True
    )


@dataclass(frozen=True)
class Slot:
    """Marks a key whose value is an entry with a `type` of this kind (`each`: a mapping of names to such entries)."""

    kind: Kind
    default: str | None = None
    each: bool = False


class Typed(Section):
    """An entry with a `type`. In a file the arguments stand beside `type`: `{type: unet, width: 64}`."""

    type: str
    arguments: dict[str, Any] = {}


class WeightSchedule(Section):
    """The weight of a loss over the training. A plain number in its place is a constant weight."""

    start_iter: NonNegativeInt = 0
    """Iteration at which the ramp begins; before it the weight is `initial_weight`."""
    initial_weight: NonNegative = 0.0
    """Weight until `start_iter`. A loss is not computed while its weight is 0."""
    final_weight: NonNegative
    """Weight from the end of the ramp on."""
    ramp: Literal["linear", "cosine", "step"] = "linear"
    """Shape of the way from the initial to the final weight; `step` goes there at once, at `start_iter`."""
    ramp_iters: PositiveInt | None = None
    """Length of the ramp; without it the ramp ends with the training."""

    @model_validator(mode="before")
    @classmethod
    def _number_is_constant(cls, value: Any) -> Any:
        if isinstance(value, int | float) and not isinstance(value, bool):
            return {"initial_weight": value, "final_weight": value, "ramp": "step"}
        if not isinstance(value, dict | cls):
            raise PydanticCustomError(
                "expected", "a number or a schedule such as {start_iter: 1000, final_weight: 0.1}"
            )
        return value

    @model_validator(mode="after")
    def _step_has_no_length(self) -> Self:
        if self.ramp == "step" and self.ramp_iters is not None:
            raise PydanticCustomError("expected", "no ramp_iters together with ramp: step")
        return self

    @property
    def constant(self) -> bool:
        """Whether the weight is the same at every iteration."""
        return self.initial_weight == self.final_weight

    def at(self, it: int, total_iter: int) -> float:
        """Weight at iteration `it` of a training of `total_iter` iterations."""
        if it < self.start_iter:
            return self.initial_weight
        length = self.ramp_iters if self.ramp_iters is not None else total_iter - self.start_iter
        if self.ramp == "step" or it - self.start_iter >= length:
            return self.final_weight
        progress = (it - self.start_iter) / length
        if self.ramp == "cosine":
            progress = 0.5 - 0.5 * math.cos(math.pi * progress)
        return self.initial_weight + (self.final_weight - self.initial_weight) * progress


class LossConfig(Typed):
    """A loss: its type (default: the key it stands under), its weight, and the arguments of the type."""

    loss_weight: WeightSchedule = WeightSchedule(initial_weight=1.0, final_weight=1.0, ramp="step")
    """A number, or a schedule: the keys of [`loss_weight`](#losseskeyloss_weight)."""

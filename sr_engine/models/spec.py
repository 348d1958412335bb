"""What a model says about itself, in memory and in its file."""

from dataclasses import dataclass, field
from typing import Any, Protocol


@dataclass(frozen=True)
class ModelSpec:
    """All that is needed to build a network again and to run it rightly.

    Attributes:
        architecture: registered name of the network ("network_g").
        arguments: keyword arguments that build it; plain JSON values.
        scale: output side / input side.
        channels: of input and output.
        value_range: of input and output; the output may overshoot it.
        size_multiple: origins of tiles must be multiples of this, in input pixels; any input size is accepted.
        receptive_field: how far, in input pixels, the content of an output pixel reaches; None when unbounded. Which
            windows get attention (routing topk) is decided from the whole picture, so this is the reach given that
            choice: tiles must be told of it.
        parameters: of the network folded for inference.
        training: provenance: data, steps, losses, versions; plain JSON values.
        licence: of the weights.
    """

    architecture: str
    arguments: dict[str, Any]
    scale: int
    channels: int = 3
    value_range: tuple[float, float] = (0.0, 1.0)
    size_multiple: int = 1
    receptive_field: int | None = None
    parameters: int = 0
    training: dict[str, Any] = field(default_factory=dict)
    licence: str = "unspecified"


class HasSpec(Protocol):
    """A network that describes itself; whoever loads it adds provenance and licence to the description."""

    spec: ModelSpec

"""What a model says about itself, in memory and in its file."""

from dataclasses import dataclass, field
from typing import Any, Protocol

_LARGEST = 1 << 16  # of scales, channels and multiples: more than any, and products of them stay numbers


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


def read_spec(given: Any) -> ModelSpec:
    """A spec from its JSON in a file.

    Raises:
        ValueError: something is missing, unknown, or of another type; says what.
    """
    try:
        spec = ModelSpec(**{**given, "value_range": tuple(given["value_range"])})
    except (KeyError, TypeError) as error:
        raise ValueError(f"spec: {error}") from error
    counts = (spec.scale, spec.channels, spec.size_multiple)
    numbers = (*spec.value_range, spec.parameters, spec.receptive_field or 0)
    wrong = {
        "architecture": not isinstance(spec.architecture, str),
        "arguments": not isinstance(spec.arguments, dict),
        "scale, channels or size_multiple": any(type(n) is not int or not 1 <= n <= _LARGEST for n in counts),
        "value_range": len(spec.value_range) != 2,
        "value_range, parameters or receptive_field": any(
            type(n) not in (int, float) or not abs(n) < 2**63 for n in numbers
        ),
        "training": not isinstance(spec.training, dict),
        "licence": not isinstance(spec.licence, str),
    }
    if bad := [name for name, is_wrong in wrong.items() if is_wrong]:
        raise ValueError(f"spec: {bad[0]} cannot be what it says")
    return spec


class HasSpec(Protocol):
    """A network that describes itself; whoever loads it adds provenance and licence to the description."""

    spec: ModelSpec

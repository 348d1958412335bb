"""What `accelerate` did, layer by layer."""

import re
from collections import Counter
from dataclasses import dataclass


@dataclass(frozen=True)
class Layer:
    """One layer that was looked at.

    Attributes:
        name: dotted, in the network; "" is the network itself.
        kind: the class it had.
        family: whose adapter recognised it.
        error: largest difference to the original relative to its largest value; None where nothing was compared.
        reason: why it stayed as it was; None for a layer that was swapped.
    """

    name: str
    kind: str
    family: str
    error: float | None = None
    reason: str | None = None


@dataclass(frozen=True)
class Report:
    """All layers of a network that a family recognised.

    Attributes:
        layers: in the order of the network.
        note: why nothing was looked at, or what a reader should know; None if there is nothing to say.
    """

    layers: tuple[Layer, ...] = ()
    note: str | None = None

    @property
    def swapped(self) -> tuple[Layer, ...]:
        return tuple(layer for layer in self.layers if layer.reason is None)

    @property
    def left(self) -> tuple[Layer, ...]:
        return tuple(layer for layer in self.layers if layer.reason is not None)

    @property
    def error(self) -> float | None:
        """The largest of the swapped layers; None where nothing was compared."""
        return max((layer.error for layer in self.swapped if layer.error is not None), default=None)

    def summary(self) -> str:
        """One line."""
        if not self.layers:
            return self.note or "no attention layer that is known was found; the network is unchanged."
        families = Counter(layer.family for layer in self.swapped)
        text = f"{len(self.swapped)} of {len(self.layers)} attention layers swapped"
        if families:
            text += f" ({', '.join(f'{count} {family}' for family, count in families.items())})"
        if self.error is not None:
            text += f", largest difference {self.error:.1e}"
        for reason, count in Counter(layer.reason for layer in self.left).items():
            text += f"; {count} left as they were: {reason}"
        return text

    def __str__(self) -> str:
        """A line for each kind of layer, then the summary."""
        groups: dict[tuple[str, str, str, str | None], list[Layer]] = {}
        for layer in self.layers:
            groups.setdefault((re.sub(r"\b\d+\b", "*", layer.name), layer.kind, layer.family, layer.reason), []).append(
                layer
            )
        rows = [("layers", "", "class", "family", "result")]
        for (pattern, kind, family, _), layers in groups.items():
            name = pattern if len(layers) > 1 else layers[0].name
            rows.append((name or "(network)", str(len(layers)), kind, family, _result(layers)))
        widths = [max(len(row[i]) for row in rows) for i in range(4)]
        table = ["  ".join([*(cell.ljust(w) for cell, w in zip(row, widths, strict=False)), row[4]]) for row in rows]
        return "\n".join([*(table if self.layers else []), self.summary()])


def _result(layers: list[Layer]) -> str:
    """Of layers that share their reason."""
    if (reason := layers[0].reason) is not None:
        return f"left: {reason}"
    error = Report(tuple(layers)).error
    return "swapped" if error is None else f"swapped, differs by at most {error:.1e}"

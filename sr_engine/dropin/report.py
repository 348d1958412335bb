"""What `accelerate` did, layer by layer."""

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
        rows = [("layer", "class", "family", "result")]
        for layer in self.layers:
            done = "swapped" if layer.error is None else f"swapped, differs by {layer.error:.1e}"
            rows.append((layer.name or "(network)", layer.kind, layer.family, layer.reason or done))
        widths = [max(len(row[i]) for row in rows) for i in range(3)]
        table = ["  ".join([*(cell.ljust(w) for cell, w in zip(row, widths, strict=False)), row[3]]) for row in rows]
        return "\n".join([*(table if self.layers else []), self.summary()])

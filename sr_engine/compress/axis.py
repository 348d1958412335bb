"""What can be pruned, as data: an axis is one dimension of a network, with every tensor it runs through."""

import math
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

Kind = Literal["inner", "hidden", "heads", "width", "mlp"]
Kept = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True)
class Place:
    """One dimension of one parameter that an axis runs along.

    Index i of the axis stands there at `offset + i * span + (0 .. span - 1)`, for every offset.

    Attributes:
        parameter: name, as in the state dict.
        dim: of the parameter.
        offsets: more than one where a layer holds several maps in one tensor, such as q, k and v.
        span: entries an index takes, such as the channels of a head.
        limit: only indices below it are here; None = all.
        reads: whether these weights read what the index stands for, rather than write it. Without its readers an
            index has no effect.
    """

    parameter: str
    dim: int
    offsets: tuple[int, ...] = (0,)
    span: int = 1
    limit: int | None = None
    reads: bool = False

    def positions(self, kept: Sequence[int]) -> Tensor:
        """Where the kept indices stand along `dim`, ascending within each offset; int64."""
        steps = torch.tensor(kept[: self._present(kept)], dtype=torch.int64)
        once = (steps[:, None] * self.span + torch.arange(self.span)).flatten()
        return torch.cat([once + offset for offset in self.offsets])

    def length(self, kept: Sequence[int]) -> int:
        """Size of `dim` with these indices."""
        return len(self.offsets) * self.span * self._present(kept)

    def summed(self, values: Tensor, size: int) -> Tensor:
        """Sum `values`, of the parameter's shape, for each of the axis' `size` indices; zero for those not here."""
        line = values.movedim(self.dim, 0).reshape(values.shape[self.dim], -1).sum(1)
        here = size if self.limit is None else self.limit
        total = line.new_zeros(size)
        for offset in self.offsets:
            total[:here] += line[offset : offset + here * self.span].view(here, self.span).sum(1)
        return total

    def _present(self, kept: Sequence[int]) -> int:
        return len(kept) if self.limit is None else bisect_left(kept, self.limit)


@dataclass(frozen=True)
class Axis:
    """A prunable dimension of a network.

    Attributes:
        name: unique in the network.
        kind: `inner` channels between dense convolutions, `hidden` channels of a unit, attention `heads`, the residual
            `width` of the whole network, `mlp` channels of a transformer of another project.
        size: number of its indices.
        places: every tensor dimension it runs along.
        lead: for `width`, how many of the first channels the large kernel mixes.
    """

    name: str
    kind: Kind
    size: int
    places: tuple[Place, ...]
    lead: int = 0

    @property
    def step(self) -> int:
        """Sizes after pruning are multiples of this: 8, which suits vector units, where at least two smaller ones are
        left to choose from; less for small axes."""
        if self.kind == "heads":
            return 1
        return next((step for step in (8, 4, 2) if self.size >= 3 * step), 1)

    def floor(self, step: int) -> int:
        """The smallest size pruning leaves: a quarter, rounded up to a multiple of `step`."""
        return min(self.size, math.ceil(self.size / 4 / step) * step)


class Census:
    """Counts the parameters of a network for any choice of kept indices.

    Args:
        shapes: of all parameters that count, by name.
        axes: of the network.
    """

    def __init__(self, shapes: Mapping[str, torch.Size], axes: Sequence[Axis]) -> None:
        self._shapes = shapes
        self._places: dict[str, list[tuple[str, Place]]] = {name: [] for name in shapes}
        self._touched: dict[str, list[str]] = {}
        for axis in axes:
            places = [place for place in axis.places if place.parameter in shapes]
            self._touched[axis.name] = list(dict.fromkeys(place.parameter for place in places))
            for place in places:
                self._places[place.parameter].append((axis.name, place))

    def total(self, kept: Kept) -> int:
        """Parameters of the whole network."""
        return sum(self._numel(name, kept) for name in self._shapes)

    def saving(self, kept: Kept, axis: str, smaller: tuple[int, ...]) -> int:
        """Parameters that go when `axis` keeps only `smaller`."""
        after = {**kept, axis: smaller}
        return sum(self._numel(name, kept) - self._numel(name, after) for name in self._touched[axis])

    def _numel(self, name: str, kept: Kept) -> int:
        shape = list(self._shapes[name])
        for axis, place in self._places[name]:
            shape[place.dim] = place.length(kept[axis])
        return math.prod(shape)

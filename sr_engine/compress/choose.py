"""Which channels and heads go, for a share of parameters.

Inner channels go first: nothing else depends on them. From HEADS_FROM on whole heads go too, and from WIDTH_FROM on the
residual width shrinks by about the square root of what is to stay, so that wide and inner maps shrink alike: that is
where memory traffic, and so time, goes. Inner channels make up the exact share.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from torch import Tensor, nn

from sr_engine.compress.axis import Axis, Census, Kept
from sr_engine.compress.community import expressible, width_of
from sr_engine.compress.groups import Groups, groups_of
from sr_engine.errors import CompressError
from sr_engine.models.community_network import CommunityNetwork

MOST = 0.9
HEADS_FROM = 0.25
WIDTH_FROM = 0.4
CLOSE, ENOUGH = 0.02, 0.03  # how far from the share asked a choice may be: to be taken at once, and at most
_INNER = ("inner", "hidden")


@dataclass(frozen=True)
class Cut:
    """What is kept of a network.

    Attributes:
        kept: ascending indices of each axis by its name.
        parameters_before, parameters_after: of the network folded for inference.
        asked: the share of parameters to remove that was asked for.
        criterion: of the scores behind it.
    """

    kept: Mapping[str, tuple[int, ...]]
    parameters_before: int
    parameters_after: int
    asked: float
    criterion: str

    @property
    def ratio(self) -> float:
        """The share of parameters that it removes."""
        return 1 - self.parameters_after / self.parameters_before


def check_ratio(ratio: float) -> None:
    """Raises a CompressError unless `ratio` is a share that pruning can remove."""
    if not 0 < ratio <= MOST:
        raise CompressError(
            f"ratio must be above 0 and at most {MOST}, the share of parameters to remove; got {ratio:g}."
        )


def choose(net: nn.Module, scores: Mapping[str, Tensor], ratio: float, *, criterion: str = "taylor") -> Cut:
    """What to keep so that `ratio` of the parameters (of the network folded) goes, to within 0.03.

    Scores count relative to the mean of their axis, per parameter that goes; no axis loses more than three quarters.
    Sizes are multiples of `Axis.step`, or of smaller powers of two where that is too coarse to come near `ratio`.

    Args:
        scores: of `importance`.
        criterion: that of the scores, for the record.

    Raises:
        CompressError: a ratio out of (0, 0.9] or one that the network cannot give; the message says what it can.
    """
    check_ratio(ratio)
    groups = groups_of(net)
    order = {axis.name: _order(axis, scores[axis.name]) for axis in groups.axes}
    chooser = _Chooser(groups, order, ratio)
    kept = chooser.uniform() if groups.uniform else chooser.mixed()
    return Cut(kept, chooser.before, chooser.census.total(kept), ratio, criterion)


def _order(axis: Axis, score: Tensor) -> list[float]:
    if len(score) != axis.size:
        raise ValueError(f"scores of {axis.name}: expected {axis.size}, got {len(score)}")
    return (score / score.mean().clamp_min(1e-300)).tolist()


class _Chooser:
    """The search for one network; scores are relative to the mean of their axis."""

    def __init__(self, groups: Groups, scores: Mapping[str, list[float]], ratio: float) -> None:
        self.groups, self.scores, self.ratio = groups, scores, ratio
        self.census: Census = groups.census()
        self.before = self.census.total(groups.whole)
        self.target = self.before * (1 - ratio)

    def error(self, kept: Kept) -> float:
        return abs(self.census.total(kept) - self.target) / self.before

    def mixed(self) -> Kept:
        """The first plan that comes close, with steps as coarse as possible."""
        for divisor in (1, 2, 4, 8):
            found = []
            for plan in self._plans(divisor):
                found.append(self._shrunk(plan, divisor))
                if self.error(found[-1]) <= CLOSE:
                    return found[-1]
            best = min(found, key=self.error)
            if self.error(best) <= ENOUGH:
                return best
        raise self._too_much(self.census.total(best))

    def uniform(self) -> Kept:
        """Equally many indices of every axis."""
        axes, net = self.groups.axes, self.groups.net
        size, width = axes[0].size, width_of(net) if isinstance(net, CommunityNetwork) else 1
        for divisor in (1, 2, 4, 8):
            step = _step(axes[0], divisor)
            counts = range(axes[0].floor(step), size, step)
            choices = [self._best(count) for count in counts if expressible(count, width)]
            best = min(choices, key=self.error, default=self.groups.whole)
            if self.error(best) <= ENOUGH:
                return best
        raise self._too_much(self.census.total(self._best(axes[0].floor(1))))

    def _best(self, count: int) -> Kept:
        return {axis.name: self._top(axis, count, range(axis.size)) for axis in self.groups.axes}

    def _top(self, axis: Axis, count: int, among: range | tuple[int, ...]) -> tuple[int, ...]:
        """The best `count` indices; the first ones of equals."""
        score = self.scores[axis.name]
        return tuple(sorted(sorted(among, key=lambda index: -score[index])[:count]))

    def _plans(self, divisor: int) -> Iterator[Kept]:
        """Choices of width and heads, those that cut least first; all inner channels are still there."""
        whole = self.groups.whole
        if self.ratio < HEADS_FROM:
            yield whole
        fewer = self._fewer_heads(math.sqrt(1 - self.ratio))
        if self.ratio < WIDTH_FROM:
            yield fewer
        axis = next(axis for axis in self.groups.axes if axis.kind == "width")
        step = _step(axis, divisor)
        first = min(round(axis.size * math.sqrt(1 - self.ratio) / step) * step, axis.size)
        for width in range(max(first, step), 0, -step):
            if width >= axis.floor(step):
                yield {**fewer, axis.name: self._narrowed(axis, width, step)}
        yield {**self._fewer_heads(0), axis.name: self._narrowed(axis, axis.floor(step), step)}

    def _narrowed(self, axis: Axis, width: int, step: int) -> tuple[int, ...]:
        """The best channels, of those before the large kernel and of the others about the same share."""
        lead, rest = axis.lead, axis.size - axis.lead
        if not lead:
            return self._top(axis, width, range(axis.size))
        few = min(step, 4)
        mixed = max(round(lead * width / axis.size / few) * few, min(few, lead))
        mixed = min(max(mixed, width - rest), lead, width)
        return self._top(axis, mixed, range(lead)) + self._top(axis, width - mixed, range(lead, axis.size))

    def _fewer_heads(self, share: float) -> Kept:
        """Everything but the least important heads, which may be of any stage; one stays in each."""
        kept = dict(self.groups.whole)
        heads = [axis for axis in self.groups.axes if axis.kind == "heads"]
        go = sum(axis.size for axis in heads) - round(share * sum(axis.size for axis in heads))
        for _ in range(go):
            open_ = [axis for axis in heads if len(kept[axis.name]) > axis.floor(1)]
            if not open_:
                break
            axis = min(open_, key=lambda axis: min(self.scores[axis.name][index] for index in kept[axis.name]))
            kept[axis.name] = self._top(axis, len(kept[axis.name]) - 1, kept[axis.name])
        return kept

    def _shrunk(self, plan: Kept, divisor: int) -> Kept:
        """`plan` with inner channels removed, those first that matter least for their parameters."""
        kept, inner = dict(plan), [axis for axis in self.groups.axes if axis.kind in _INNER]
        left = self.census.total(kept)
        while left > self.target:
            steps = [step for axis in inner if (step := self._next(axis, kept, divisor)) is not None]
            if not steps:
                break
            _, name, smaller, saving = min(steps, key=lambda step: step[0])
            if abs(left - saving - self.target) > left - self.target:
                break
            kept[name], left = smaller, left - saving
        return kept

    def _next(self, axis: Axis, kept: Kept, divisor: int) -> tuple[float, str, tuple[int, ...], int] | None:
        """The next step down an axis: what it costs per parameter saved, and what stays."""
        step, present = _step(axis, divisor), kept[axis.name]
        size = (len(present) - 1) // step * step
        if size < axis.floor(step):
            return None
        smaller = self._top(axis, size, present)
        saving = self.census.saving(kept, axis.name, smaller)
        score = self.scores[axis.name]
        lost = sum(score[index] for index in present) - sum(score[index] for index in smaller)
        return lost / saving, axis.name, smaller, saving

    def _too_much(self, least: int) -> CompressError:
        where = (
            ", all of the hidden channels of its MLPs, three quarters of which may go" if self.groups.uniform else ""
        )
        most = math.floor((1 - least / self.before) * 1000) / 1000
        return CompressError(
            f"ratio {self.ratio:g} is more than pruning can remove here: at most {most:g} of {self.before:,} parameters"
            f"{where}; ask for less."
        )


def _step(axis: Axis, divisor: int) -> int:
    return max(axis.step // divisor, 1)

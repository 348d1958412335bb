"""Pruning during a run: when, what goes, and the run's state without it."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from sr_engine.compress import Cut, axes, choose, cut_network, cut_state, importance
from sr_engine.config.prune import Prune, Turn
from sr_engine.errors import CompressError, ConfigError
from sr_engine.layers.reparam import folded_parameters
from sr_engine.models.spec import ModelSpec
from sr_engine.train.distributed import World
from sr_engine.train.pair import Pair

_torch: Any = torch  # whose type stubs leave out operations on lists of tensors

Batches = Callable[[int], Iterable[Pair]]  # this many of the batches that come next


class Pruning:
    """Where a run stands with its turns of pruning.

    Args:
        config: what the run says.
        net: the generator as it is now.
        world: this process among those of the run; what ranks find is averaged, and all cut alike.
        state: of the run that is continued, as `state_dict` made it.

    Attributes:
        whole: parameters of the network at the start of the run, counted as folded.
        done: turns that have been.

    Raises:
        ConfigError: a new run's network cannot be pruned, or not as far.
    """

    def __init__(self, config: Prune, net: nn.Module, world: World, state: Mapping[str, Any] | None = None) -> None:
        self.config, self.world, self.turns = config, world, config.turns()
        self.whole, self.done, self.begin = folded_parameters(net), 0, 0
        self._scores: dict[str, Tensor] | None = None  # by which the pull of the coming turn is aimed
        self._pulled: tuple[list[nn.Parameter], list[Tensor]] = [], []
        if state is None:
            self._check(net)
        else:
            self.whole, self.done, self.begin = int(state["whole"]), int(state["done"]), int(state["begin"])
            if state["scores"] is not None:
                self._aim(net, state["scores"])

    def summary(self) -> str:
        """What is to come, in one line."""
        config, first, last = self.config, self.turns[0].iteration, self.turns[-1].iteration
        when = f"at iteration {first}" if len(self.turns) == 1 else f"in {len(self.turns)} turns, {first} to {last}"
        return f"prune: {config.ratio:.1%} of {self.whole:,} parameters by {config.criterion} {when}"

    def due(self, it: int) -> bool:
        """Whether `work` is to be called before iteration `it`."""
        return self._coming is not None and (it >= self._coming.iteration or self._aims_at(it, self._coming))

    def work(self, net: nn.Module, it: int, batches: Batches) -> Cut | None:
        """Make the turn that is due before iteration `it`: returns what to cut, and counts it as done.

        Where the turn is still to come, None: what will go is pulled on from now on.
        """
        turn = self._coming
        assert turn is not None, "due"
        scores = self._score(net, batches)
        if it < turn.iteration:
            self._aim(net, scores)
            return None
        ratio = self._ratio(net, turn)
        self.done, self.begin = self.done + 1, it
        self._scores, self._pulled = None, ([], [])
        return self._choice(net, scores, ratio)

    @torch.no_grad()
    def pull(self, it: int) -> None:
        """Shrink what the coming turn will take, before iteration `it`."""
        parameters, masks = self._pulled
        if self._coming is None or not masks:
            return
        length = self._coming.iteration - self._middle
        grown = max(0.0, (it + 1 - self._middle) / length)  # below 0 where a continued run has moved its turns
        factors = _torch._foreach_mul(masks, -self.config.regularise * grown)
        _torch._foreach_add_(factors, 1)
        _torch._foreach_mul_(parameters, factors)

    def state_dict(self) -> dict[str, Any]:
        """Plain values and tensors."""
        return {"whole": self.whole, "done": self.done, "begin": self.begin, "scores": self._scores}

    def facts(self, net: nn.Module) -> dict[str, Any]:
        """What a model file says of pruning, with `net` as the network; nothing before the first turn."""
        if not self.done:
            return {}
        now = folded_parameters(net)
        facts = {"ratio": round(1 - now / self.whole, 4), "criterion": self.config.criterion}
        return {"pruned": {**facts, "parameters_before": self.whole, "parameters_after": now, "turns": self.done}}

    @property
    def _coming(self) -> Turn | None:
        return self.turns[self.done] if self.done < len(self.turns) else None

    @property
    def _middle(self) -> int:
        """The iteration in which the pull of the coming turn begins."""
        return (self.begin + self.turns[self.done].iteration) // 2

    def _aims_at(self, it: int, turn: Turn) -> bool:
        return self.config.regularise > 0 and self._scores is None and self._middle <= it < turn.iteration

    def _ratio(self, net: nn.Module, turn: Turn) -> float:
        """Share of the parameters there are now that this turn takes; 0 where those before took as much."""
        return max(0.0, 1 - self.whole * (1 - turn.ratio) / folded_parameters(net))

    def _score(self, net: nn.Module, batches: Batches) -> dict[str, Tensor]:
        criterion = self.config.criterion
        pairs = ((pair.lr, pair.hr) for pair in batches(self.config.batches if criterion == "taylor" else 0))
        everybody = self.world.gather(importance(net, pairs, criterion))
        return {name: torch.stack([scores[name] for scores in everybody]).mean(0) for name in everybody[0]}

    def _choice(self, net: nn.Module, scores: dict[str, Tensor], ratio: float) -> Cut | None:
        """None where there is nothing to take."""
        cut = choose(net, scores, ratio, criterion=self.config.criterion) if ratio > 0 else None
        return cut if cut is not None and cut.parameters_after < cut.parameters_before else None

    def _aim(self, net: nn.Module, scores: dict[str, Tensor]) -> None:
        self._scores = scores
        cut = self._choice(net, scores, self._ratio(net, self.turns[self.done]))
        if cut is not None:
            masks = doomed(net, cut)
            parameters = parameters_of(net)
            self._pulled = [parameters[name] for name in masks], [*masks.values()]

    def _check(self, net: nn.Module) -> None:
        try:
            choose(net, importance(net, (), "l2"), self.config.ratio)
        except CompressError as error:
            raise ConfigError(f"prune: {error}") from error


def doomed(net: nn.Module, cut: Cut) -> dict[str, Tensor]:
    """1 where a cut takes a weight, else 0, for each parameter that loses any, by name."""
    parameters = parameters_of(net)
    masks: dict[str, Tensor] = {}
    for axis in axes(net):
        kept = set(cut.kept[axis.name])
        gone = [index for index in range(axis.size) if index not in kept]
        for place in axis.places if gone else ():
            mask = masks.setdefault(place.parameter, torch.zeros_like(parameters[place.parameter], requires_grad=False))
            mask.index_fill_(place.dim, place.positions(gone).to(mask.device), 1)
    return masks


def parameters_of(net: nn.Module) -> dict[str, nn.Parameter]:
    """Parameters by their names in the state."""
    return {name: value for name, value in net.state_dict(keep_vars=True).items() if isinstance(value, nn.Parameter)}


def pruned_state(state: Mapping[str, Any], net: nn.Module, cut: Cut) -> dict[str, Any]:
    """The state of a run, as `Session.state_dict` makes it, without what a cut takes from its generator `net`.

    The best score so far was that of a larger network, so it is forgotten.
    """
    smaller = cut_network(net, cut)
    weights = smaller.state_dict()
    average = {name: state["ema"]["net"][name] for name in parameters_of(net)}
    learner = state["generator"]
    optimizer = {**learner["optimizer"], "state": _cut_moments(net, cut, learner["optimizer"]["state"])}
    spec = smaller.spec
    assert isinstance(spec, ModelSpec)
    return {
        **state,
        "best": None,
        "layout": {name: value for name, value in spec.arguments.items() if name != "scale"},
        "generator": {**learner, "net": weights, "optimizer": optimizer},
        "ema": {**state["ema"], "net": {**weights, **cut_state(net, cut, average)}},
    }


def _cut_moments(net: nn.Module, cut: Cut, state: Mapping[int, Mapping[str, Any]]) -> dict[int, dict[str, Any]]:
    """What the optimiser remembers of each parameter, by number; of a kind that is not a number for each weight, as in
    Adafactor, nothing is left, and it begins anew."""
    names = {id(parameter): name for name, parameter in parameters_of(net).items()}
    trained = [(names[id(parameter)], parameter) for parameter in net.parameters() if parameter.requires_grad]
    kinds: dict[str, dict[str, Tensor]] = {}  # such as exp_avg: its tensors by the names of their parameters
    smaller: dict[int, dict[str, Any]] = {}
    for number, memory in state.items():
        name, parameter = trained[number]
        tensors = {key: value for key, value in memory.items() if isinstance(value, Tensor) and value.dim()}
        if all(value.shape == parameter.shape for value in tensors.values()):
            smaller[number] = dict(memory)
            for key, value in tensors.items():
                kinds.setdefault(key, {})[name] = value
    cuts = {key: cut_state(net, cut, tensors, moments=True) for key, tensors in kinds.items()}
    for number, memory in smaller.items():
        name = trained[number][0]
        memory.update({key: cuts[key][name] for key in memory if key in cuts and name in cuts[key]})
    return smaller

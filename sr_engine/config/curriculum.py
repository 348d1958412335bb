"""What the stages of `training.curriculum` and the rest of a configuration have to do with each other."""

import inspect
from collections.abc import Iterator
from typing import Any

from sr_engine.config import registry
from sr_engine.config.problems import Problem
from sr_engine.config.schema import Config
from sr_engine.config.yaml12 import KeyPath, Value

_INHERITED = ("optim_g", "optim_d", "scheduler")


def complete(data: dict[Any, Value]) -> set[KeyPath]:
    """Give stages the arguments that they leave to `training`, and `total_iter` their sum, in place.

    Returns the paths of what has been added to stages; its problems are those of `training`. Where a stage is counted
    in epochs, `total_iter` stays 0 until the pictures have been counted.
    """
    training = data.get("training")
    if not isinstance(training, dict) or training.get("curriculum") is None:
        return set()
    given = training["curriculum"] if isinstance(training["curriculum"], list) else []
    added: set[KeyPath] = set()
    for index, stage in enumerate(given):
        for key in _INHERITED if isinstance(stage, dict) else ():
            own, common = stage.get(key), training.get(key)
            if isinstance(own, dict) and isinstance(common, dict) and _same_type(own, common):
                stage[key] = {**common, **own}
                added |= {("training", "curriculum", index, key, name) for name in common.keys() - own.keys()}
    lengths = [stage.get("iters") if isinstance(stage, dict) else None for stage in given]
    if training.get("total_iter", 0) == 0:
        known = [length for length in lengths if isinstance(length, int) and length > 0]
        training["total_iter"] = sum(known) if len(known) == len(lengths) else 0
    return added


def broken_stages(config: Config) -> Iterator[Problem]:
    """Contradictions between the stages and other keys."""
    training, stages = config.training, config.training.curriculum
    if stages is None:
        if training.total_iter == 0:
            yield Problem(("training", "total_iter"), "expected a number > 0, got 0")
        return
    if stages[-1].scale != config.scale:
        text = f"expected {stages[-1].scale}, the scale of the last stage of training.curriculum, got {config.scale}"
        yield Problem(("scale",), text)
    lengths = [stage.iters for stage in stages if stage.iters is not None]
    if len(lengths) == len(stages) and sum(lengths) != training.total_iter:
        text = f"expected {sum(lengths)}, the sum of training.curriculum, or no total_iter, got {training.total_iter}"
        yield Problem(("training", "total_iter"), text)
    scales = list(dict.fromkeys(stage.scale for stage in stages))
    if len(scales) > 1 and not _changes_scale(config.network_g.type):
        text = f"expected one scale in all stages, since networks of type {config.network_g.type} cannot change theirs"
        yield Problem(("training", "curriculum"), f"{text}, got {', '.join(map(str, scales))}")
    for index, stage in enumerate(stages):
        if (stage.iters is None) == (stage.epochs is None):
            got = "neither" if stage.iters is None else "both"
            yield Problem(("training", "curriculum", index), f"expected either iters or epochs, got {got}")
        yield from _long_warmup(config, index)
        if stage.batch_size is not None and stage.batch_size % training.accumulate:
            text = f"expected a multiple of training.accumulate ({training.accumulate}), got {stage.batch_size}"
            yield Problem(("training", "curriculum", index, "batch_size"), text)


def _long_warmup(config: Config, index: int) -> Iterator[Problem]:
    assert config.training.curriculum is not None
    stage = config.training.curriculum[index]
    warmup = (stage.scheduler or config.training.scheduler).arguments.get("warmup_iter", 0)
    if stage.iters is not None and isinstance(warmup, int) and warmup >= stage.iters:
        path: KeyPath = ("training", "scheduler", "warmup_iter")
        if stage.scheduler is not None:
            path = ("training", "curriculum", index, "scheduler", "warmup_iter")
        yield Problem(path, f"expected less than training.curriculum.{index}.iters ({stage.iters}), got {warmup}")


def _changes_scale(network: str) -> bool:
    """Whether networks of a type can be built for several scales with the arguments of one configuration."""
    if network not in registry.names("network_g") or registry.refinement("network_g", network) is not None:
        return False
    parameters = inspect.signature(registry.get("network_g", network)).parameters.values()
    return any(p.name == "scale" or p.kind is p.VAR_KEYWORD for p in parameters)


def _same_type(own: dict[Any, Value], common: dict[Any, Value]) -> bool:
    """Whether a stage's entry is of the type of the entry in `training`; one without a type takes that."""
    first, second = own.get("type", common.get("type")), common.get("type")
    return first == second or (isinstance(first, str) and isinstance(second, str) and first.lower() == second.lower())

"""What a checkpoint has to hold: told at once and by name, before half of a run is built from it."""

import math
import random
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sr_engine.train.learner import Learner
from sr_engine.train.rng import numpy_state

Check = Callable[[Any], bool]
_LARGEST = 2**53
# What an optimiser needs for each weight that it has updated once.
_MOMENTS = {"Adam": ("step", "exp_avg", "exp_avg_sq"), "AdamW": ("step", "exp_avg", "exp_avg_sq")}


def problem_of(state: Mapping[str, Any]) -> str | None:
    """What is missing or wrong in the state of a run, as `Session.state_dict` makes it; None if nothing is."""
    for name, is_right in _FORM.items():
        if name not in state and name not in _LATER:
            return f"has no '{name}'"
        if name in state and not _holds(is_right, state[name]):
            return f"has no usable '{name}'"
    for name in ("generator", "discriminator", "ema"):
        for weight, value in _net(state[name]).items():
            if value.is_floating_point() and not bool(value.isfinite().all()):
                return f"has NaN or infinite numbers in weight '{weight}' of '{name}'"
    return None


def check_moments(learner: Learner) -> None:
    """Raises ValueError where what an optimiser remembers is not of the weights that it updates."""
    needed = _MOMENTS.get(type(learner.optimizer).__name__, ())
    for number, parameter in enumerate(learner.parameters):
        memory = learner.optimizer.state.get(parameter) or {}
        for name in needed if memory else ():
            value = memory.get(name)
            shape = torch.Size() if name == "step" else parameter.shape
            if not isinstance(value, Tensor) or value.shape != shape or not bool(value.isfinite().all()):
                raise ValueError(f"the optimiser of the {learner.role} has no usable '{name}' for its weight {number}.")


def _net(part: Mapping[str, Any] | None) -> Mapping[str, Tensor]:
    return {} if part is None else part["net"]


def _is_count(value: Any) -> bool:
    return type(value) is int and 0 <= value < _LARGEST


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and not math.isnan(value)


def _is_named(value: Any, is_right: Check) -> bool:
    return isinstance(value, Mapping) and all(isinstance(k, str) and is_right(v) for k, v in value.items())


def _is_weight(value: Any) -> bool:
    if not isinstance(value, Tensor) or value.layout is not torch.strided or value.device.type != "cpu":
        return False
    return value.numel() * value.element_size() <= value.untyped_storage().nbytes()


def _is_weights(value: Any) -> bool:
    return _is_named(value, _is_weight)


def _is_optimizer(value: Any) -> bool:
    memories, groups = value["state"], value["param_groups"]
    return (
        isinstance(memories, Mapping)
        and all(_is_count(number) and isinstance(memory, Mapping) for number, memory in memories.items())
        and isinstance(groups, list)
        and all(isinstance(group, Mapping) and isinstance(group["params"], list) for group in groups)
    )


def _is_learner(value: Any) -> bool:
    return (
        _is_weights(value["net"])
        and _is_weights(value.get("companion", {}))
        and _is_optimizer(value["optimizer"])
        and isinstance(value["optimizer_type"], str)
        and isinstance(value["scaler"], Mapping)
    )


def _is_bank(value: Any) -> bool:
    keys = ("log_ratio", "count", "anchor")
    return isinstance(value, Mapping) and (not value or all(_is_named(value[key], _is_number) for key in keys))


def _is_meter(value: Any) -> bool:
    return _is_named(value, lambda values: _is_weight(values) and values.dim() == 1)


def _is_random(value: Any) -> bool:
    """Generators of our own take it."""
    version, keys, gauss = value["python"]
    random.Random().setstate((version, tuple(keys), gauss))
    np.random.RandomState().set_state(numpy_state(value["numpy"]))
    torch.Generator().set_state(value["torch"])
    return True


def _is_best(value: Any) -> bool:
    return value is None or (isinstance(value, tuple | list) and _is_count(value[0]) and _is_number(value[1]))


def _is_pruning(value: Any) -> bool:
    if value is None:
        return True
    counts = all(_is_count(value[key]) for key in ("whole", "done", "begin"))
    return counts and (value["scores"] is None or _is_weights(value["scores"]))


def _is_distillation(value: Any) -> bool:
    return value is None or all(value[key] is None or isinstance(value[key], str) for key in ("sha256", "pictures"))


def _holds(is_right: Check, value: Any) -> bool:
    try:
        return is_right(value)
    except Exception:  # anything may stand in its place
        return False


_FORM: dict[str, Check] = {
    "iteration": _is_count,
    "batches": _is_count,
    "d_trained": _is_count,
    "bad_steps": _is_count,
    "best": _is_best,
    "psnr": lambda value: value is None or _is_number(value),
    "dtype": lambda value: value in ("float32", "bfloat16", "float16"),
    "device": lambda value: isinstance(value, str),
    "config": lambda value: isinstance(value, str),
    "generator": _is_learner,
    "discriminator": lambda value: value is None or _is_learner(value),
    "ema": lambda value: _is_weights(value["net"]) and _is_count(value["updates"]),
    "bank": _is_bank,
    "meter": _is_meter,
    "rng": lambda value: isinstance(value, list) and len(value) > 0 and all(map(_is_random, value)),
    "stage": lambda value: _is_count(value) and value >= 1,
    "samples": _is_count,
    "layout": lambda value: value is None or _is_named(value, lambda _: True),
    "prune": _is_pruning,
    "distill": _is_distillation,
}
_LATER = ("stage", "samples", "layout", "prune", "distill")  # older versions did not write these

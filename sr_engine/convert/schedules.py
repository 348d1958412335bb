"""The weight of a loss, and how it changes over the training in the fork of traiNNer-redux by Philip Hofmann.

There a loss weighs nothing before `start_iter`, `loss_weight` at it, `target_weight` from `target_iter` on, and nothing
again from `disable_after` on. Here a weight moves once, from `initial_weight` to `final_weight`.
"""

from collections.abc import Mapping
from typing import Any

from sr_engine.config.yaml12 import Value
from sr_engine.convert.values import NoEqualError, number, whole

KEYS = ("start_iter", "target_iter", "target_weight", "disable_after", "schedule_type")
TARGETS = {
    "start_iter": "start_iter",
    "target_iter": "ramp_iters",
    "target_weight": "final_weight",
    "disable_after": "start_iter",
    "schedule_type": "ramp",
}
_RAMPS = ("linear", "cosine", "step")


def weight(entry: Mapping[Any, Value], key: str, total: int) -> tuple[Value, str | None]:
    """The `loss_weight` of an entry whose weight stands under `key`, and what of it is not the same, if anything.

    Raises:
        NoEqualError: a value that is no weight or schedule at all.
    """
    base = number()(_at(entry, key, 1.0))
    if not any(_at(entry, name) is not None for name in KEYS):
        return base, None
    start = whole()(_at(entry, "start_iter", 0))
    reached = whole()(_at(entry, "target_iter", start))
    target = number()(_at(entry, "target_weight", base))
    ramp = str(_at(entry, "schedule_type", "linear")).lower()
    if ramp not in _RAMPS:
        raise NoEqualError(f"schedule_type is one of {', '.join(_RAMPS)}, not {ramp}")
    if reached < start:
        raise NoEqualError(f"target_iter {reached} is before start_iter {start}")
    stop = _at(entry, "disable_after")
    if stop is not None and whole()(stop) < total:
        return _until(base, target, start, reached, stop)
    if start >= total:
        raise NoEqualError(f"start_iter {start} is not before the end of the training ({total})")
    return _rising(base, target, start, reached, ramp)


def _rising(base: float, target: float, start: int, reached: int, ramp: str) -> tuple[Value, str | None]:
    if reached <= start or (ramp != "step" and base == target) or (ramp == "step" and base == target):
        return (target if start == 0 else _step(start, 0.0, target)), None
    jump = None
    if start > 0 and base > 0:
        jump = f"at start_iter the weight jumps to {base:g} before it moves on; here it moves once, from 0"
    initial = 0.0 if start > 0 else base
    if ramp == "step":
        return _step(reached, initial, target), jump
    length = reached - start
    return _schedule(start, initial, target, ramp) | {"ramp_iters": length}, jump


def _until(base: float, target: float, start: int, reached: int, stop: int) -> tuple[Value, str | None]:
    constant = target if reached <= start else base
    if start == 0 and (reached <= start or base == target):
        return _step(stop, constant, 0.0), None
    return _step(stop, max(base, target), 0.0), "the weight moves once here: it cannot rise and end again"


def _step(start: int, initial: float, final: float) -> dict[str, Value]:
    return _schedule(start, initial, final, "step")


def _schedule(start: int, initial: float, final: float, ramp: str) -> dict[str, Value]:
    return {"start_iter": start, "initial_weight": initial, "final_weight": final, "ramp": ramp}


def _at(entry: Mapping[Any, Value], key: str, default: Value = None) -> Value:
    value = entry.get(key)
    return default if value is None else value

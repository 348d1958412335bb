"""The losses of an option file, and with them its discriminator: one without the other is no configuration."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from sr_engine.config.yaml12 import Value
from sr_engine.convert import schedules
from sr_engine.convert.adversarial import discriminator
from sr_engine.convert.judged import Entry, Judged, leave_unknown, type_of
from sr_engine.convert.translation import Translation
from sr_engine.convert.values import NoEqualError

Judge = Callable[[Entry], Judged]
WEIGHT = "loss_weight"
# A `loss_weight` stands in every entry but BasicSR's perceptual one.
_WEIGHTS = {"perceptual_weight": "perceptual"}


@dataclass(frozen=True)
class Kinds:
    """What a framework has: types of losses, types that are our unet, and what its training does to the gan loss."""

    judges: Mapping[str, Judge]
    unets: tuple[str, ...] = ()
    gan_difference: Callable[[Translation], str | None] = lambda _: None
    weights: Mapping[str, float] | None = None  # type -> its default weight, where it isn't 1


@dataclass
class _Loss:
    path: str
    name: str
    judged: Judged | None = None
    weight: Value = 1.0
    weight_key: str = WEIGHT
    reason: str = ""  # why it has no equal at all


def losses(t: Translation, kinds: Kinds, total: int) -> None:
    """Translate `train.losses`, `train.*_opt` and `network_d`."""
    found = [_judge(t, path, name, kinds, total) for path, name in _entries(t)]
    d_entry = t.entry("network_d")
    try:
        judge_d = discriminator(d_entry, kinds.unets) if d_entry else None
    except NoEqualError as reason:
        judge_d = Judged("unet", differences=[f"network_d: {reason}"])
    if judge_d is not None:
        leave_unknown(judge_d, d_entry, ())
    usable = judge_d is not None and (t.nearest or not judge_d.differences)
    for loss in found:
        if loss.judged is not None and loss.judged.needs_d and not usable:
            loss.reason = "its discriminator has no equal" if judge_d is not None else "there is no network_d"
    names: dict[str, int] = {}
    for loss in found:
        _list(t, loss, names)
    taken = [loss for loss in found if loss.name in t.out.get("losses", {}) and loss.judged is not None]
    _list_discriminator(t, judge_d, any(loss.judged is not None and loss.judged.needs_d for loss in taken))
    why = "no loss of the option file has an equal: this one stands in"
    if not taken:
        t.put("losses.pixel", {"type": "l1", "loss_weight": 1.0}, why)


def _entries(t: Translation) -> list[tuple[str, str]]:
    """Path and wished name of every loss; a list takes the place of the `*_opt` entries, as in traiNNer."""
    train = t.entry("train")
    listed = train.get("losses")
    if isinstance(listed, list):
        named = [(f"train.losses.{index}", "") for index, item in enumerate(listed) if isinstance(item, Mapping)]
        for key in train:
            if str(key).endswith("_opt"):
                t.drop(f"train.{key}", "not read beside train.losses")
        return named
    return [
        (f"train.{key}", str(key).removesuffix("_opt"))
        for key, entry in train.items()
        if str(key).endswith("_opt") and isinstance(entry, Mapping)
    ]


def _judge(t: Translation, path: str, name: str, kinds: Kinds, total: int) -> _Loss:
    entry, loss = t.entry(path), _Loss(path, name)
    try:
        kind = type_of(entry)
        if entry.get(WEIGHT) == 0 and not any(key in entry for key in schedules.KEYS):
            loss.weight = 0
            return loss
        judge = kinds.judges.get(kind)
        if judge is None:
            raise NoEqualError(f"no loss like {entry['type']} is here")
        judged = judge(entry)
        loss.weight_key = next((key for key in _WEIGHTS if key in entry), WEIGHT)
        if loss.weight_key == WEIGHT and judged.always.pop("loss_weight", None):
            loss.weight_key = "perceptual_weight"
        with_default = {WEIGHT: (kinds.weights or {}).get(kind, 1.0), **entry}
        loss.weight, jump = schedules.weight(with_default, loss.weight_key, total)
        if judged.needs_d and judged.type == "gan":
            judged.differences += [text for text in [kinds.gan_difference(t)] if text]
        judged.differences += [jump] if jump else []
        judged.always |= {"warn_on_unused": "the plan of train --dry-run shows unused losses"}
        leave_unknown(judged, entry, (loss.weight_key, *schedules.KEYS))
        loss.judged = judged
        loss.name = name or judged.type
    except NoEqualError as reason:
        loss.reason = str(reason)
    return loss


def _list(t: Translation, loss: _Loss, names: dict[str, int]) -> None:
    judged = loss.judged
    if loss.weight == 0 or loss.weight == 0.0:
        t.always(loss.path, "weight 0: switched off there, left out here")
        loss.judged = None
        return
    if judged is not None and judged.differences and not t.nearest and not loss.reason:
        loss.reason = f"{'; '.join(judged.differences)}; nearest: {judged.type} (--nearest takes it)"
    if loss.reason or judged is None:
        t.drop_entry(loss.path, loss.reason)
        loss.judged = None
        return
    names[loss.name] = names.get(loss.name, 0) + 1
    if names[loss.name] > 1:
        loss.name = f"{loss.name}_{names[loss.name]}"
    place = f"losses.{loss.name}"
    t.out.setdefault("losses", {})[loss.name] = {"type": judged.type, "loss_weight": loss.weight, **judged.arguments}
    if judged.differences:
        t.near(loss.path, place, f"not the same: {'; '.join(judged.differences)}")
        return
    t.belongs(f"{loss.path}.type", f"{place}.type")
    for key, value in t.entry(loss.path).items():
        path = f"{loss.path}.{key}"
        if key == loss.weight_key:
            t.belongs(path, f"{place}.{WEIGHT}")
        elif key in schedules.KEYS:
            inner = schedules.TARGETS[key]
            scheduled = isinstance(loss.weight, dict) and inner in loss.weight
            t.belongs(
                path, f"{place}.{WEIGHT}.{inner}" if scheduled else f"{place}.{WEIGHT}", _schedule_note(key, value)
            )
        elif key in judged.targets:
            for leaf in t.pending(path):
                t.belongs(leaf, f"{place}.{judged.targets[key]}{leaf.removeprefix(path)}")
        elif key in judged.always:
            t.always(path, judged.always[key])
    for key, value in judged.arguments.items():
        if not any(target == key and name in t.entry(loss.path) for name, target in judged.targets.items()):
            t.note_default(f"{place}.{key}", value, "the default there")


def _schedule_note(key: str, value: Any) -> str:
    if key == "disable_after" and value is not None:
        return "the weight ends there"
    return ""


def _list_discriminator(t: Translation, judged: Judged | None, heard: bool) -> None:
    if judged is None:
        t.drop("network_d", "null there: no discriminator")
        return
    if not heard:
        reason = "; ".join(judged.differences) or "no loss that looks at it has an equal, or none is switched on"
        t.drop_entry("network_d", f"{reason}; nearest: unet (--nearest takes it)" if judged.differences else reason)
        return
    t.out["network_d"] = {"type": judged.type, **judged.arguments}
    if judged.differences:
        t.near("network_d", "network_d", f"not the same: {'; '.join(judged.differences)}")
        return
    t.belongs("network_d.type", "network_d.type")
    for key in t.entry("network_d"):
        if key in judged.targets:
            t.belongs(f"network_d.{key}", f"network_d.{judged.targets[key]}")
        elif key in judged.always:
            t.always(f"network_d.{key}", judged.always[key])

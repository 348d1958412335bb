"""Optimisers and learning rates."""

from collections.abc import Mapping

from sr_engine.config.problems import show
from sr_engine.config.yaml12 import Value
from sr_engine.convert.translation import Translation
from sr_engine.convert.values import Convert, NoEqualError, flag, number, numbers, plain, whole, wholes

_COMMON: dict[str, Convert] = {"lr": number(), "weight_decay": number()}
_ADAM: dict[str, Convert] = {**_COMMON, "betas": numbers(2), "eps": number(), "amsgrad": flag}
_MOMENTUM: dict[str, Convert] = {**_COMMON, "momentum": number()}
# torch.optim by its lower-case name: its own spelling, and the arguments that a file can give.
OPTIMISERS: dict[str, tuple[str, dict[str, Convert]]] = {
    "adam": ("Adam", _ADAM),
    "adamw": ("AdamW", _ADAM),
    "adamax": ("Adamax", {**_COMMON, "betas": numbers(2), "eps": number()}),
    "nadam": ("NAdam", {**_COMMON, "betas": numbers(2), "eps": number(), "momentum_decay": number()}),
    "radam": ("RAdam", {**_COMMON, "betas": numbers(2), "eps": number()}),
    "sgd": ("SGD", {**_MOMENTUM, "dampening": number(), "nesterov": flag}),
    "rmsprop": ("RMSprop", {**_MOMENTUM, "alpha": number(), "eps": number(), "centered": flag}),
    "asgd": ("ASGD", {**_COMMON, "lambd": number(), "alpha": number(), "t0": number()}),
    "rprop": ("Rprop", {"lr": number()}),
}
_STAND_IN = {"type": "AdamW", "lr": 2e-4, "betas": [0.9, 0.99], "weight_decay": 0.0}
TORCH_BETAS = [0.9, 0.999]


def optimiser(t: Translation, name: str, allowed: tuple[str, ...] | None = None) -> None:
    """Translate `train.optim_g` or `train.optim_d` (`name`); `allowed`: the types that the framework has of torch's."""
    source, target = f"train.{name}", f"training.{name}"
    if name == "optim_d" and "network_d" not in t.out:
        t.drop_entry(source, "without a discriminator it is not used")
        return
    entry = t.entry(source)
    kind = plain(entry.get("type", ""))
    if kind not in OPTIMISERS or (allowed is not None and kind not in allowed):
        if entry:
            t.drop_entry(source, f"{entry.get('type')} is not an optimiser of torch; AdamW stands in")
        t.put(target, dict(_STAND_IN), "stands in: choose the learning rate anew")
        return
    spelling, arguments = OPTIMISERS[kind]
    t.write(f"{source}.type", f"{target}.type", spelling)
    for key, value in entry.items():
        path = f"{source}.{key}"
        if key == "type":
            continue
        try:
            if key not in arguments:
                raise NoEqualError(f"{spelling} of torch has no {key}")
            t.write(path, f"{target}.{key}", arguments[key](value))
        except NoEqualError as reason:
            t.drop(path, str(reason))
    if "betas" in arguments:
        t.put(f"{target}.betas", list(TORCH_BETAS), "the default there")


def schedule(t: Translation, total: int, parts: int = 1) -> None:
    """Translate `train.scheduler` and `train.warmup_iter`; `parts`: batches that an iteration counts for there."""
    entry = t.entry("train.scheduler")
    kind = plain(entry.get("type", ""))
    place = "training.scheduler"
    try:
        if not entry:
            t.put(f"{place}.type", "constant", "the option file has no scheduler")
        elif kind in ("multisteplr", "multisteprestartlr"):
            _steps(t, entry)
        elif kind in ("cosineannealinglr", "cosineannealing", "cosineannealingrestartlr"):
            _cosine(t, entry, total)
        else:
            raise NoEqualError(f"{entry.get('type')} is not here (multistep, cosine and constant are)")
    except NoEqualError as reason:
        t.drop_entry("train.scheduler", str(reason))
        t.put(f"{place}.type", "constant", "stands in: choose a scheduler")
    _warmup(t, total, parts)


def _steps(t: Translation, entry: Mapping[str, Value]) -> None:
    milestones = wholes(entry.get("milestones"))
    restarts = entry.get("restarts", [0])
    if restarts not in ([0], [], None):
        raise NoEqualError(f"restarts {show(restarts)}: the rate is never raised again here")
    place = "training.scheduler"
    t.write("train.scheduler.type", f"{place}.type", "multistep")
    t.write("train.scheduler.milestones", f"{place}.milestones", milestones)
    if "gamma" in entry:
        t.write("train.scheduler.gamma", f"{place}.gamma", number()(entry["gamma"]))
    t.put(f"{place}.gamma", 0.1, "the default there")
    t.always("train.scheduler.restarts", "none")
    t.always("train.scheduler.restart_weights", "belongs to restarts")


def _cosine(t: Translation, entry: Mapping[str, Value], total: int) -> None:
    place = "training.scheduler"
    length = entry.get("T_max", entry.get("periods"))
    length = length[0] if isinstance(length, list) and len(length) == 1 else length
    if length != total or entry.get("restart_weights", [1]) not in ([1], [1.0]):
        raise NoEqualError(f"cosine is one period of {total} iterations here, not {show(length)}")
    t.write("train.scheduler.type", f"{place}.type", "cosine")
    for key in ("T_max", "periods"):
        if f"train.scheduler.{key}" in t.leaves:
            t.always(f"train.scheduler.{key}", "it ends with the training")
    if "eta_min" in entry:
        t.write("train.scheduler.eta_min", f"{place}.min_lr", number()(entry["eta_min"]))
    t.put(f"{place}.min_lr", 0.0, "the default there")
    t.always("train.scheduler.restart_weights", "one period")


def _warmup(t: Translation, total: int, parts: int) -> None:
    path, target = "train.warmup_iter", "training.scheduler.warmup_iter"
    value = t.value(path)
    if value is None or (isinstance(value, int) and value <= 0):
        t.always(path, "no warm-up")
        return None
    try:
        length = whole()(value) // parts
    except NoEqualError as reason:
        return t.drop(path, str(reason))
    kind = t.out["training"]["scheduler"]["type"]
    if length >= total:
        t.drop(path, f"a warm-up ends before the training ({total} iterations)")
    elif kind == "cosine" and not t.nearest:
        t.drop(path, "the cosine begins after the warm-up here; nearest: warmup_iter (--nearest takes it)")
    elif kind == "cosine":
        t.out["training"]["scheduler"]["warmup_iter"] = length
        t.near(path, target, "not the same: the cosine begins after the warm-up here")
    else:
        note = f"in iterations: {value} / {parts} parts" if parts > 1 else ""
        t.write(path, target, length, note)
    return None

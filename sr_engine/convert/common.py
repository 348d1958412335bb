"""What the descendants of BasicSR spell alike, and the steps that every dialect goes through."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from sr_engine.config.yaml12 import Value
from sr_engine.convert import data, degradation, losses, networks, optimisers
from sr_engine.convert.rules import Is, No, Off, Rule, Table, To, apply_table
from sr_engine.convert.translation import ConversionError, Translation
from sr_engine.convert.values import NoEqualError, flag, number, text, whole

RESUME = "give it on the command line: sr-engine train x.yml --resume PATH"
TORCHRUN = "torchrun sets it"


@dataclass(frozen=True)
class Dialect:
    """An option file's language.

    title:      as the table names it.
    total:      paths where the length of the training may stand.
    sizes:      paths of the side of a patch -> whether it counts pixels of the original.
    degradation: translates what belongs to pictures made on the fly.
    defaults:   keys here -> value and reason, for what a file leaves out and whose default differs.
    """

    title: str
    table: Table
    loading: data.Keys
    networks: Mapping[str, networks.Spelling]
    losses: losses.Kinds
    total: tuple[str, ...]
    sizes: Mapping[str, bool]
    degradation: Callable[[Translation], None]
    precision: tuple[str, str]
    optimisers: tuple[str, ...] | None = None
    parts_count_there: bool = False
    defaults: Mapping[str, tuple[Value, str]] | None = None
    notes: tuple[str, ...] = ()


LOGGER: Table = {
    "logger.print_freq": To("logging.print_every", whole(1)),
    "logger.save_checkpoint_freq": To("training.checkpoint_every", whole(1)),
    "logger.use_tb_logger": To("logging.tensorboard", flag),
    "logger.wandb": No("logs are log.jsonl and TensorBoard"),
    "logger.save_checkpoint_format": Is(("safetensors",), "models are safetensors", "models are safetensors only"),
}
PATHS: Table = {
    "path.param_key_g": To("param_key_g", text),
    "path.strict_load_g": To("strict_load_g", flag),
    "path.resume_state": No(RESUME, null=True),
    "path.pretrain_network_d": No("the discriminator starts anew; its weights come with --resume only"),
    "path.param_key_d": No("the discriminator starts anew"),
    "path.strict_load_d": No("the discriminator starts anew"),
    "path.ignore_resume_networks": No("a run is resumed as a whole"),
    "path.experiments_root": No("give it on the command line: sr-engine train x.yml --output DIR"),
}
VALIDATION: Table = {
    "val.val_freq": To("training.validate_every", whole(1)),
    "val.metrics": No("PSNR of Y, without `scale` pixels of border, is measured; sr-engine eval adds SSIM"),
    "val.pbar": No("progress is always shown"),
    "val.suffix": No("validation pictures are named by picture and iteration"),
}
COMMON: Table = {
    **LOGGER,
    **PATHS,
    **VALIDATION,
    "auto_resume": No("--resume auto is the default"),
    "dist_params": No(TORCHRUN),
    "dist": No(TORCHRUN),
    "launcher": No(TORCHRUN),
    "rank": No(TORCHRUN),
    "world_size": No(TORCHRUN),
    "find_unused_parameters": No("chosen by itself"),
    "is_train": No("said by the verb: train"),
    "root_path": No("said by --output"),
}


def translate(t: Translation, dialect: Dialect, fallback_name: str) -> None:
    """Fill a translation.

    Raises:
        ConversionError: the file cannot be translated at all.
    """
    _name(t, fallback_name)
    _scale(t)
    total = _total(t, dialect)
    networks.generator(t, dialect.networks)
    _weights(t)
    if data.training_set(t, dialect.loading) == "on the fly":
        dialect.degradation(t)
    if _validates(t):
        data.validation_set(t)
    data.patches(t, dict(dialect.sizes))
    data.batches(t, dialect.loading)
    losses.losses(t, dialect.losses, total)
    t.out.setdefault("training", {})["total_iter"] = total
    for name in ("optim_g", "optim_d"):
        optimisers.optimiser(t, name, dialect.optimisers)
    parts = t.out["training"].get("accumulate", 1) if dialect.parts_count_there else 1
    optimisers.schedule(t, total, parts)
    _precision(t, dialect.precision)
    _discriminator_steps(t, total)
    apply_table(t, dialect.table)
    for target, (value, why) in (dialect.defaults or {}).items():
        t.put(target, value, why)
    t.notes += dialect.notes


def seed(target: str = "training.seed") -> Rule:
    """A seed; null is a random one there."""
    return To(target, _seed)


def ema(value: Value) -> float:
    """A decay; 0 and below are none."""
    return 0 if isinstance(value, int | float) and value <= 0 else number(0.0, 1.0)(value)


def clip(value: Value) -> float | None:
    """Whether gradients are clipped, at a norm of 1."""
    return 1.0 if flag(value) else None


def saved_pictures(value: Value) -> int:
    """None at a validation; a number of pictures otherwise, which theirs doesn't have."""
    if flag(value):
        raise NoEqualError("validation.save_images is a number of pictures here, 4 crops by default")
    return 0


def compiled(value: Value) -> bool:
    """Whether torch.compile is used."""
    return flag(value)


def _seed(value: Value) -> int:
    if value is None:
        raise NoEqualError("null is a random seed there; here training.seed is always a number, 0 by default")
    return whole()(value)


def _name(t: Translation, fallback: str) -> None:
    given = t.value("name")
    name = re.sub(r"[^\w.-]", "_", str(fallback if given is None else given))
    name = name if re.match(r"\w", name) else f"run_{name}"
    if "name" in t.leaves:
        t.write("name", "name", name, "" if name == given else "letters, digits, _, - and . only")
    else:
        t.put("name", name, "the name of the file")


def _scale(t: Translation) -> None:
    value = t.value("scale")
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= 4:
        raise ConversionError(f"scale: expected 1, 2, 3 or 4, got {value}.")
    t.write("scale", "scale", value)


def _total(t: Translation, dialect: Dialect) -> int:
    for path in dialect.total:
        if t.value(path) is not None:
            try:
                total = whole(1)(t.value(path))
            except NoEqualError as reason:
                raise ConversionError(f"{path}: {reason}.") from None
            t.write(path, "training.total_iter", total)
            return total
    raise ConversionError(
        f"{dialect.total[0]}: expected the length of the training; only training files are translated."
    )


def _weights(t: Translation) -> None:
    path = "path.pretrain_network_g"
    if path in t.leaves and t.value(path) is not None and not networks.is_community(t):
        for key in (path, "path.param_key_g", "path.strict_load_g"):
            t.drop(key, "weights of that network do not fit the one that stands in")
    elif path in t.leaves:
        t.write(path, "load_from", t.value(path))


def _validates(t: Translation) -> bool:
    path = "val.val_enabled"
    if path not in t.leaves:
        return True
    if _flag_at(t, path):
        t.always(path, "datasets.val is there")
        return True
    t.write(path, "datasets.val", None)
    for name in t.entry("datasets"):
        if str(name).startswith("val"):
            t.drop(f"datasets.{name}", "val_enabled is false")
    return False


def _precision(t: Translation, keys: tuple[str, str]) -> None:
    amp, half = keys
    mixed, bf16 = (_flag_at(t, key) for key in keys)
    precision = ("bf16" if bf16 else "fp16") if mixed else "fp32"
    if amp not in t.leaves:
        t.put("training.precision", precision, "the default there")
    else:
        t.write(amp, "training.precision", precision)
    if half in t.leaves:
        t.belongs(half, "training.precision", "" if mixed else f"not read there without {amp}")


def _flag_at(t: Translation, path: str) -> bool:
    try:
        return flag(t.value(path, False))
    except NoEqualError as reason:
        raise ConversionError(f"{path}: {reason}.") from None


def _discriminator_steps(t: Translation, total: int) -> None:
    waits, times = "train.net_d_init_iters", "train.net_d_iters"
    if "network_d" not in t.out:
        for path in (waits, times):
            t.drop(path, "without a discriminator it is not used")
        return
    if waits in t.leaves:
        value = t.value(waits, 0)
        if isinstance(value, int | float) and value >= total:
            t.drop(waits, "the generator would never hear the discriminator")
        else:
            apply_table(t, {waits: To("training.net_d_init_iters", whole())})
    if t.value(times, 1) == 1:
        t.always(times, "one update each an iteration")
    else:
        t.drop(
            times, "there the generator rests in between; here: training.net_d_iters, and that many fewer iterations"
        )


def off(reason: str, *paths: str) -> Table:
    """Rules for what is not here at all."""
    return {path: Off(reason) for path in paths}


def on_the_fly(section: str | None = None) -> Callable[[Translation], None]:
    """The degradation of a dialect without parameters of its own."""
    return lambda t: degradation.real_world(t, section)

"""BasicSR and Real-ESRGAN (YAML)."""

from collections.abc import Mapping
from typing import Any

from sr_engine.config.yaml12 import Value
from sr_engine.convert import adversarial, networks, pixelwise
from sr_engine.convert.common import COMMON, Dialect, ema, off, on_the_fly, saved_pictures, seed
from sr_engine.convert.data import Keys
from sr_engine.convert.losses import Kinds
from sr_engine.convert.rules import Is, No, Same, Table, To
from sr_engine.convert.translation import ConversionError, Translation

MODELS = ("srmodel", "srganmodel", "esrganmodel", "swinirmodel", "hatmodel", "realesrnetmodel", "realesrganmodel")
LOADING = Keys(
    kinds={
        "pairedimagedataset": "paired",
        "realesrganpaireddataset": "paired",
        "realesrgandataset": "on the fly",
    },
    workers="datasets.train.num_worker_per_gpu",
    batch="datasets.train.batch_size_per_gpu",
    accumulate="datasets.train.accum_iter",
    meta="datasets.train.meta_info",
)
_SHARP = "targets are never sharpened here"
TABLE: Table = {
    **COMMON,
    "model_type": Same("said by the losses and data sets"),
    "manual_seed": seed(),
    "datasets.train.meta_info_file": No("paired takes every pair of the two folders; for some write a `list` file"),
    "datasets.train.gt_usm": Is((False, None), _SHARP, _SHARP),
    "l1_gt_usm": Is((False, None), _SHARP, _SHARP),
    "percep_gt_usm": Is((False, None), _SHARP, _SHARP),
    "gan_gt_usm": Is((False, None), _SHARP, _SHARP),
    "queue_size": Same("every sample has its own degradation: no pool is needed"),
    "train.ema_decay": To("training.ema_decay", ema),
    "val.save_img": To("validation.save_images", saved_pictures),
    **off("not here", "train.use_grad_clip"),
}


def _relativistic(t: Translation) -> str | None:
    if str(t.value("model_type")).lower() == "esrganmodel":
        return "ESRGANModel compares with the mean of the other side (relativistic average)"
    return None


DIALECT = Dialect(
    title="BasicSR",
    table=TABLE,
    loading=LOADING,
    networks=networks.BASICSR,
    losses=Kinds(
        judges={
            "l1loss": pixelwise.l1,
            "mseloss": pixelwise.l2,
            "charbonnierloss": pixelwise.charbonnier,
            "perceptualloss": pixelwise.perceptual_basicsr,
            "ganloss": adversarial.gan,
        },
        unets=("unetdiscriminatorsn",),
        gan_difference=_relativistic,
    ),
    total=("train.total_iter",),
    sizes={"gt_size": True, "datasets.train.gt_size": True},
    degradation=on_the_fly(),
    precision=("use_amp", "amp_bf16"),
    optimisers=("adam", "adamw", "adamax", "sgd", "asgd", "rmsprop", "rprop"),
    defaults={
        "param_key_g": (None, "load_from takes averaged weights where a file has them; there: params"),
        "training.grad_clip": (None, "gradients are not clipped there"),
        "training.ema_decay": (0, "the default there"),
    },
    notes=("Iterations are counted from 0 here and from 1 there: warm-up and weights are one iteration apart.",),
)


def recognise(tree: Mapping[Any, Value]) -> list[str]:
    """What in a file is BasicSR's alone."""
    found = ["model_type"] if "model_type" in tree else []
    train = _section(tree, "datasets", "train")
    found += [f"datasets.train.{key}" for key in ("gt_size", "use_shuffle", "meta_info_file") if key in train]
    found += ["dist_params"] if "dist_params" in tree else []
    return found


def check_model(t: Translation) -> None:
    """Refuse what trains on videos or faces.

    Raises:
        ConversionError: a model that is not one of single pictures.
    """
    model = t.value("model_type")
    if model is not None and str(model).lower() not in MODELS:
        raise ConversionError(f"model_type: {model} cannot be translated: only single pictures are trained on here.")


def _section(tree: Mapping[Any, Value], *path: str) -> Mapping[Any, Value]:
    inner: Any = tree
    for step in path:
        inner = inner.get(step) if isinstance(inner, Mapping) else None
    return inner if isinstance(inner, Mapping) else {}

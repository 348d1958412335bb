"""neosr (TOML)."""

from collections.abc import Mapping
from typing import Any

from sr_engine.config.yaml12 import Value
from sr_engine.convert import adversarial, networks, pixelwise
from sr_engine.convert.common import COMMON, Dialect, clip, compiled, ema, on_the_fly, saved_pictures, seed
from sr_engine.convert.data import Keys
from sr_engine.convert.losses import Kinds
from sr_engine.convert.rules import Is, No, Off, Same, Table, To
from sr_engine.convert.translation import ConversionError, Translation
from sr_engine.convert.values import whole

LOADING = Keys(
    kinds={"paired": "paired", "otf": "on the fly"},
    workers="datasets.train.num_worker_per_gpu",
    batch="datasets.train.batch_size",
    accumulate="datasets.train.accumulate",
    meta="datasets.train.meta_info",
)


def _tile(value: Value) -> int | str:
    return "off" if isinstance(value, int) and value <= 0 else whole(1)(value)


TABLE: Table = {
    **COMMON,
    "model_type": Same("said by the data sets"),
    "path.param_key_g": Same("averaged weights where a file has them, else params, as there"),
    "manual_seed": seed(),
    "deterministic": Off("runs are repeatable by their seed on one device; no further switch"),
    "fast_matmul": Off("products are in the precision of training.precision"),
    "compile": To("training.compile", compiled),
    "datasets.train.augmentation": Is((["none"],), "pictures are not mixed", "pictures are never mixed here"),
    "datasets.train.aug_prob": No("belongs to augmentation"),
    "train.ema": To("training.ema_decay", ema),
    "train.grad_clip": To("training.grad_clip", clip, "the largest norm"),
    "train.wavelet_guided": Off("losses see pictures, not their wavelets"),
    "train.wavelet_init": No("belongs to wavelet_guided"),
    "train.sam": Off("there is no sharpness-aware step"),
    "train.sam_init": No("belongs to sam"),
    "train.eco": Off("there is no such training"),
    **{f"train.eco_{name}": No("belongs to eco") for name in ("init", "iters", "schedule")},
    "train.match_lq_colors": Off("colours are compared with the original"),
    "train.match_lq": Off("colours are compared with the original"),
    "train.clamp": Is((False,), "outputs are never clamped in training", "outputs are never clamped in training here"),
    "val.tile": To("validation.tile", _tile),
    "val.save_img": To("validation.save_images", saved_pictures),
    "logger.save_tb_img": Off("validation.save_images saves crops beside the log"),
    "path.print_network": Off("sr-engine train --dry-run tells the weights"),
    "print_network": Off("sr-engine train --dry-run tells the weights"),
    "degradations": No("without on-the-fly degradation it is not read"),
}

DIALECT = Dialect(
    title="neosr",
    table=TABLE,
    loading=LOADING,
    networks=networks.NEOSR,
    losses=Kinds(
        judges={
            "l1loss": pixelwise.l1,
            "mseloss": pixelwise.l2,
            "mssimloss": pixelwise.ms_ssim,
            "vggperceptualloss": pixelwise.perceptual_neosr,
            "ganloss": adversarial.gan_neosr,
        },
        weights={"ganloss": 0.1},
    ),
    total=("logger.total_iter", "train.total_iter"),
    sizes={"datasets.train.patch_size": False},
    degradation=on_the_fly("degradations"),
    precision=("use_amp", "bfloat16"),
    optimisers=("adam", "adamw", "nadam"),
    parts_count_there=True,
    defaults={
        "training.grad_clip": (1.0, "gradients are clipped there unless grad_clip is false"),
        "training.ema_decay": (0, "the default there"),
    },
    notes=(
        "Iterations are counted from 0 here and from 1 there: warm-up and weights are one iteration apart.",
        "neosr clamps outputs to 1/255..1 before its losses unless train.clamp is false; here they are never clamped.",
    ),
)


def recognise(tree: Mapping[Any, Value]) -> list[str]:
    """What in a file is neosr's alone."""
    found = ["bfloat16"] if "bfloat16" in tree else []
    found += ["degradations"] if "degradations" in tree else []
    found += ["model_type"] if tree.get("model_type") in ("image", "otf") else []
    logger, inner = tree.get("logger"), tree.get("datasets")
    found += ["logger.total_iter"] if isinstance(logger, Mapping) and "total_iter" in logger else []
    train = inner.get("train") if isinstance(inner, Mapping) else None
    if isinstance(train, Mapping):
        found += [f"datasets.train.{key}" for key in ("patch_size", "batch_size", "aug_prob") if key in train]
    return found


def check_model(t: Translation) -> None:
    """Refuse models of anything but single pictures.

    Raises:
        ConversionError: another model.
    """
    model = t.value("model_type")
    if model not in (None, "image", "otf", "default"):
        raise ConversionError(f"model_type: {model} cannot be translated: only single pictures are trained on here.")

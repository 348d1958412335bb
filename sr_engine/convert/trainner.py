"""traiNNer-redux (YAML), and Philip Hofmann's fork of it, which adds schedules of loss weights."""

from collections.abc import Mapping
from typing import Any

from sr_engine.config.yaml12 import Value
from sr_engine.convert import adversarial, networks, pixelwise, schedules
from sr_engine.convert.common import COMMON, Dialect, clip, compiled, ema, off, saved_pictures, seed
from sr_engine.convert.data import Keys
from sr_engine.convert.degradation import trainner_extras
from sr_engine.convert.losses import Kinds
from sr_engine.convert.rules import Is, No, Off, Same, Table, To
from sr_engine.convert.values import whole

LOADING = Keys(
    kinds={"pairedimagedataset": "paired", "realesrgandataset": "on the fly"},
    workers="datasets.train.num_worker_per_gpu",
    batch="datasets.train.batch_size_per_gpu",
    accumulate="datasets.train.accum_iter",
    meta="datasets.train.meta_info",
)
_ONNX = No("said by the verb: sr-engine export")
_FORK = "training decides nothing by itself here"
_FORK_KEYS = ("dynamic_loss_scheduling", "training_automations")


def _tile(value: Value) -> int | str:
    return "off" if value in (0, None) else whole(1)(value)


TABLE: Table = {
    **COMMON,
    "manual_seed": seed(),
    "deterministic": Off("runs are repeatable by their seed on one device; no further switch"),
    "use_channels_last": Same("always, also without mixed precision"),
    "fast_matmul": Off("products are in the precision of training.precision"),
    "use_compile": To("training.compile", compiled),
    "compile_mode": No("torch.compile has its default mode here"),
    "compile_dynamic": No("torch.compile has its defaults here"),
    "detect_anomaly": Off("losses and gradients that are not finite are always found"),
    "watch": Off("there is no such switch"),
    "input_pixel_format": Is(("rgb",), "networks see RGB", "networks see RGB"),
    "output_pixel_format": Is(("rgb",), "networks give RGB", "networks give RGB"),
    "high_order_degradation": Same("said by datasets.train.degradation"),
    "high_order_degradations_debug": Off("sr-engine train --dry-run draws sample pictures"),
    "high_order_degradations_debug_limit": No("belongs to high_order_degradations_debug"),
    "queue_size": Same("every sample has its own degradation: no pool is needed"),
    "datasets.train.lq_resize_mode": No("low-resolution pictures are bicubic or real_world here"),
    "path.pretrain_network_g_ema": No("load_from fills network and average alike"),
    "path.pretrain_network_g_teacher": No("name the file under distill.teacher"),
    "train.ema_decay": To("training.ema_decay", ema),
    "train.ema_power": No("the average forgets the start by itself"),
    "train.ema_update_after_step": No("the average forgets the start by itself"),
    "train.ema_switch_iter": Off("the average is never copied back"),
    "train.grad_clip": To("training.grad_clip", clip, "the largest norm"),
    "train.grad_clip_max_norm": No("set training.grad_clip to it"),
    "train.adaptive_d": Off("the discriminator is trained in every iteration"),
    "train.adaptive_d_ema_decay": No("belongs to adaptive_d"),
    "train.adaptive_d_threshold": No("belongs to adaptive_d"),
    "train.optim_ae": Off("there is no autoencoder"),
    "network_ae": Off("there is no autoencoder"),
    "train.eco": Off("there is no such training"),
    "train.use_moa": Off("pictures are never mixed"),
    **{f"train.moa_{name}": No("belongs to use_moa") for name in ("augs", "probs", "debug", "debug_limit")},
    "train.dynamic_loss_scheduling.enabled": Off("nearest: training.balance: grad_ratio"),
    "train.dynamic_loss_scheduling": No("nearest: training.balance: grad_ratio"),
    "train.training_automations": Off(_FORK),
    "auto_vram_management": Off("sr-engine train --dry-run tells the memory of a batch"),
    "val.save_img": To("validation.save_images", saved_pictures),
    "val.metrics_enabled": Same("always"),
    "val.tile_size": To("validation.tile", _tile),
    "val.tile_overlap": No("the overlap follows from the network's reach"),
    "onnx": _ONNX,
    **off("there is no such key", "path.pretrain_network_ae", "path.pretrain_network_ae_ema"),
}

DIALECT = Dialect(
    title="traiNNer-redux",
    table=TABLE,
    loading=LOADING,
    networks=networks.TRAINNER,
    losses=Kinds(
        judges={
            "l1loss": pixelwise.l1,
            "mseloss": pixelwise.l2,
            "charbonnierloss": pixelwise.charbonnier,
            "perceptualloss": pixelwise.perceptual_trainner,
            "mssimloss": pixelwise.ms_ssim,
            "msssimloss": pixelwise.ms_ssim,
            "ganloss": adversarial.gan,
            "r3ganloss": adversarial.r3gan,
            "featurematchingloss": adversarial.feature_matching,
        },
        unets=("unetdiscriminatorsn",),
    ),
    total=("train.total_iter",),
    sizes={"datasets.train.lq_size": False, "datasets.train.gt_size": True},
    degradation=trainner_extras,
    precision=("use_amp", "amp_bf16"),
    defaults={
        "training.grad_clip": (None, "gradients are not clipped there"),
        "training.ema_decay": (0, "the default there"),
    },
    notes=("Iterations are counted from 0 here and from 1 there: warm-up and weights are one iteration apart.",),
)


def recognise(tree: Mapping[Any, Value]) -> list[str]:
    """What in a file is traiNNer-redux's alone."""
    own = ("use_channels_last", "use_compile", "amp_bf16", "high_order_degradation", "onnx", "auto_vram_management")
    found = [key for key in own if key in tree]
    train, inner = tree.get("train"), tree.get("datasets")
    if isinstance(train, Mapping):
        found += [f"train.{key}" for key in ("losses", "use_moa", "grad_clip", *_FORK_KEYS) if key in train]
    pictures = inner.get("train") if isinstance(inner, Mapping) else None
    if isinstance(pictures, Mapping):
        found += [f"datasets.train.{key}" for key in ("lq_size", "accum_iter") if key in pictures]
    return found


def fork(tree: Mapping[Any, Value]) -> list[str]:
    """What in a file only Philip Hofmann's fork has."""
    train = tree.get("train")
    if not isinstance(train, Mapping):
        return []
    entries = train.get("losses")
    scheduled = [
        f"train.losses.{index}.{key}"
        for index, entry in enumerate(entries if isinstance(entries, list) else [])
        if isinstance(entry, Mapping)
        for key in schedules.KEYS
        if key in entry
    ]
    return scheduled + [f"train.{key}" for key in _FORK_KEYS if key in train]

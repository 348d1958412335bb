"""Where the keys of BasicSR, traiNNer and their relatives are found here, and why a value is not offered."""

from typing import Any

from sr_engine.refused import refusal

ELSEWHERE = {
    "curriculum": "it stands under training",
    "lr": "it stands under optim_g or optim_d",
    "train": "its keys stand under training, losses under losses; sr-engine convert translates whole files",
    "val": "pictures stand under datasets.val, the rest under validation",
    "logger": "use logging",
    "path": "use load_from, and --resume on the command line; sr-engine convert translates whole files",
    "pretrain_network_g": "use load_from",
    "resume_state": "use --resume on the command line",
    "num_gpu": "use --device or torchrun",
    "manual_seed": "use training.seed",
    "use_amp": "use training.precision",
    "amp_bf16": "use training.precision: bf16",
    "use_compile": "use training.compile",
    "gt_size": "use training.patch_size, in low-resolution pixels",
    "lq_size": "use training.patch_size",
    "batch_size_per_gpu": "use training.batch_size",
    "num_worker_per_gpu": "use workers",
    "accum_iter": "use training.accumulate",
    "warmup_iter": "it stands under training.scheduler",
    "val_freq": "use training.validate_every",
    "save_checkpoint_freq": "use training.checkpoint_every",
    "print_freq": "use logging.print_every",
    "use_tb_logger": "use logging.tensorboard",
    "pixel_opt": "losses stand under losses, by a name of your choice",
    "perceptual_opt": "losses stand under losses, by a name of your choice",
    "gan_opt": "losses stand under losses, by a name of your choice",
    "arguments": "arguments stand beside type",
}


def about_value(key: str | int, value: Any) -> str:
    """` (why it is not offered)` of a value of this key that one may expect to be, else the empty string."""
    why = refusal(value) if key == "precision" and isinstance(value, str) else None
    return f" ({why})" if why is not None else ""

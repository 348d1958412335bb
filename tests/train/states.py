"""The state of a run as a checkpoint holds it, with a network of one weight."""

from typing import Any

import torch

from sr_engine.train.rng import rng_state


def state(value: float = 1.0, **changed: Any) -> dict[str, Any]:
    """Whole, with `value` everywhere in the weight."""
    weights = {"weight": torch.full((64, 64), value)}
    group = {"lr": 1e-3, "params": [0]}
    memory = {0: {"step": torch.tensor(3.0), "exp_avg": torch.zeros(64, 64), "exp_avg_sq": torch.zeros(64, 64)}}
    learner = {
        "net": weights,
        "companion": {},
        "optimizer": {"state": memory, "param_groups": [group]},
        "optimizer_type": "AdamW",
        "scaler": {},
    }
    return {
        "iteration": 3,
        "stage": 1,
        "batches": 3,
        "d_trained": 0,
        "bad_steps": 0,
        "best": (2, 30.5),
        "psnr": 30.0,
        "dtype": "float32",
        "device": "cpu",
        "config": "name: a\n",
        "generator": learner,
        "discriminator": None,
        "ema": {"net": {"weight": weights["weight"].clone()}, "updates": 3},
        "bank": {},
        "meter": {"pixel": torch.ones(1)},
        "distill": None,
        "layout": None,
        "prune": None,
        "rng": [rng_state()],
        **changed,
    }

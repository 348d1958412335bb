"""The state of every random generator a step may draw from, as plain tensors and integers."""

import random
from typing import Any

import numpy as np
import torch


def rng_state() -> dict[str, Any]:
    """State of Python's, numpy's, torch's and this process's CUDA generator; loads with `weights_only=True`."""
    _, keys, position, has_gauss, gauss = np.random.get_state()
    state: dict[str, Any] = {
        "python": random.getstate(),
        "numpy": (torch.from_numpy(np.asarray(keys).astype(np.int64)), int(position), int(has_gauss), float(gauss)),
        "torch": torch.get_rng_state(),
    }
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        state["cuda"] = torch.cuda.get_rng_state()
    return state


def set_rng_state(state: dict[str, Any]) -> None:
    """Continue every generator from `state`; a CUDA state is left aside on a machine without CUDA."""
    version, keys, gauss = state["python"]
    random.setstate((version, tuple(keys), gauss))
    np.random.set_state(numpy_state(state["numpy"]))
    torch.set_rng_state(state["torch"])
    if "cuda" in state and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda"])


def numpy_state(state: Any) -> tuple[str, Any, int, int, float]:
    """What numpy calls a state, from what `rng_state` made of it."""
    words, position, has_gauss, cached = state
    return "MT19937", words.numpy().astype(np.uint32), position, has_gauss, cached


def seed_everything(seed: int, rank: int) -> None:
    """Seed all generators; ranks draw different numbers."""
    combined = (seed + 1_000_003 * rank) % 2**32
    random.seed(combined)
    np.random.seed(combined)
    torch.manual_seed(combined)

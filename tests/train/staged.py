"""A run of two stages, and how two runs are compared."""

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sr_engine.train.distributed import World

CPU = World(torch.device("cpu"))
NANO = "network_g={type: generator, preset: nano, width: 8, stages: 1}"
STAGES = (
    NANO,
    "scale=4",
    "training.total_iter=0",
    "training.patch_size=8",
    "logging.print_every=2",
    "training.curriculum=[{scale: 2, iters: 4, patch_size: 10}, "
    "{scale: 4, iters: 3, batch_size: 2, optim_g: {lr: 5e-4}, scheduler: {warmup_iter: 1}}]",
)


def rows(output: Path) -> list[dict[str, Any]]:
    found = [json.loads(line) for line in (output / "log.jsonl").read_text().splitlines()]
    return [{k: v for k, v in row.items() if k not in ("it_per_s", "data_wait")} for row in found]


def assert_equal(a: Any, b: Any) -> None:
    if isinstance(a, Tensor):
        assert torch.equal(a, b)
    elif isinstance(a, dict):
        assert list(a) == list(b)
        assert_equal(list(a.values()), list(b.values()))
    elif isinstance(a, list | tuple):
        for x, y in zip(a, b, strict=True):
            assert_equal(x, y)
    else:
        assert a == b

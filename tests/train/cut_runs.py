"""Small runs that are pruned, and how they are looked at."""

from pathlib import Path
from typing import Any

import torch
from torch import nn

from sr_engine.compress import choose, importance
from sr_engine.models.generator import Generator
from sr_engine.train.distributed import World
from sr_engine.train.pair import Pair
from tests.train.staged import rows

CPU = World(torch.device("cpu"))
SMALL = (
    "network_g={type: generator, preset: nano, width: 16, stages: 2}",
    "training.patch_size=8",
    "training.total_iter=10",
    "training.optim_g={type: AdamW, lr: 1e-2}",
    "logging.print_every=2",
    "datasets.val=null",
)
ONCE = "prune={ratio: 0.35, start_iter: 4, batches: 2}"
GRADUAL = "prune={ratio: 0.5, start_iter: 2, end_iter: 8, steps: 3, batches: 1, regularise: 0.2}"
WHOLE = Generator(scale=2, preset="nano", width=16, stages=2)


def pair(seed: int) -> Pair:
    generator = torch.Generator().manual_seed(seed)
    return Pair(torch.rand(4, 3, 8, 8, generator=generator), torch.rand(4, 3, 16, 16, generator=generator))


def cut_of(net: nn.Module, ratio: float = 0.35) -> Any:
    return choose(net, importance(net, [(pair(9).lr, pair(9).hr)], "taylor"), ratio)


def pruned_rows(output: Path) -> list[dict[str, Any]]:
    return [row for row in rows(output) if row["event"] == "pruned"]

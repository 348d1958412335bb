"""Whether the processes of a run begin with the same: a run of different ones goes on, and learns something else."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from sr_engine.config.changes import changed_keys
from sr_engine.config.load import dump_config, parse_config
from sr_engine.config.schema import Config, Training
from sr_engine.data import TrainStream
from sr_engine.errors import ConfigError, TrainingError
from sr_engine.train.distributed import World


def check_start(world: World, config: Config, start: tuple[Path, Mapping[str, Any]] | None) -> None:
    """Compare configuration, versions of PyTorch and the checkpoint that is continued, before anything is built.

    Raises:
        TrainingError: on all ranks; names the first one that differs from rank 0, and in what.
    """
    if world.size == 1:
        return
    begin = None if start is None else int(start[1]["iteration"])
    mine = (dump_config(config), torch.__version__, begin)
    everybody = world.gather(mine)
    rank = next((rank for rank, theirs in enumerate(everybody) if theirs != everybody[0]), None)
    if rank is None:
        return
    (text, version, first), (other_text, other_version, other) = everybody[0], everybody[rank]
    if text != other_text:
        keys = changed_keys(parse_config(text, "rank 0"), parse_config(other_text, f"rank {rank}"))
        what = f"another configuration ({'; '.join(keys[:5]) or 'other plugins'}): give all the same file and overrides"
    elif first != other:
        what = (
            f"{_begins(other)}, rank 0 {_begins(first)}: the output folder has to lie on a file system that all "
            "machines share"
        )
    else:
        what = f"PyTorch {other_version}, rank 0 {version}: install the same version on all machines"
    raise TrainingError(f"rank {rank} of {world.size} has {what}.")


def check_pictures(world: World, stream: TrainStream) -> None:
    """Compare the training pictures by names, sizes and order; what is in them is not looked at.

    Raises:
        TrainingError: on all ranks; names the first one that differs from rank 0.
    """
    if world.size == 1:
        return
    dataset = stream.dataset
    digest = hashlib.sha256()
    for picture, size in zip(dataset.pictures, dataset.sizes, strict=True):
        digest.update(repr((picture.name, size, picture.box, picture.weight, picture.lr is None)).encode())
    everybody = world.gather((digest.hexdigest(), len(dataset.pictures)))
    for rank, (theirs, count) in enumerate(everybody):
        if theirs != everybody[0][0]:
            raise TrainingError(
                f"rank {rank} of {world.size} has other training pictures ({count}) than rank 0 ({everybody[0][1]}), "
                "by their names or sizes: make the data set the same on all machines."
            )


def check_batch(training: Training, world: World) -> None:
    """Whether a batch can be divided.

    Raises:
        ConfigError: it cannot.
    """
    parts = world.size * training.accumulate
    if training.batch_size % parts:
        raise ConfigError(
            f"training.batch_size {training.batch_size} cannot be divided among {world.size} processes "
            f"x {training.accumulate} parts (accumulate): choose a multiple of {parts}."
        )


def _begins(iteration: int | None) -> str:
    return "no checkpoint to continue from" if iteration is None else f"the checkpoint of iteration {iteration}"

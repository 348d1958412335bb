"""One process or several: rank, device, and the few collective operations a training run needs.

Started by `torchrun` (which sets RANK, WORLD_SIZE and LOCAL_RANK) a run is distributed, else it is not; nothing needs
to be configured. Only rank 0 writes files.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from sr_engine.device import pick_device
from sr_engine.errors import TrainingError
from sr_engine.models.community_network import CommunityNetwork

M = TypeVar("M", bound=nn.Module)
T = TypeVar("T")

# Rank 0 writes checkpoints and the final report while the others wait in a collective.
_TIMEOUT = timedelta(hours=2)


@dataclass(frozen=True)
class World:
    """This process among those of the run."""

    device: torch.device
    rank: int = 0
    size: int = 1

    @property
    def is_main(self) -> bool:
        """True on the process that writes and speaks."""
        return self.rank == 0

    def wrap(self, net: M) -> M | DistributedDataParallel:
        """`net` with gradients averaged over all ranks and rank 0's weights; itself when there is one rank.

        Buffers are not broadcast: the only ones that change (spectral norm's vectors) follow from the weights, and
        changing them in place between two passes of one step would break the gradient of the first.
        """
        if self.size == 1:
            return net
        devices = [self.device] if self.device.type == "cuda" else None
        # Some networks of other projects have weights that no gradient reaches (SPAN, FDAT).
        unused = isinstance(net, CommunityNetwork)
        return DistributedDataParallel(net, device_ids=devices, broadcast_buffers=False, find_unused_parameters=unused)

    def any(self, *flags: bool) -> tuple[bool, ...]:
        """Each flag, true if it is true on any rank; every rank gets the same answer."""
        if self.size == 1:
            return flags
        raised = torch.tensor(flags, dtype=torch.uint8, device=self.device)
        dist.all_reduce(raised, op=dist.ReduceOp.MAX)
        return tuple(bool(flag) for flag in raised.tolist())

    def gather(self, value: T) -> list[T]:
        """The value of every rank, in rank order, on every rank."""
        if self.size == 1:
            return [value]
        values: list[T | None] = [None] * self.size
        dist.all_gather_object(values, value)
        return values  # pyright: ignore[reportReturnType]

    def average_(self, *tensors: torch.Tensor) -> None:
        """Replace floating tensors by their mean over all ranks."""
        if self.size == 1:
            return
        for tensor in tensors:
            dist.all_reduce(tensor)
            tensor /= self.size

    def barrier(self) -> None:
        """Wait for all ranks."""
        if self.size > 1:
            dist.barrier()


@contextmanager
def join_world(device: str = "auto") -> Iterator[World]:
    """The processes that `torchrun` started, or this one alone.

    Raises:
        TrainingError: the environment is that of torchrun, but incomplete.
        EngineError: the device does not exist.
    """
    size, place = int(os.environ.get("WORLD_SIZE", "1")), pick_device(device)
    benchmark = torch.backends.cudnn.benchmark
    torch.backends.cudnn.benchmark = True  # every batch has the same shape
    try:
        if size == 1:
            yield World(place)
        else:
            with _process_group(place, size) as world:
                yield world
    finally:
        torch.backends.cudnn.benchmark = benchmark


@contextmanager
def _process_group(place: torch.device, size: int) -> Iterator[World]:
    try:
        rank, local_rank = int(os.environ["RANK"]), int(os.environ["LOCAL_RANK"])
    except KeyError as missing:
        raise TrainingError(f"WORLD_SIZE is {size} but {missing} is not set: start the run with torchrun.") from None
    if place.type == "cuda":
        place = pick_device(f"cuda:{local_rank}" if place.index is None else str(place))
        torch.cuda.set_device(place)
    dist.init_process_group("nccl" if place.type == "cuda" else "gloo", timeout=_TIMEOUT)
    try:
        yield World(place, rank, size)
    finally:
        dist.destroy_process_group()

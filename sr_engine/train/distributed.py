"""One process or several: rank, device, and the few collective operations a training run needs.

Started by `torchrun` (which sets RANK, WORLD_SIZE and LOCAL_RANK) a run is distributed, else it is not; nothing needs
to be configured. Only rank 0 writes files.
"""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.rendezvous import rendezvous
from torch.nn.parallel import DistributedDataParallel

from sr_engine.device import pick_device
from sr_engine.errors import TrainingError
from sr_engine.models.community_network import CommunityNetwork
from sr_engine.train.peers import settle_blame
from sr_engine.train.rendezvous import fresh_store

M = TypeVar("M", bound=nn.Module)
T = TypeVar("T")

# Where processes wait for one that reads pictures, scores or writes files. It bounds nothing else: what ends a process
# closes its connections, which the others notice at once, unless its whole machine is lost.
_PATIENCE = timedelta(hours=2)


@dataclass(frozen=True)
class World:
    """This process among those of the run."""

    device: torch.device
    rank: int = 0
    size: int = 1
    patient: Any = None  # a group of processes for waits that are long, over the host's network; None with one rank

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
        return DistributedDataParallel(
            net,
            device_ids=devices,
            broadcast_buffers=False,
            find_unused_parameters=unused,
            # Gradients lie where they are exchanged: no copy before and after, and no second set of them in memory.
            gradient_as_bucket_view=True,
        )

    def any(self, *flags: bool) -> tuple[bool, ...]:
        """Each flag, true if it is true on any rank; every rank gets the same answer."""
        if self.size == 1:
            return flags
        raised = torch.tensor(flags, dtype=torch.uint8, device=self.device)
        dist.all_reduce(raised, op=dist.ReduceOp.MAX)
        return tuple(bool(flag) for flag in raised.tolist())

    def gather(self, value: T) -> list[T]:
        """The value of every rank, in rank order, on every rank; waits for hours if need be."""
        if self.size == 1:
            return [value]
        values: list[T | None] = [None] * self.size
        dist.all_gather_object(values, value, group=self.patient)
        return values  # pyright: ignore[reportReturnType]

    def average_(self, *tensors: torch.Tensor) -> None:
        """Replace floating tensors by their mean over all ranks."""
        if self.size == 1:
            return
        for tensor in tensors:
            dist.all_reduce(tensor, group=self.patient if tensor.device != self.device else None)
            tensor /= self.size

    def mean(self, values: dict[str, float]) -> dict[str, float]:
        """The mean of each number over all ranks, which have the same names: one small exchange."""
        if self.size == 1 or not values:
            return values
        numbers = torch.tensor(list(values.values()), dtype=torch.float64, device=self.device)
        self.average_(numbers)
        return dict(zip(values, numbers.tolist(), strict=True))

    def barrier(self) -> None:
        """Wait for all ranks, for hours if need be; a rank that does not come is named."""
        if self.size > 1:
            dist.monitored_barrier(group=self.patient, timeout=_PATIENCE, wait_all_ranks=True)


@contextmanager
def join_world(device: str = "auto", timeout: float = 600.0) -> Iterator[World]:
    """The processes that `torchrun` started, or this one alone.

    Args:
        timeout: seconds that a step waits for the other processes.

    Raises:
        TrainingError: the environment is that of torchrun, but incomplete.
        PeerError: another process has failed.
        EngineError: the device does not exist.
    """
    size, place = int(os.environ.get("WORLD_SIZE", "1")), pick_device(device)
    benchmark = torch.backends.cudnn.benchmark
    torch.backends.cudnn.benchmark = True  # every batch has the same shape
    try:
        if size == 1:
            yield World(place)
        else:
            with _process_group(place, timedelta(seconds=timeout)) as world:
                yield world
    finally:
        torch.backends.cudnn.benchmark = benchmark


@contextmanager
def _process_group(place: torch.device, timeout: timedelta) -> Iterator[World]:
    try:
        local_rank = int(os.environ["LOCAL_RANK"])
        store, rank, size = next(iter(rendezvous("env://")))
    except (KeyError, ValueError) as error:
        missing = error if isinstance(error, KeyError) else str(error).split(":")[-1].strip()
        size = os.environ["WORLD_SIZE"]
        raise TrainingError(f"WORLD_SIZE is {size} but {missing} is not set: start the run with torchrun.") from None
    if place.type == "cuda":
        place = pick_device(f"cuda:{local_rank}" if place.index is None else str(place))
        torch.cuda.set_device(place)
    store = fresh_store(store, rank, size)
    backend = "nccl" if place.type == "cuda" else "gloo"
    dist.init_process_group(backend, store=store, rank=rank, world_size=size, timeout=timeout)
    try:
        yield World(place, rank, size, dist.new_group(backend="gloo", timeout=_PATIENCE))
    except Exception as error:
        settle_blame(store, rank, error)
        raise
    finally:
        if backend == "gloo" or sys.exc_info()[0] is None:  # NCCL would wait for what the others never begin
            dist.destroy_process_group()

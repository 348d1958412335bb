"""A part of the store that the processes of one attempt have to themselves.

The agent of torchrun keeps its store when it starts its processes again (seen in torch 2.14.1), with the addresses that
the killed ones left in it: new process groups then connect to nobody, and wait. The number of restarts
tells attempts apart on one machine alone: each agent counts its own.
"""

import time
import uuid
from typing import Any

import torch.distributed as dist

from sr_engine.errors import TrainingError

_dist: Any = dist  # whose stubs leave out the stores
_POLL = 0.02
_PATIENCE = 600.0  # seconds; processes start apart, by as long as importing takes


def fresh_store(store: Any, rank: int, size: int) -> Any:
    """The store, under a name that only the `size` processes calling this now agree on.

    Every process but the first shows a token of its own, and takes the name that is given to this token; the first
    gives its name to every token it meets, also to those of processes that have died, until all have answered.

    Raises:
        TrainingError: a process does not come.
    """
    if rank == 0:
        name = uuid.uuid4().hex
        _welcome(store, name, size)
    else:
        token = uuid.uuid4().hex
        store.set(f"sr_engine/hello/{rank}", token)
        name = _wait_for(store, f"sr_engine/welcome/{token}")
        store.set(f"sr_engine/here/{name}/{rank}", "1")
    return _dist.PrefixStore(f"sr_engine/{name}", store)


def _welcome(store: Any, name: str, size: int) -> None:
    missing, given = set(range(1, size)), set()
    end = time.monotonic() + _PATIENCE
    while missing:
        for rank in sorted(missing):
            if store.check([f"sr_engine/here/{name}/{rank}"]):
                missing.discard(rank)
            elif store.check([f"sr_engine/hello/{rank}"]):
                token = store.get(f"sr_engine/hello/{rank}").decode()
                if token not in given:
                    given.add(token)
                    store.set(f"sr_engine/welcome/{token}", name)
        if time.monotonic() > end:
            raise TrainingError(f"of {size} processes, {sorted(missing)[:10]} did not start within {_PATIENCE:.0f} s.")
        time.sleep(_POLL)


def _wait_for(store: Any, key: str) -> str:
    end = time.monotonic() + _PATIENCE
    while not store.check([key]):
        if time.monotonic() > end:
            raise TrainingError(f"process 0 did not start within {_PATIENCE:.0f} s.")
        time.sleep(_POLL)
    return store.get(key).decode()

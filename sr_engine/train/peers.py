"""Who failed first: one process tells what went wrong, and the others end without a word of their own."""

import time
from typing import Any

import torch.distributed as dist

from sr_engine.errors import PeerError, TrainingError

_FIRST, _WHY = "failed first", "why"
_GRACE = 5.0  # seconds in which a process that fails tells so; then it was killed
# How the transports tell that nobody is there: texts of gloo, NCCL and the store.
_LOST = ("connection", "socket", "gloo", "nccl", "timed out", "timeout", "monitoredbarrier", "broken pipe")


def settle_blame(store: Any, rank: int, error: Exception) -> None:
    """Note an error of this process where the others look, or say that another one was first.

    Raises:
        PeerError: another process has failed before; the command line is silent about it.
        TrainingError: another process is not there any more and has not said why.
    """
    try:
        if not is_lost(error):
            if store.add(_FIRST, 1) == 1:
                store.set(_WHY, f"process {rank}: {error}")
                return
            raise PeerError(f"another process of the run has failed first: {_why(store)}") from error
        why = _why(store)
    except (dist.DistError, RuntimeError) as gone:  # the store has ended with the process that held it
        if not is_lost(error):
            return
        why, error = None, gone if isinstance(gone, Exception) else error
    if why is not None:
        raise PeerError(f"another process of the run has failed: {why}") from error
    raise TrainingError(
        f"process {rank} has lost another one, which was killed or whose machine is gone: torchrun --max-restarts "
        f"begins again at the last checkpoint ({str(error).splitlines()[0][:200]})."
    ) from error


def is_lost(error: Exception) -> bool:
    """Whether an error is that of a connection to another process."""
    if isinstance(error, dist.DistError):
        return True
    return type(error) is RuntimeError and any(word in str(error).lower() for word in _LOST)


def _why(store: Any) -> str | None:
    """What the first process to fail has noted; None if it notes nothing."""
    end = time.monotonic() + _GRACE
    while time.monotonic() < end:
        if store.check([_WHY]):
            return store.get(_WHY).decode()
        time.sleep(0.1)
    return None

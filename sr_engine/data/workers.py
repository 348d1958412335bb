"""Worker processes that prepare batches, and what happens when one of them dies or hangs.

A batch is determined by its number, so new processes go on with the batch that was due, and nothing changes but time.
"""

import logging
import os
import signal
import threading
import time
import weakref
from collections.abc import Iterator
from contextlib import suppress
from itertools import count
from multiprocessing import connection, get_all_start_methods, parent_process
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from sr_engine.errors import DataError

log = logging.getLogger(__name__)

AHEAD = 3  # batches a thread or a worker prepares in advance
_ATTEMPTS = 3  # sets of workers in a row that die without giving a batch
_PATIENCE = 600.0  # seconds without a batch, after which workers are taken for hanging
_HINT = "lower datasets.train.workers (0 = a thread of the training process) or datasets.train.cache_mb"


class Prepared(NamedTuple):
    """What a worker hands over; errors travel as values, so that their sentence arrives unchanged."""

    lr: Tensor
    hr: Tensor
    names: list[str]
    number: int
    skipped: dict[str, str]
    error: BaseException | None


class Workers(Iterator[Prepared]):
    """Batches `start`, `start + 1`, ... made by processes, which are replaced when they die.

    Args:
        batches: by number; it travels to the processes.
        workers: how many processes, at least 1.
        pin_memory: page-locked memory.

    Raises (while iterating):
        DataError: they die or hang again and again.
    """

    def __init__(self, batches: Dataset[Prepared], start: int, workers: int, pin_memory: bool) -> None:
        self._batches, self._due, self._count, self._pin = batches, start, workers, pin_memory
        self._lost = 0
        self._watch = _Watch()
        weakref.finalize(self, self._watch.stop.set)
        self._start()

    def __next__(self) -> Prepared:
        while True:
            try:
                self._watch.since = time.monotonic()
                prepared = next(self._processes)
            except (RuntimeError, OSError, EOFError) as error:
                reason = self._why(error)
                if reason is None:
                    raise
                self._replace(reason, error)
            else:
                self._lost = 0
                self._due += 1
                return prepared
            finally:
                self._watch.since = None

    def close(self) -> None:
        """End the processes."""
        self._watch.stop.set()
        self._processes._shutdown_workers()

    def _start(self) -> None:
        # Never fork: a process that uses CUDA or many threads cannot be forked safely.
        method = "forkserver" if "forkserver" in get_all_start_methods() else "spawn"
        loader = DataLoader(
            self._batches,
            batch_size=None,
            sampler=_Count(self._due),
            num_workers=self._count,
            prefetch_factor=AHEAD,
            pin_memory=self._pin,
            multiprocessing_context=method,
            worker_init_fn=_start_worker,
            # Its own generator: the default draws a seed from the global one, and a resumed run would differ.
            generator=torch.Generator(),
        )
        self._processes: Any = iter(loader)
        self._watch.processes = self._processes._workers

    def _why(self, error: Exception) -> str | None:
        """What has happened to the processes; None where they are well and the error is one that a batch raised."""
        hung, self._watch.hung = self._watch.hung, None
        if hung is not None:
            return hung
        if "Too many open files" in str(error):
            raise DataError(
                f"too many files are open for {self._count} data workers: raise the limit with `ulimit -n`, or lower "
                "datasets.train.workers."
            ) from error
        processes = self._processes._workers
        if isinstance(error, OSError | EOFError):  # a connection breaks before the death is known
            connection.wait([process.sentinel for process in processes], timeout=1.0)
        dead = [process for process in processes if not process.is_alive()]
        if not dead:
            return None
        return "; ".join(f"data worker {process.pid} {_ending(process.exitcode)}" for process in dead)

    def _replace(self, reason: str, error: Exception) -> None:
        self._lost += 1
        with suppress(Exception):  # its queues may be broken
            self._processes._shutdown_workers()
        if self._lost > _ATTEMPTS:
            raise DataError(
                f"{reason}; batch {self._due} did not come in {self._lost} attempts: if memory is short (the system "
                f"kills with SIGKILL then), {_HINT}."
            ) from error
        log.warning("%s: new workers go on with batch %d", reason, self._due)
        self._start()


class _Watch:
    """A thread that kills processes which give nothing, so that whoever waits for them hears of it."""

    def __init__(self) -> None:
        self.since: float | None = None  # when the wait for a batch began
        self.hung: str | None = None
        self.processes: list[Any] = []
        self.stop = threading.Event()
        threading.Thread(target=self._run, name="sr-engine data watch", daemon=True).start()

    def _run(self) -> None:
        while not self.stop.wait(min(1.0, _PATIENCE / 4)):
            since = self.since
            if since is not None and self.hung is None and time.monotonic() - since > _PATIENCE:
                pids = ", ".join(str(process.pid) for process in self.processes)
                self.hung = f"data workers {pids} hung: no batch in {_PATIENCE:g} s"
                for process in self.processes:
                    process.kill()


class _Count(Sampler[int]):
    def __init__(self, start: int) -> None:
        self.start = start

    def __iter__(self) -> Iterator[int]:
        return count(self.start)


def share_memory(prepared: Prepared) -> Prepared:
    """The batch in shared memory, where a worker process hands it over.

    Raises:
        DataError: there is no room. (Left to the queue, it would fail in a thread that nobody hears.)
    """
    if torch.utils.data.get_worker_info() is None:
        return prepared
    try:
        for tensor in (prepared.lr, prepared.hr):
            tensor.share_memory_()
    except (RuntimeError, OSError) as error:
        size = (prepared.lr.nbytes + prepared.hr.nbytes) / 2**20
        raise DataError(
            f"no shared memory for batch {prepared.number} of {size:.1f} MiB ({str(error).splitlines()[0]}): give the "
            "container more of it (docker run --shm-size=8g), or lower datasets.train.workers (0 needs none)."
        ) from error
    return prepared


def _ending(exitcode: int | None) -> str:
    if exitcode is None or exitcode >= 0:
        return f"ended by itself (exit code {exitcode})"
    try:
        name = signal.Signals(-exitcode).name
    except ValueError:
        name = str(-exitcode)
    return f"was killed by signal {name}"


def _start_worker(_: int) -> None:
    torch.set_num_threads(1)
    # Ctrl+C and a closed terminal reach all processes: the training decides when its workers end.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(signal, "SIGHUP"):
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, name="sr-engine parent watch", daemon=True).start()
    info = torch.utils.data.get_worker_info()
    assert info is not None, "runs in a worker"
    info.dataset.share_of_cache(info.num_workers)  # pyright: ignore[reportAttributeAccessIssue]


def _end_with_parent() -> None:
    """A training that is killed cannot end its workers, and the server they were forked from lives as long as they."""
    parent = parent_process()
    if parent is not None:
        connection.wait([parent.sentinel])
        os._exit(1)

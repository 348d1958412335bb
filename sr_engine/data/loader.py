"""Batches, prepared ahead of the training step by a thread or by worker processes."""

import logging
import os
import queue
import threading
import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import count
from typing import Self

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from sr_engine.data.images import to_float
from sr_engine.data.memory import PatchMemory
from sr_engine.data.places import Places
from sr_engine.data.stream import TrainStream
from sr_engine.data.workers import AHEAD, Prepared, Workers, share_memory
from sr_engine.errors import DataError, EngineError

log = logging.getLogger(__name__)

_PLACES_AHEAD = 64  # batches whose places are drawn and sent to the device together


@dataclass(frozen=True)
class Batch:
    """Training patches.

    lr, hr: (B, 3, p, p) and (B, 3, p*scale, p*scale), contiguous NCHW: float32 in [0, 1], or uint8 where asked for.
    names:  the picture of each patch.
    index:  number of the batch, counted from the start of the training.
    """

    lr: Tensor
    hr: Tensor
    names: list[str]
    index: int

    def to(self, device: torch.device | str, memory_format: torch.memory_format = torch.contiguous_format) -> Self:
        """On a device, as float32 in [0, 1]; bytes are converted there, so that only bytes travel."""

        def move(x: Tensor) -> Tensor:
            x = x.to(device, non_blocking=True).to(torch.float32, memory_format=memory_format)
            return x.div_(255.0) if was_bytes else x

        was_bytes = self.lr.dtype == torch.uint8
        return type(self)(move(self.lr), move(self.hr), self.names, self.index)


class BatchIterator(Iterator[Batch]):
    """Endless batches; `close()` (or leaving a `with`) ends the thread or the processes behind it."""

    def __init__(self, prepared: Iterator[Prepared], close: Callable[[], None]) -> None:
        self._prepared, self._close = prepared, close
        self._warned: set[str] = set()
        self._closed = False

    def __next__(self) -> Batch:
        if self._closed:
            raise StopIteration
        prepared = next(self._prepared)
        if prepared.error is not None:
            self.close()
            raise prepared.error
        for name, reason in prepared.skipped.items():
            if name not in self._warned:
                self._warned.add(name)
                log.warning("skipping a picture that cannot be decoded: %s", reason)
        return Batch(prepared.lr, prepared.hr, prepared.names, prepared.number)

    def close(self) -> None:
        """Stop preparing; calling it again does nothing."""
        if not self._closed:
            self._closed = True
            self._close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def train_loader(
    stream: TrainStream,
    *,
    batch_size: int,
    rank: int = 0,
    world_size: int = 1,
    workers: int | None = None,
    start_batch: int = 0,
    pin_memory: bool = False,
    as_uint8: bool = False,
    device: torch.device | None = None,
) -> BatchIterator:
    """Batches `start_batch`, `start_batch + 1`, ... of a stream, without end.

    Batch k of rank r holds the samples `(k * world_size + r) * batch_size` and following, whatever the other arguments.

    Args:
        batch_size: samples in a batch of this process.
        workers: processes that prepare batches; 0 is a thread of this process; None is the data set's `workers`, or
            a choice by the number of cores.
        pin_memory: page-locked memory, for copying to a GPU in the background (bytes are pinned: use `as_uint8`).
        as_uint8: leave the conversion to float to `Batch.to`, on the device.
        device: where the batches of a set with `in_memory` are made, as float32; the CPU without it. Such a set
            has no use for `workers`, `pin_memory` and `as_uint8`.

    Raises (while iterating):
        ImageFileError: a picture cannot be decoded and `on_bad_file` is `error`.
    """
    if stream.dataset.in_memory:
        made = _FromMemory(stream, batch_size, rank, world_size, start_batch, device or torch.device("cpu"))
        return BatchIterator(made, made.close)
    workers = stream.dataset.workers if workers is None else workers
    workers = _default_workers(stream, world_size) if workers is None else workers
    batches = _Batches(stream, batch_size, rank, world_size, as_uint8)
    if workers == 0:
        thread = _Thread(batches, start_batch, pin_memory)
        iterator = BatchIterator(thread, thread.close)
        weakref.finalize(iterator, thread.stop.set)
        return iterator
    if stream.dataset.complete:
        stream.dataset.cache.share()
    processes = Workers(batches, start_batch, workers, pin_memory)
    return BatchIterator(processes, processes.close)


class _Batches(Dataset[Prepared]):
    """Whole batches by number."""

    def __init__(self, stream: TrainStream, batch_size: int, rank: int, world_size: int, as_uint8: bool) -> None:
        self.stream, self.batch_size, self.rank, self.world_size = stream, batch_size, rank, world_size
        self.as_uint8 = as_uint8

    def __getitem__(self, index: int) -> Prepared:
        try:
            return share_memory(self._prepared(index))
        except EngineError as error:
            return Prepared(torch.empty(0), torch.empty(0), [], index, {}, error)
        except MemoryError:
            error = DataError(f"memory does not suffice to prepare batch {index}: lower workers or cache_mb.")
            return Prepared(torch.empty(0), torch.empty(0), [], index, {}, error)

    def share_of_cache(self, workers: int) -> None:
        """Of the memory for decoded pictures, what one of several workers may use."""
        self.stream.dataset.cache.limit_bytes //= workers

    def _prepared(self, index: int) -> Prepared:
        first = (index * self.world_size + self.rank) * self.batch_size
        samples = [self.stream[first + k] for k in range(self.batch_size)]
        # numpy, not torch: in a thread torch would start a second team of OpenMP threads against the training's own.
        lr, hr = (np.stack([sample[k] for sample in samples]) for k in (0, 1))
        if not self.as_uint8:
            lr, hr = to_float(lr), to_float(hr)
        return Prepared(
            torch.from_numpy(lr),
            torch.from_numpy(hr),
            [sample.name for sample in samples],
            index,
            dict(self.stream.skipped),
            None,
        )


class _FromMemory(Iterator[Prepared]):
    """Batches cut on the device when they are asked for."""

    def __init__(
        self, stream: TrainStream, batch_size: int, rank: int, world_size: int, start: int, device: torch.device
    ) -> None:
        if stream.draw is None:
            raise DataError("in_memory needs a data set that was decoded as a whole: raise cache_mb.")
        self._draw, self._names = stream.draw, [picture.name for picture in stream.dataset.pictures]
        self._batch_size, self._rank, self._world_size, self._next = batch_size, rank, world_size, start
        self._memory = PatchMemory(stream.dataset, scale=stream.scale, patch_size=stream.patch_size, device=device)
        stream.dataset.cache.clear()
        self._rows: Iterator[tuple[Tensor, list[int]]] = iter(())

    def __next__(self) -> Prepared:
        rows = next(self._rows, None)
        if rows is None:
            self._rows = self._coming()
            rows = next(self._rows)
        table, pictures = rows
        lr, hr = self._memory.cut(table)
        number, self._next = self._next, self._next + 1
        return Prepared(lr, hr, [self._names[k] for k in pictures], number, {}, None)

    def close(self) -> None:
        del self._memory

    def _coming(self) -> Iterator[tuple[Tensor, list[int]]]:
        """Rows of the table and pictures, for the next batches of this rank."""
        size, ranks = self._batch_size, self._world_size
        drawn = self._draw(self._next * ranks * size, _PLACES_AHEAD * ranks * size)
        places = Places(*(column.reshape(-1, ranks, size)[:, self._rank].ravel() for column in drawn))
        table = self._memory.table(places)
        return zip(table.split(size), places.picture.reshape(-1, size).tolist(), strict=True)


class _Thread(Iterator[Prepared]):
    """A thread that fills a short queue."""

    def __init__(self, batches: _Batches, start: int, pin_memory: bool) -> None:
        self._batches, self._start, self._pin = batches, start, pin_memory
        self._queue: queue.Queue[Prepared] = queue.Queue(AHEAD)
        self.stop = threading.Event()
        self._worker = threading.Thread(target=self._run, name="sr-engine data", daemon=True)
        self._worker.start()

    def __next__(self) -> Prepared:
        while True:
            try:
                return self._queue.get(timeout=1.0)
            except queue.Empty:
                if not self._worker.is_alive() and self._queue.empty():
                    raise DataError("the thread that prepares batches has ended: repeat the command.") from None

    def close(self) -> None:
        self.stop.set()
        if self._worker is not threading.current_thread():
            self._worker.join()

    def _run(self) -> None:
        for index in count(self._start):
            try:
                prepared = self._batches[index]
                if self._pin and prepared.error is None:
                    prepared = prepared._replace(lr=prepared.lr.pin_memory(), hr=prepared.hr.pin_memory())
            except BaseException as error:  # a defect: raised where batches are taken, not lost with the thread
                known = isinstance(error, Exception)
                told = error if known else DataError(f"the thread that prepares batches has ended ({error!r}).")
                prepared = Prepared(torch.empty(0), torch.empty(0), [], index, {}, told)
            while not self.stop.is_set():
                try:
                    self._queue.put(prepared, timeout=0.2)
                    break
                except queue.Full:
                    continue
            if self.stop.is_set() or prepared.error is not None:
                return


def _default_workers(stream: TrainStream, world_size: int) -> int:
    """A thread on small machines with a cheap degradation; else up to 8 processes, leaving a core to the training."""
    cores = (os.cpu_count() or 1) // world_size
    if cores <= 4 and not stream.dataset.degradation.slow:
        return 0
    return max(0, min(8, cores - 1))

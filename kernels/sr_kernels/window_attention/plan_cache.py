"""Whole numbers that depend on sizes alone, kept from one call to the next within a fixed number of bytes.

A network asks for the same few plans in every block, and making one takes as long as a small attention. Kept are only
tensors of integers and booleans on CPUs: no values, no gradients. Memory of a CUDA graph's pool, or of another stream,
must not be read outside it, so nothing on other devices is kept.
"""

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable
from typing import Any, TypeVar

import torch
from torch import Tensor

T = TypeVar("T")

# Two plans of a map of two million pixels, or all plans of a dozen usual tile sizes.
LIMIT = 32 * 2**20


class Cache:
    """Values by key that hold at most `limit` bytes of tensors; the one asked for longest ago goes first.

    A value larger than half of that is not kept. Any number of threads may ask; one that finds another at work makes
    its own value instead of waiting, so that a process forked in that moment does not wait forever.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.bytes = 0
        self._values: OrderedDict[tuple[Hashable, torch.device], tuple[Any, int]] = OrderedDict()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._values)

    def get(self, key: Hashable, device: torch.device, make: Callable[[], T]) -> T:
        """What `make` returned for this key on this device, now or earlier. Its tensors must never be written to."""
        if device.type != "cpu" or _tensors_are_special():
            return make()
        place = (key, device)
        found = self._look_up(place)
        if found is None:
            # What is made under inference_mode could not be used outside it.
            with torch.inference_mode(False):
                found = make()
            self._keep(place, found)
        return found

    def clear(self) -> None:
        """Forget everything."""
        with self._lock:
            self._values.clear()
            self.bytes = 0

    def _look_up(self, key: tuple[Hashable, torch.device]) -> Any:
        if not self._lock.acquire(blocking=False):
            return None
        try:
            if key not in self._values:
                return None
            self._values.move_to_end(key)
            return self._values[key][0]
        finally:
            self._lock.release()

    def _keep(self, key: tuple[Hashable, torch.device], value: Any) -> None:
        size = sum({t.data_ptr(): t.untyped_storage().nbytes() for t in _tensors(value)}.values())
        if size > self.limit // 2 or not self._lock.acquire(blocking=False):
            return
        try:
            if key in self._values:
                return
            self._values[key] = (value, size)
            self.bytes += size
            while self.bytes > self.limit:
                self.bytes -= self._values.popitem(last=False)[1][1]
        finally:
            self._lock.release()


def _tensors_are_special() -> bool:
    """Whether something traces: then tensors are fake, or stand for a graph."""
    return torch.compiler.is_compiling() or type(torch.empty(0)) is not Tensor


def _tensors(value: Any) -> Iterable[Tensor]:
    """All tensors in a tensor or in nested tuples and lists."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, tuple | list):
        for part in value:
            yield from _tensors(part)


kept = Cache(LIMIT)

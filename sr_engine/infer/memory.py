"""How much memory there is, and how large a tile it allows."""

import os
import re
from collections.abc import Callable
from math import isqrt
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from sr_engine.allocator import trim
from sr_engine.errors import EngineError

T = TypeVar("T")

MIN_TILE = 32
MAX_TILE = 1024
"""Larger tiles save only a few per cent of overlap."""

_SHARE = {"cpu": 0.25, "cuda": 0.6}
# A large picture needs its memory too, and other programs theirs: a machine's whole memory isn't a GPU's.
_MOST = {"cpu": 1 << 30}
# Of the operations in a network only a few results live at once; six times the largest covered inputs, residuals, the
# operation's own workspace and autocast copies in every preset.
_LARGEST_RESULTS_ALIVE = 6
_PROBE = 48
# Of finished rows that wait for their neighbours below, as floats.
_MOST_WAITING = {"cpu": 768 << 20}
_CGROUP = Path("/sys/fs/cgroup")
# What allocators say besides MemoryError and torch.OutOfMemoryError: torch's on a CPU (its words differ between
# systems), C++'s, oneDNN's (a primitive needs memory for its code and scratch) and the libraries' of CUDA.
_OUT_OF_MEMORY = re.compile(
    r"DefaultCPUAllocator|allocate memory|not enough memory|out of memory|bad_?alloc|bad allocation"
    r"|unable to (mmap|allocate)|could not (create|execute|initialize) a (primitive$|memory)|STATUS_ALLOC_FAILED",
    re.IGNORECASE,
)


def auto_tile(
    bytes_per_pixel: float, device: torch.device, *, free: int | None = None, smallest: int = MIN_TILE
) -> int:
    """The side of the largest square tile whose pass fits a safe share of the free memory.

    Args:
        bytes_per_pixel: peak memory of a pass for each low-resolution pixel (see `measure_bytes_per_pixel`).
        free: bytes, default: what `free_memory(device)` says now.
        smallest: never less than this, whatever the memory.
    """
    free = free_memory(device) if free is None else free
    budget = min(free * _SHARE.get(device.type, 0.5), _MOST.get(device.type, free))
    side = isqrt(int(budget / bytes_per_pixel))
    return max(smallest, min(side - side % 8, MAX_TILE))


def waiting_rows(bytes_per_row: float, device: torch.device, *, free: int | None = None) -> int:
    """How many rows of float results, of so many bytes each, may wait at a time for those below them."""
    free = free_memory(device) if free is None else free
    budget = min(free * _SHARE.get(device.type, 0.5) / 2, _MOST_WAITING.get(device.type, free))
    return max(1, int(budget / bytes_per_row))


def free_memory(device: torch.device) -> int:
    """Bytes that a new allocation on `device` may use now; on a CPU within the limits of the container, if any."""
    if device.type == "cuda":
        reusable = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + reusable
    limits = [room for room in (_meminfo(), _cgroup(), _address_space()) if room is not None]
    return min(limits) if limits else _half_of_physical()


def measure_bytes_per_pixel(run: Callable[[Tensor], Tensor], x: Tensor, device: torch.device) -> float:
    """Peak memory of a pass through `run`, per pixel of its input, measured on a small corner of `x` (B, C, H, W)."""
    corner = x[..., :_PROBE, :_PROBE]
    pixels = corner.shape[-2] * corner.shape[-1]
    if device.type == "cuda":
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        run(corner)
        return max(1.0, (torch.cuda.max_memory_allocated(device) - before) / pixels)
    with _LargestResult() as largest:
        run(corner)
    return max(1.0, largest.bytes * _LARGEST_RESULTS_ALIVE / pixels)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether `error` says that an allocation failed, on a GPU or on a CPU: torch's, numpy's or a library's."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and _OUT_OF_MEMORY.search(str(error)) is not None


def release(device: torch.device) -> None:
    """Give back what allocators keep of freed memory, before less is tried."""
    trim()
    if device.type == "cuda":
        torch.cuda.empty_cache()


def halving(amount: int, work: Callable[[int], T], device: torch.device) -> tuple[int, T]:
    """(the amount that went, `work(amount)`), the amount halved as often as memory does not suffice.

    Raises:
        EngineError: it does not suffice for an amount of 1.
    """
    while True:
        try:
            return amount, work(amount)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            if amount == 1:
                raise EngineError(
                    f"memory of {device} does not suffice for a row of the picture: free some."
                ) from error
        # Outside of the except block, whose traceback would keep what was allocated alive.
        amount //= 2
        release(device)


class _LargestResult(TorchDispatchMode):
    """Records the size of the largest tensor that any operation returns: a CPU allocator keeps no peak."""

    bytes = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for tensor in result if isinstance(result, tuple | list) else (result,):
            if isinstance(tensor, Tensor):
                self.bytes = max(self.bytes, tensor.nbytes)
        return result


def _meminfo() -> int | None:
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")), None)


def _cgroup() -> int | None:
    """What the container's limit leaves; its page cache counts as used, but gives way when memory is asked for."""
    for limit, used, stat, cache in (
        ("memory.max", "memory.current", "memory.stat", "inactive_file"),
        ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes", "memory/memory.stat", "total_inactive_file"),
    ):
        try:
            statistics = dict(line.split() for line in (_CGROUP / stat).read_text().splitlines())
            occupied = int((_CGROUP / used).read_text()) - int(statistics.get(cache, 0))
            return max(0, int((_CGROUP / limit).read_text()) - occupied)
        except (OSError, ValueError):  # not this version of cgroups, or "max": no limit
            continue
    return None


def _address_space() -> int | None:
    """What a limit of the process (`ulimit -v`, `ulimit -d`) leaves."""
    try:
        import resource

        total, _, _, _, _, data, _ = (int(pages) for pages in Path("/proc/self/statm").read_text().split())
    except (ImportError, OSError, ValueError):  # not Linux
        return None
    page = resource.getpagesize()
    limits = ((resource.RLIMIT_AS, total), (resource.RLIMIT_DATA, data))
    rooms = [max(0, most - used * page) for kind, used in limits if (most := resource.getrlimit(kind)[0]) >= 0]
    return min(rooms, default=None)


def _half_of_physical() -> int:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2
    except (AttributeError, ValueError, OSError):  # Windows has no sysconf
        return 4 << 30

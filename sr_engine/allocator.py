"""How the C library hands out the memory of tensors on a CPU."""

import ctypes
import os
from pathlib import Path

# Of <malloc.h>.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_LARGEST_BLOCK = 256 * 2**20
_KEPT = 2**30
# What may gather between two looks before it is worth the time of returning it, some milliseconds.
_GATHERED = 32 * 2**20
_least = [0]  # resident bytes after freed memory was last returned


def keep_freed_memory() -> bool:
    """Let this process keep up to 1 GiB of freed memory, in blocks of up to 256 MiB; True where that could be set.

    glibc returns large blocks to the system as they are freed and takes them back page by page, each page zeroed by the
    kernel at its first touch; a network's features are freed and made anew in every layer. Other C libraries, and
    processes whose environment sets MALLOC_ variables or glibc.malloc tunables, are left alone.
    """
    if _chosen():
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError, TypeError):
        return False
    return bool(mallopt(_M_MMAP_THRESHOLD, _LARGEST_BLOCK) and mallopt(_M_TRIM_THRESHOLD, _KEPT))


def return_freed_memory() -> bool:
    """Give freed memory back to the system if this process grew by more than 32 MiB since that was last done.

    To be called between pictures. Tensors of ever other sizes leave gaps between small things that stay (kernels that
    oneDNN made for a size, weights of a resize); nothing leaks, but resident memory grew by 15 % over 2,000 pictures of
    random sizes. True where it was done; never elsewhere than with glibc on Linux, nor where `keep_freed_memory` would
    leave it alone.
    """
    resident = _resident()
    if resident is None or _chosen():
        return False
    if resident <= _least[0] + _GATHERED:
        _least[0] = min(_least[0], resident)
        return False
    returned = trim()
    _least[0] = _resident() or resident
    return returned


def trim() -> bool:
    """Give all freed memory back to the system that glibc can; True where there is such a call."""
    try:
        malloc_trim = ctypes.CDLL(None).malloc_trim
    except (OSError, AttributeError, TypeError):
        return False
    malloc_trim(0)
    return True


def _chosen() -> bool:
    """Whether the user set what malloc does."""
    tuned = "glibc.malloc" in os.environ.get("GLIBC_TUNABLES", "")
    return tuned or any(name.startswith("MALLOC_") for name in os.environ)


def _resident() -> int | None:
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, AttributeError):  # not Linux
        return None

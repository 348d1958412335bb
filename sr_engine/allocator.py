"""How the C library hands out the memory of tensors on a CPU."""

import ctypes
import os

# Of <malloc.h>.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_LARGEST_BLOCK = 256 * 2**20
_KEPT = 2**30


def keep_freed_memory() -> bool:
    """Let this process keep up to 1 GiB of freed memory, in blocks of up to 256 MiB; True where that could be set.

    glibc returns large blocks to the system as they are freed and takes them back page by page, each page zeroed by the
    kernel at its first touch; a network's features are freed and made anew in every layer. Other C libraries, and
    processes whose environment sets MALLOC_ variables or glibc.malloc tunables, are left alone.
    """
    chosen = "glibc.malloc" in os.environ.get("GLIBC_TUNABLES", "")
    if chosen or any(name.startswith("MALLOC_") for name in os.environ):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError, TypeError):
        return False
    return bool(mallopt(_M_MMAP_THRESHOLD, _LARGEST_BLOCK) and mallopt(_M_TRIM_THRESHOLD, _KEPT))

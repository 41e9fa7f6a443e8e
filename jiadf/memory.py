"""Keep freed memory in the process, for speed on a CPU."""

import ctypes

_TRIM_THRESHOLD, _MMAP_MAX = -1, -4  # from glibc's malloc.h
_NEVER = 2**31 - 1


def keep_freed_memory() -> bool:
    """Tell glibc's allocator to keep what is freed; return whether it took that.

    By default each tensor above some megabytes is fresh memory from the system, page by page: a
    network's first stages take three times as long (`benchmarks/memory.py`). The setting is the
    whole process's, so the command line makes it, and no import does.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # another C library, or Windows
        return False
    return bool(mallopt(_TRIM_THRESHOLD, _NEVER)) and bool(mallopt(_MMAP_MAX, 0))

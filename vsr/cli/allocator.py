"""Keeps freed memory in the process, which a program may do and a library may not.

glibc hands large blocks back to the kernel at every free, and the page faults of getting them again
cost a small network as much as its arithmetic.
"""

import ctypes
import logging
import sys

_log = logging.getLogger(__name__)

_M_TRIM_THRESHOLD = -1
_M_MMAP_MAX = -4
_M_ARENA_MAX = -8
_MOST = 2**31 - 1


def keep_freed_memory() -> None:
    """Tells glibc to reuse freed blocks; does nothing where there is no glibc."""
    if not sys.platform.startswith("linux"):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        _log.debug("this C library has no mallopt")
        return
    mallopt(_M_MMAP_MAX, 0)
    mallopt(_M_TRIM_THRESHOLD, _MOST)
    mallopt(_M_ARENA_MAX, 1)  # arenas of other threads would be given back all the same

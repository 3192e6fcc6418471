"""How this process's memory is handed out: glibc's allocator, told to keep what is freed."""

from __future__ import annotations

import ctypes
import sys

_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD = -1, -2, -3
"""glibc's numbers of its own options, from malloc.h."""


def keep_memory() -> None:
    """Let glibc keep freed memory: returning it costs a page fault per 4 KB on every image and batch."""
    if sys.platform != "linux":
        return
    libc = ctypes.CDLL(None)
    if not hasattr(libc, "mallopt"):
        return
    libc.mallopt(_MMAP_THRESHOLD, 1 << 30)
    libc.mallopt(_TRIM_THRESHOLD, 2**31 - 1)
    libc.mallopt(_TOP_PAD, 1 << 26)

"""What the C library does with memory that is freed, where it is glibc; elsewhere nothing.

Sources: mallopt(3), malloc_trim(3).
"""

from __future__ import annotations

import ctypes

M_ARENA_MAX = -8


def share_one_heap() -> None:
    """For all threads of this process and of those that it forks.

    glibc gives each thread a heap of its own and gives none of it back: what one thread has read
    of a configuration, another cannot use again, and reads the next one into a heap of its own.
    To be called before the first thread is begun.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(M_ARENA_MAX, 1)


def give_back() -> None:
    """Give the pages that nothing lies on to the system: those between what is held, too."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)

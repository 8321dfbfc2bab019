"""What a first start makes while the configuration is read: signing keys.

A key holds a core for a tenth of a second, without the interpreter: whoever reads the configuration
meanwhile on another core does not wait for it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import Generic, TypeVar

Made = TypeVar("Made")


class EarlyWork(Generic[Made]):
    """`count` results of `make`, each made in a thread of its own from now on.

    A start that is refused ends once they have ended: the interpreter would abort over a thread
    that comes back from a library without it.
    """

    def __init__(self, make: Callable[[], Made], count: int = 1) -> None:
        self._make = make
        self._left = count
        self._lock = threading.Lock()
        self._made: SimpleQueue[tuple[Made] | None] = SimpleQueue()
        self._threads = [
            threading.Thread(target=self._run, name="early-work") for _ in range(count)
        ]
        for thread in self._threads:
            thread.start()

    def take(self) -> Made:
        """One of them, once it is made; another one where none is left.  For a thread."""
        with self._lock:
            is_left = self._left > 0
            self._left -= is_left
        made = self._made.get() if is_left else None
        return self._make() if made is None else made[0]

    def wait(self) -> None:
        """Until no thread is left, as before a fork."""
        for thread in self._threads:
            thread.join()

    def _run(self) -> None:
        made = None
        try:
            made = (self._make(),)
        finally:
            # What failed is tried again by whoever takes it, and raised there.
            self._made.put(made)

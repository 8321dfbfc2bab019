"""The keys of a first start, made while what needs no key is read.

An RSA key takes a core for a quarter of a second, without the interpreter: whoever reads the
configuration meanwhile on another core does not wait for it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from queue import SimpleQueue

from gateway.identity.keys.jwk import Alg, PrivateKey, generate


class EarlyKeys:
    """`count` keys, each in a thread of its own from now on.

    The threads are daemons, as a start that is refused has no use for the keys.
    """

    def __init__(self, alg: Alg, count: int, make: Callable[[Alg], PrivateKey] = generate) -> None:
        self._alg = alg
        self._make = make
        self._left = count
        self._lock = threading.Lock()
        self._made: SimpleQueue[PrivateKey | None] = SimpleQueue()
        self._threads = [
            threading.Thread(target=self._run, name="early-key", daemon=True) for _ in range(count)
        ]
        for thread in self._threads:
            thread.start()

    def take(self, alg: Alg) -> PrivateKey:
        """One of them, once it is made; another one where none is left.  For a thread."""
        with self._lock:
            early = alg is self._alg and self._left > 0
            self._left -= early
        key = self._made.get() if early else None
        return self._make(alg) if key is None else key

    def wait(self) -> None:
        """Until no thread is left, as before a fork."""
        for thread in self._threads:
            thread.join()

    def _run(self) -> None:
        key = None
        try:
            key = self._make(self._alg)
        finally:
            # What failed is tried again by whoever takes it, and raised there.
            self._made.put(key)

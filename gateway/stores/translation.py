"""Turns what the library of a store raises into what the rooms know, and lets go of the call that
failed."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from types import TracebackType

_DEEPEST = 8
"""Of errors that led to one another; a library may have made a circle of them."""


class Translated:
    """A block in which an error becomes what `known` makes of it; None leaves it as it is.

    It may be entered again and again, also by several at once.  No generator of `contextlib`:
    that holds the error by a local, and the error it by its traceback (`forget_frames`).
    """

    __slots__ = ("_known",)

    def __init__(self, known: Callable[[Exception], Exception | None]) -> None:
        self._known = known

    def __enter__(self) -> None:
        pass

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        frames: TracebackType | None,
    ) -> None:
        known = self._known(error) if isinstance(error, Exception) else None
        if error is None or known is None:
            return
        forget_frames(error)
        try:
            raise known from error
        finally:
            del known  # it holds this function now


def forget_frames(error: BaseException) -> None:
    """Lets go of the functions that have failed, and of what they held.

    A library that keeps its error, in a local or with a connection, keeps all that by the
    traceback: each function, and whoever called it.  A call that failed would stay whole, with
    the request for which it was made, until garbage is collected: megabytes where a store is away.
    """
    led: BaseException | None = error
    for _ in range(_DEEPEST):
        if led is None:
            return
        traceback.clear_frames(led.__traceback__)
        led.__traceback__ = None
        led = led.__cause__ or led.__context__

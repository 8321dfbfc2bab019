"""The body of a request as it comes, for whoever reads it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from aiohttp.streams import StreamReader

if TYPE_CHECKING:
    pass


class RequestBody(StreamReader):
    """A body that tells when there is more of it: bytes, its end, or what broke it.

    Whoever waits for that can wait for something else beside it, without a task, and leave.
    """

    __slots__ = ("on_more",)

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.on_more: Callable[[], None] | None = None

    def feed_data(self, data: bytes, size: int = 0) -> bool:
        paused = super().feed_data(data, size)
        if self.on_more is not None:
            self.on_more()
        return paused

    def feed_eof(self) -> None:
        super().feed_eof()
        if self.on_more is not None:
            self.on_more()

    def set_exception(self, exc: BaseException, *cause: BaseException) -> None:
        super().set_exception(exc, *cause)
        if self.on_more is not None:
            self.on_more()

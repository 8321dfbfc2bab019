"""Coroutines that are begun outside a task, because most of them end where they were begun."""

from __future__ import annotations

from collections.abc import Coroutine, Generator
from types import coroutine
from typing import Any, TypeVar

T = TypeVar("T")


@coroutine
def resume_in_task(begun: Coroutine[Any, Any, T], waits_for: Any) -> Generator[Any, Any, T]:
    """A coroutine that was begun outside a task and now waits, for a task to go on with."""
    while True:
        thrown: BaseException | None = None
        try:
            yield waits_for
        except BaseException as error:  # noqa: BLE001 (a cancellation is handed on like any other)
            thrown = error
        try:
            waits_for = begun.send(None) if thrown is None else begun.throw(thrown)
        except StopIteration as done:
            result: T = done.value
            return result

"""What an endpoint of the gateway's own is, and what it answers.

An endpoint returns `Said` or `Refused`; `router.py` makes the HTTP answer of either, so
that headers, request ids and the form of a problem are in one place.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from aiohttp import web

from gateway.model import Call, Reason

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Said:
    """A good answer; `body` is JSON, None where there is none.  `headers` join those that
    every answer carries; `cookies` are the values of `Set-Cookie` lines."""

    status: int
    body: Mapping[str, Any] | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    cookies: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class FieldError:
    """`field` is one of ours, or "" for the body as a whole."""

    field: str
    problem: str


@dataclass(frozen=True, slots=True)
class Refused:
    """A refusal.  Its texts are constants: nothing that the client sent comes back."""

    reason: Reason
    errors: tuple[FieldError, ...] = ()
    detail: str | None = None
    retry_after_s: float = 0.0
    cookies: tuple[str, ...] = ()


Answer = Said | Refused
Endpoint = Callable[[web.BaseRequest, Call], Awaitable[Answer]]
Endpoints = Mapping[tuple[str, ...], Mapping[str, Endpoint]]
"""Path segments after `/auth` → method → endpoint.  "*" stands for any one segment."""


def invalid(field: str, problem: str) -> Refused:
    return Refused(Reason.BODY_INVALID, (FieldError(field, problem),))


def user_agent_of(call: Call) -> str:
    """The User-Agent field; "" where there is none, the first where there are several."""
    for name, value in call.headers:
        if name.lower() == b"user-agent":
            return value.decode("latin-1")
    return ""


class Unbroken:
    """Lets a write and its announcement finish although the client has gone.

    The server cancels the handler of a client that leaves.  Between a commit and its
    announcement that would leave to the relay what could be known at once.
    """

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[Any]] = set()

    async def __call__(self, work: Coroutine[Any, Any, T]) -> T:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return await asyncio.shield(task)

    async def settle(self) -> None:
        """Waits for what is under way; for the end of the worker."""
        while self._tasks:
            await asyncio.wait(self._tasks)

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # whoever still waits has it; nobody else needs the warning

"""What a built-in endpoint is, and what it replies.

An endpoint returns a `JsonReply` or a `ProblemReply`, a page of `edge.pages` a `PageReply`;
`router.py` makes the HTTP response of each, so that headers, request ids and the form of a problem
are in one place.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from aiohttp import web

from gateway.model import Call, Change, CredentialKind, Reason
from gateway.stores.protocols import RevocationPublisher

T = TypeVar("T")

ACCEPTED = frozenset({CredentialKind.BEARER, CredentialKind.COOKIE})
"""What the endpoints of `/auth` that know their caller take: a key administers no account."""


@dataclass(frozen=True, slots=True)
class JsonReply:
    """A success; `body` is JSON, None where there is none.  `headers` join those that every
    response carries; `cookies` are the values of `Set-Cookie` lines."""

    status: int
    body: Mapping[str, Any] | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    cookies: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class FieldError:
    """What is wrong with one field of the body; `field` is "" for the body as a whole."""

    field: str
    problem: str


@dataclass(frozen=True, slots=True)
class ProblemReply:
    """A refusal, as problem+json.  Its texts are constants: nothing that the client sent is
    repeated."""

    reason: Reason
    errors: tuple[FieldError, ...] = ()
    detail: str | None = None
    retry_after_s: float = 0.0
    cookies: tuple[str, ...] = ()
    max_age_s: int | None = None
    """With INSUFFICIENT_USER_AUTHENTICATION: how fresh a sign-in must be (RFC 9470)."""
    members: Mapping[str, Any] = field(default_factory=dict)
    """What the problem says besides (RFC 9457 section 3.2): nothing that the client sent."""
    told: str = ""
    """The key of what a page says in the place of what it says for the reason."""


@dataclass(frozen=True, slots=True)
class PageReply:
    """A document for a browser; `headers` take the place of those that every response carries."""

    status: int
    document: bytes
    headers: Mapping[str, str] = field(default_factory=dict)
    cookies: tuple[str, ...] = ()
    media_type: str = "text/html; charset=utf-8"
    reason: Reason | None = None
    """Why the call was refused, for who counts and logs; None for a page of any other kind."""


Reply = JsonReply | ProblemReply | PageReply
Endpoint = Callable[[web.BaseRequest, Call], Awaitable[Reply]]
Endpoints = Mapping[tuple[str, ...], Mapping[str, Endpoint]]
"""Path segments after `/auth` → method → endpoint.  "*" stands for any one segment."""


def leads_to(location: str, *cookies: str, headers: Mapping[str, str] | None = None) -> JsonReply:
    """303: by GET to another address (RFC 9110 section 15.4.4)."""
    return JsonReply(303, headers={**(headers or {}), "Location": location}, cookies=cookies)


def invalid_field(field: str, problem: str) -> ProblemReply:
    return ProblemReply(Reason.BODY_INVALID, (FieldError(field, problem),))


def user_agent_of(call: Call) -> str:
    """The User-Agent field; "" where there is none, the first where there are several."""
    for name, value in call.headers:
        if name.lower() == b"user-agent":
            return value.decode("latin-1")
    return ""


async def await_propagation(publisher: RevocationPublisher, changes: Sequence[Change]) -> Reply:
    """204 when every live worker has the changes, else 503 `revocation_pending`."""
    if await publisher.publish(changes):
        return JsonReply(204)
    return ProblemReply(Reason.REVOCATION_PENDING)


class ShieldedTasks:
    """Lets a write and its announcement finish although the client has disconnected.

    The server cancels the handler of a client that disconnects.  Between a commit and its
    announcement that would leave the announcement to the relay, seconds later.
    """

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[Any]] = set()

    async def __call__(self, work: Coroutine[Any, Any, T]) -> T:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return await asyncio.shield(task)

    async def wait(self) -> None:
        """Waits until every task has ended; called when the worker stops."""
        while self._tasks:
            await asyncio.wait(self._tasks)

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # the caller has it; if the caller is gone, asyncio need not warn

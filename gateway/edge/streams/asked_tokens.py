"""Long-lived requests whose token its issuer alone can judge (RFC 7662): it is asked again and
again.

Law: once a token is over at its issuer, what it let in ends within ASK_EVERY_S and the time of an
answer; where there are more of them than can be asked about meanwhile, who waits longest is next.
An issuer that cannot be asked so many times in a row ends it too: nobody knows any more.
"""

from __future__ import annotations

import asyncio
import math
from dataclasses import dataclass, field
from typing import Protocol

from gateway.model import Principal, Reason

ASK_EVERY_S = 30.0
"""As long as an answer may be remembered at most (`cache` of `introspection`)."""
UNANSWERED_MOST = 4
AT_ONCE = 16
"""Questions of one worker: calls have their places beside them."""
SWEEPS = 60
"""In so many sweeps, of a quarter of a second, all tokens have their turn, and not at once."""


class LetIn(Protocol):
    """What a token let in; `registry.LongLivedRequest` is it."""

    principal: Principal | None

    @property
    def credential_text(self) -> str: ...

    @property
    def client_ip(self) -> str: ...

    def terminate(self, reason: Reason, detail: str = "") -> None: ...


class IssuerQuestions(Protocol):
    """`identity.issuers.issuer_tokens.IssuerTokens` meets it."""

    def is_asked_about(self, principal: Principal) -> bool:
        """Whether its issuer was asked about the token of this caller."""

    async def refusal_now(self, principal: Principal, text: str, client_ip: str) -> Reason | None:
        """Why the token is good no more; ISSUER_UNAVAILABLE where its issuer says nothing."""


class NoQuestions:
    """Meets `IssuerQuestions`: no issuer is ever asked."""

    def is_asked_about(self, principal: Principal) -> bool:
        del principal
        return False

    async def refusal_now(self, principal: Principal, text: str, client_ip: str) -> Reason | None:
        del principal, text, client_ip
        return None


@dataclass(slots=True)
class _Token:
    """One token, and all that it let in."""

    due_at: float
    requests: set[LetIn] = field(default_factory=set)
    is_asked: bool = False
    unanswered: int = 0


class AskedTokens:
    """Of one worker; a token is asked about once for all that it let in."""

    def __init__(self, questions: IssuerQuestions) -> None:
        self._questions = questions
        self._tokens: dict[str, _Token] = {}
        """In the order in which they are due."""
        self._swept_at = -math.inf
        self._left = 0
        """Questions that may begin before the next sweep."""
        self._tasks: set[asyncio.Task[None]] = set()

    def __len__(self) -> int:
        return len(self._tokens)

    def add(self, request: LetIn) -> None:
        principal = request.principal
        if principal is None or not self._questions.is_asked_about(principal):
            return
        text = request.credential_text
        token = self._tokens.get(text)
        if token is None:
            due_at = asyncio.get_running_loop().time() + ASK_EVERY_S
            token = self._tokens[text] = _Token(due_at)
        token.requests.add(request)

    def discard(self, request: LetIn) -> None:
        token = self._tokens.get(request.credential_text) if self._tokens else None
        if token is not None:
            token.requests.discard(request)
            if not token.requests:
                del self._tokens[request.credential_text]

    def sweep(self, now: float) -> None:
        """`now` is by the loop's clock."""
        self._swept_at, self._left = now, AT_ONCE + len(self._tokens) // SWEEPS
        self._ask_due()

    def close(self) -> None:
        self._left = 0
        for task in tuple(self._tasks):
            task.cancel()

    def _ask_due(self) -> None:
        for text, token in self._tokens.items():
            if not self._left or len(self._tasks) >= AT_ONCE or token.due_at >= self._swept_at:
                return
            if not token.is_asked:
                token.is_asked = True
                self._left -= 1
                task = asyncio.get_running_loop().create_task(self._ask(text, token))
                self._tasks.add(task)
                task.add_done_callback(self._asked)

    def _asked(self, task: asyncio.Task[None]) -> None:
        """The next one need not wait for a sweep."""
        self._tasks.discard(task)
        self._ask_due()

    async def _ask(self, text: str, token: _Token) -> None:
        one = next(iter(token.requests), None)
        if one is None or (principal := one.principal) is None:
            return  # all of it has ended meanwhile
        try:
            reason = await self._questions.refusal_now(principal, text, one.client_ip)
        finally:
            token.is_asked = False
            # Not before another sweep.
            now = max(asyncio.get_running_loop().time(), self._swept_at)
            token.due_at = now + ASK_EVERY_S
            if self._tokens.get(text) is token:
                self._tokens[text] = self._tokens.pop(text)
        unanswered = reason in (Reason.ISSUER_UNAVAILABLE, Reason.STORE_BUSY)
        token.unanswered = token.unanswered + 1 if unanswered else 0
        if reason is None or 0 < token.unanswered < UNANSWERED_MOST:
            return
        for request in tuple(token.requests):
            request.terminate(reason)

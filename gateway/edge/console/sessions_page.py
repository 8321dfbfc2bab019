"""`/admin/sessions`: who is signed in now, and the end of a sign-in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from gateway.audit.log import AuditKind
from gateway.audit.operator_events import operator_event
from gateway.edge.console.keyset import PAGE_ROWS, listing, position
from gateway.edge.console.pages import (
    Acted,
    ConsoleAction,
    ConsolePage,
    ConsoleRequest,
    NotDone,
    View,
)
from gateway.identity.accounts.account_search import ACCOUNT_ID
from gateway.identity.accounts.accounts import Accounts
from gateway.identity.sessions.session_search import FoundSession, SessionPosition, SessionSearch
from gateway.identity.sessions.sessions import SESSION_ID, Sessions

SESSIONS = "/admin/sessions"


@dataclass(frozen=True, slots=True)
class SessionListDependencies:
    search: SessionSearch
    sessions: Sessions
    accounts: Accounts


class SessionsPage:
    def __init__(self, dependencies: SessionListDependencies) -> None:
        self._deps = dependencies

    def pages(self) -> Sequence[ConsolePage]:
        return [
            ConsolePage(
                SESSIONS,
                "Sessions",
                self.show,
                actions={"end": ConsoleAction(self.end)},
                notices={"end": "The session has ended."},
            )
        ]

    async def show(self, request: ConsoleRequest) -> View:
        text, after = request.query("q", 320), request.query("after", 2_000)
        account_id = await self._account_id(text) if text else ""
        rows: Sequence[FoundSession] = []
        before: SessionPosition | None = None
        match position(after, int, str):
            case [int(created_at), str(session_id)]:
                before = SessionPosition(created_at, session_id)
            case _:
                after = ""
        if account_id is not None:
            rows = await self._deps.search.page(before, PAGE_ROWS + 1, account_id=account_id)
        found = listing(rows, lambda session: [session.created_at, session.id], after)
        words = {"q": text} if text else {}
        return View("sessions.html", {"sessions": found, "words": words, "path": SESSIONS})

    async def _account_id(self, text: str) -> str | None:
        """Of an address, an id, or a session of it; None for what is none of these."""
        if "@" in text:
            account = await self._deps.accounts.by_email(text)
        elif not ACCOUNT_ID.fullmatch(text):
            return None
        else:
            session = await self._deps.sessions.get(text)
            account_id = text if session is None else session.account_id
            account = await self._deps.accounts.by_id(account_id)
        return None if account is None else account.id

    async def end(self, request: ConsoleRequest) -> Acted | NotDone:
        session_id = request.form.get("session", "")
        changes = None
        if SESSION_ID.fullmatch(session_id):
            changes = await self._deps.sessions.end(session_id, "operator")
        if changes is None:
            return NotDone("There is no session with this id.")
        event = operator_event(AuditKind.SESSION_ENDED, None, "ended", sid=session_id)
        return Acted([event], changes, notice="end")

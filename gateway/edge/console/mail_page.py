"""`/admin/mail`: what waits in the outbox, what failed and why; one is sent now, or never.

Law: no text and no link of a mail is on a page, but of those that are kept as there is no mail
server (the first page shows them).
"""

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
from gateway.identity.mail.outbox import MailOutbox
from gateway.identity.mail.outbox_list import MailPosition, MailState, OutboxList

MAIL = "/admin/mail"
_NOT_WAITING = "It does not wait any more, or is being sent just now."


@dataclass(frozen=True, slots=True)
class MailPageDependencies:
    outbox: OutboxList
    mailer: MailOutbox
    sends_mail: bool
    """Whether there is a mail server."""


class MailPage:
    def __init__(self, dependencies: MailPageDependencies) -> None:
        self._deps = dependencies

    def pages(self) -> Sequence[ConsolePage]:
        return [
            ConsolePage(
                MAIL,
                "Mail",
                self.show,
                actions={
                    "send": ConsoleAction(self.send),
                    "drop": ConsoleAction(self.drop),
                },
                notices={
                    "send": "It is tried now.",
                    "drop": "It is not sent, and a link in it is good no more.",
                },
            )
        ]

    async def show(self, request: ConsoleRequest) -> View:
        asked = request.query("state")
        state = MailState(asked) if asked in set(MailState) else MailState.WAITING
        after = request.query("after", 2_000)
        before: MailPosition | None = None
        match position(after, int, str):
            case [int(created_at), str(mail_id)]:
                before = MailPosition(created_at, mail_id)
            case _:
                after = ""
        rows = await self._deps.outbox.page(state, before, PAGE_ROWS + 1)
        values = {
            "mails": listing(rows, lambda mail: [mail.created_at, mail.id], after),
            "state": state,
            "states": list(MailState),
            "words": {"state": state.value},
            "path": MAIL,
            "sends_mail": self._deps.sends_mail,
        }
        return View("mail.html", values)

    async def send(self, request: ConsoleRequest) -> Acted | NotDone:
        mail_id = request.form.get("mail", "")
        if not ACCOUNT_ID.fullmatch(mail_id) or not await self._deps.outbox.send_now(mail_id):
            return NotDone(_NOT_WAITING)
        self._deps.mailer.wake()
        event = operator_event(AuditKind.MAIL_CHANGED, None, "sent now", mail=mail_id[:8])
        return Acted([event], notice="send")

    async def drop(self, request: ConsoleRequest) -> Acted | NotDone:
        mail_id = request.form.get("mail", "")
        if not ACCOUNT_ID.fullmatch(mail_id) or not await self._deps.outbox.drop(mail_id):
            return NotDone(_NOT_WAITING)
        event = operator_event(AuditKind.MAIL_CHANGED, None, "dropped", mail=mail_id[:8])
        return Acted([event], notice="drop")

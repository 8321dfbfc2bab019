"""`/admin/users`: accounts looked for by address, id, role and state; an address is invited."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from gateway.audit.operator_events import invitation_event
from gateway.edge.console.keyset import PAGE_ROWS, listing, position
from gateway.edge.console.pages import (
    Acted,
    ConsoleAction,
    ConsolePage,
    ConsoleRequest,
    NotDone,
    View,
)
from gateway.email_address import display_email, normalize_email
from gateway.identity.accounts.account_search import AccountFilter, AccountSearch
from gateway.identity.accounts.invitations import Invitations, InvitationTerms
from gateway.identity.accounts.registration_rules import RegistrationRules, invitation_problem
from gateway.identity.mail.outbox import MailOutbox
from gateway.model import Reason

USERS = "/admin/users"
INVITATION_S = 7 * 86_400
_STATES = {"": None, "disabled": True, "enabled": False}


@dataclass(frozen=True, slots=True)
class UserListDependencies:
    search: AccountSearch
    invitations: Invitations
    mailer: MailOutbox
    rules: RegistrationRules
    pseudonym: Callable[[str], str]
    """`audit.log.AuditLog.pseudonym`."""
    sends_mail: bool
    """Whether there is a mail server."""


class UsersPage:
    def __init__(self, dependencies: UserListDependencies) -> None:
        self._deps = dependencies

    def pages(self) -> Sequence[ConsolePage]:
        return [
            ConsolePage(
                USERS,
                "Users",
                self.show,
                actions={"invite": ConsoleAction(self.invite)},
                notices={
                    "invited": "The invitation is on its way: it is good for 7 days.",
                    "kept": "The invitation waits in the outbox, as there is no GATEWAY_SMTP_URL.",
                },
            )
        ]

    async def show(self, request: ConsoleRequest) -> View:
        after = request.query("after", 2_000)
        words = {
            name: value for name in ("q", "role", "state") if (value := request.query(name, 320))
        }
        wanted = AccountFilter(
            words.get("q", ""), words.get("role", ""), _STATES.get(words.get("state", ""))
        )
        key = position(after, str)
        rows = await self._deps.search.page(wanted, str(key[0]) if key else "", PAGE_ROWS + 1)
        found = listing(rows, lambda account: [account.normalized_email], after if key else "")
        closed = self._deps.rules.mode == "closed"
        values = {"users": found, "words": words, "closed": closed, "path": USERS}
        return View("users.html", {**values, "form": request.form})

    async def invite(self, request: ConsoleRequest) -> Acted | NotDone:
        email = display_email(request.form.get("email", ""))
        if email is None:
            told = "This is not an address that mail can reach."
            return NotDone(told, fields={"email": told})
        key = normalize_email(email) or ""
        if problem := invitation_problem(self._deps.rules, key):
            return NotDone(problem, fields={"email": problem})
        roles = request.form.get("roles", "").replace(",", " ").split()
        terms = InvitationTerms(
            roles, INVITATION_S, by_mail=True, verified=False, invited_by=request.operator.name
        )
        try:
            invited = await self._deps.invitations.invite(email, terms)
        except ValueError as error:
            return NotDone(f"{error}.", fields={"roles": str(error)})
        if isinstance(invited, Reason):
            told = "There is an account with this address already."
            return NotDone(told, fields={"email": told})
        self._deps.mailer.wake()
        event = invitation_event(self._deps.pseudonym(key), "invited", invited.invitation)
        return Acted([event], notice="invited" if self._deps.sends_mail else "kept")

"""`/admin/users/{id}`: one account, what it has and did, and what an operator may do to it.

Law: what is done here is done by the functions that the commands of the shell call, and told to the
audit log in the same words.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from gateway.audit.log import AuditKind
from gateway.audit.operator_events import operator_event
from gateway.audit.search import EventFilter, search
from gateway.edge.console.pages import (
    Acted,
    ConsoleAction,
    ConsolePage,
    ConsoleRequest,
    NotDone,
    NotFound,
    View,
    of_found,
)
from gateway.edge.console.shown_events import shown_events
from gateway.edge.console.users_page import USERS
from gateway.identity.accounts.account_rows import Account
from gateway.identity.accounts.account_search import ACCOUNT_ID
from gateway.identity.accounts.accounts import Accounts
from gateway.identity.accounts.role_names import check_roles
from gateway.identity.clients.personal_keys import PersonalKeys, described
from gateway.identity.factors.own_factors import OwnFactors
from gateway.identity.providers.linked_identities import LinkedIdentities
from gateway.identity.sessions.sessions import Sessions
from gateway.identity.sign_in.throttle import failure_counters
from gateway.stores.protocols import Attempts, Database

_WHY = "operator"
_EVENTS_SHOWN = 20
_NO_ACCOUNT = NotFound("There is no account with this id; it may have been deleted.")


@dataclass(frozen=True, slots=True)
class PersonDependencies:
    database: Database
    accounts: Accounts
    sessions: Sessions
    keys: PersonalKeys
    factors: OwnFactors
    links: LinkedIdentities
    attempts: Attempts


class PersonPage:
    def __init__(self, dependencies: PersonDependencies) -> None:
        self._deps = dependencies

    def pages(self) -> Sequence[ConsolePage]:
        actions = {
            "grant": self.grant,
            "revoke": self.revoke,
            "disable": self.disable,
            "enable": self.enable,
            "unlock": self.unlock,
            "end-all": self.end_all,
            "end-session": self.end_session,
            "end-key": self.end_key,
            "reset-factors": self.reset_factors,
        }
        return [
            ConsolePage(
                f"{USERS}/{{id}}",
                "User",
                self.show,
                section=USERS,
                actions={
                    name: ConsoleAction(of_found(self._account, _NO_ACCOUNT, act))
                    for name, act in actions.items()
                },
                notices={
                    "grant": "The role was given: tokens of before are outdated.",
                    "revoke": "The role was taken: tokens that carry it are refused.",
                    "disable": "The account is disabled, and its sessions have ended.",
                    "enable": "The account is enabled: what was refused stays refused.",
                    "unlock": "The failed attempts to sign in are forgotten.",
                    "end-all": "All sessions, personal keys and mailed links have ended.",
                    "end-session": "The session has ended.",
                    "end-key": "The key has ended.",
                    "reset-factors": "All second factors are removed, and all sessions ended.",
                },
            )
        ]

    async def _account(self, request: ConsoleRequest) -> Account | None:
        account_id = request.parameters["id"]
        if not ACCOUNT_ID.fullmatch(account_id):
            return None
        return await self._deps.accounts.by_id(account_id)

    async def show(self, request: ConsoleRequest) -> View | NotFound:
        account = await self._account(request)
        if account is None:
            return _NO_ACCOUNT
        deps, account_id = self._deps, account.id
        events = await search(deps.database, EventFilter(subject=account_id), None, _EVENTS_SHOWN)
        values: dict[str, Any] = {
            "account": account,
            "has_password": account.password_hash is not None,
            "granted": set(await deps.accounts.granted_roles(account_id)),
            "factors": await deps.factors.described(account_id),
            "sessions": await deps.sessions.find_active(account_id),
            "keys": [described(key) for key in await deps.keys.find_active(account_id)],
            "links": await deps.links.of_account(account_id),
            "events": shown_events(events),
            "form": request.form,
        }
        return View("person.html", values, title=account.email)

    async def grant(self, request: ConsoleRequest, account: Account) -> Acted | NotDone:
        role = request.form.get("role", "").strip()
        try:
            check_roles([role])
            changes = await self._deps.accounts.grant(account.id, role)
        except ValueError as error:
            return NotDone(f"{error}.", fields={"role": str(error)})
        if not changes:
            return NotDone("The account has this role already.")
        event = operator_event(AuditKind.ROLE_CHANGED, account.id, "granted", role=role)
        return Acted([event], changes, notice="grant")

    async def revoke(self, request: ConsoleRequest, account: Account) -> Acted | NotDone:
        role = request.form.get("role", "")
        changes = (
            await self._deps.accounts.revoke(account.id, role) if role in account.roles else ()
        )
        if not changes:
            return NotDone("Nobody here gave the account this role.")
        event = operator_event(AuditKind.ROLE_CHANGED, account.id, "revoked", role=role)
        return Acted([event], changes, notice="revoke")

    async def disable(self, request: ConsoleRequest, account: Account) -> Acted:
        changes = await self._deps.accounts.disable(account.id)
        event = operator_event(AuditKind.ACCOUNT_CHANGED, account.id, "disabled")
        return Acted([event], changes, notice="disable")

    async def enable(self, request: ConsoleRequest, account: Account) -> Acted:
        await self._deps.accounts.enable(account.id)
        event = operator_event(AuditKind.ACCOUNT_CHANGED, account.id, "enabled")
        return Acted([event], notice="enable")

    async def unlock(self, request: ConsoleRequest, account: Account) -> Acted:
        attempts, key = self._deps.attempts, account.normalized_email
        counters = await failure_counters(attempts, key, account.password_epoch, account.id)
        async with self._deps.database.transaction():  # they lie in Redis: for who still may
            await attempts.clear(counters)
        event = operator_event(AuditKind.ACCOUNT_CHANGED, account.id, "unlocked")
        return Acted([event], notice="unlock")

    async def end_all(self, request: ConsoleRequest, account: Account) -> Acted | NotFound:
        changes = await self._deps.accounts.end_all(account.id, _WHY)
        if not changes:
            return _NO_ACCOUNT
        events = [
            operator_event(AuditKind.REVOKED, None, str(one.kind), target=one.target)
            for one in changes
        ]
        return Acted(events, changes, notice="end-all")

    async def end_session(self, request: ConsoleRequest, account: Account) -> Acted | NotDone:
        session_id = request.form.get("session", "")
        changes = None
        if ACCOUNT_ID.fullmatch(session_id):
            changes = await self._deps.sessions.end(session_id, _WHY, owner=account.id)
        if changes is None:
            return NotDone("The account has no session with this id.")
        event = operator_event(AuditKind.SESSION_ENDED, account.id, "ended", sid=session_id)
        return Acted([event], changes, notice="end-session")

    async def end_key(self, request: ConsoleRequest, account: Account) -> Acted | NotDone:
        key_id = request.form.get("key", "")
        changes = None
        if ACCOUNT_ID.fullmatch(key_id):
            changes = await self._deps.keys.end(key_id, owner=account.id)
        if changes is None:
            return NotDone("The account has no key with this id.")
        event = operator_event(AuditKind.PERSONAL_KEY_ENDED, account.id, "ended", key_id=key_id)
        return Acted([event], changes, notice="end-key")

    async def reset_factors(self, request: ConsoleRequest, account: Account) -> Acted | NotFound:
        changes = await self._deps.factors.reset(account.id)
        if changes is None:
            return _NO_ACCOUNT
        event = operator_event(AuditKind.FACTORS_RESET, account.id, "reset")
        return Acted([event], changes, notice="reset-factors")

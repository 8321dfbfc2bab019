"""Proofs by a passkey, for every endpoint that takes one: judged, recorded, and told."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from aiohttp import web

from gateway.audit.log import AuditKind
from gateway.edge.endpoints.audit_events import AccountEvents, event_of
from gateway.edge.endpoints.endpoint import ProblemReply
from gateway.edge.endpoints.json_body import Fields, JsonObject, Text, check
from gateway.identity.factors.challenges import TOKEN_LONGEST, CeremonyPurpose
from gateway.identity.factors.passkey_ceremonies import (
    CeremonyRefusal,
    PasskeyCeremonies,
    RefusedUse,
    UsedTooOften,
)
from gateway.identity.factors.passkeys import PasskeyUse
from gateway.identity.mail.notifications import SecurityNotifications
from gateway.model import Call, Reason
from gateway.stores.protocols import Database, StoreUnavailable

ANSWER: Fields = {
    "challenge_token": Text(longest=TOKEN_LONGEST),
    "credential": JsonObject(),
}
"""What a page brings back: what `PublicKeyCredential.toJSON()` gave, and what it was asked by."""
CHALLENGE_OVER = ProblemReply(
    Reason.INVALID_TOKEN,
    detail="The challenge is unknown, was answered, or is over: ask for new options.",
)
_NOT_COUNTED = ProblemReply(Reason.INVALID_CREDENTIALS, detail="The passkey does not count here.")
"""Of one that is unknown as of one whose signature is wrong."""


@dataclass(frozen=True, slots=True)
class ProvenAccount:
    """Whose passkey is asked for, and what the proof so far rests on: the id of a session, or of
    the sign-in whose first step was right."""

    purpose: CeremonyPurpose
    account_id: str
    holder: str


class PasskeyProofs:
    def __init__(
        self,
        ceremonies: PasskeyCeremonies,
        database: Database,
        notifications: SecurityNotifications,
        events: AccountEvents,
    ) -> None:
        self._ceremonies = ceremonies
        self._database = database
        self._notifications = notifications
        self._events = events

    async def options(self, proven: ProvenAccount) -> dict[str, Any] | None:
        """For a page that asks for a passkey of this account; None where it has none."""
        return await self._ceremonies.factor_options(
            proven.purpose, proven.account_id, proven.holder
        )

    async def factor(
        self,
        request: web.BaseRequest,
        call: Call,
        proven: ProvenAccount,
        value: Mapping[str, Any],
    ) -> PasskeyUse | ProblemReply:
        """The use of one of the account's passkeys.  `value` is the field `passkey` of a body.

        INVALID_TOKEN where the options were not given for this, are over, or were answered;
        INVALID_CREDENTIALS for whatever else is wrong; RATE_LIMITED where a good answer comes too
        often.
        """
        answer = check(value, ANSWER)
        if isinstance(answer, ProblemReply):
            return answer
        outcome = await self._ceremonies.factor(
            proven.purpose,
            proven.account_id,
            proven.holder,
            (answer["challenge_token"], answer["credential"]),
        )
        return await self._judged(request, call, outcome)

    async def sign_in(
        self, request: web.BaseRequest, call: Call, answer: Mapping[str, Any]
    ) -> PasskeyUse | ProblemReply:
        """The same of a passkey that signs in alone: of whichever account it is."""
        outcome = await self._ceremonies.sign_in(answer["challenge_token"], answer["credential"])
        return await self._judged(request, call, outcome)

    async def _judged(
        self,
        request: web.BaseRequest,
        call: Call,
        outcome: PasskeyUse | RefusedUse | UsedTooOften | CeremonyRefusal,
    ) -> PasskeyUse | ProblemReply:
        if outcome is CeremonyRefusal.CHALLENGE:
            return CHALLENGE_OVER
        if isinstance(outcome, UsedTooOften):
            return ProblemReply(Reason.RATE_LIMITED, retry_after_s=outcome.wait_s)
        if isinstance(outcome, RefusedUse):
            await self._tell_of_refused(request, call, outcome)
        if not isinstance(outcome, PasskeyUse):
            return _NOT_COUNTED
        if outcome.backup_changed:
            # Before anybody has asked whether the account may sign in once more: a passkey of
            # software may say another thing each time.
            await self._events.record(
                outcome.account.id,
                event_of(
                    AuditKind.PASSKEY_BACKUP_CHANGED,
                    call,
                    request,
                    subject=outcome.account.id,
                    passkey_id=outcome.passkey.id,
                    backed_up=outcome.passkey.backed_up,
                ),
            )
        return outcome

    async def _tell_of_refused(
        self, request: web.BaseRequest, call: Call, refused: RefusedUse
    ) -> None:
        passkey = refused.passkey
        await self._events.record(
            passkey.account_id,
            event_of(
                AuditKind.PASSKEY_REFUSED,
                call,
                request,
                subject=passkey.account_id,
                result=Reason.INVALID_CREDENTIALS,
                passkey_id=passkey.id,
                why=refused.refusal.value,
            ),
        )
        with suppress(StoreUnavailable):  # it is refused, with or without a mail
            async with self._database.transaction() as tx:
                await self._notifications.passkey_refused(tx, passkey.account_id, passkey.name)
            self._notifications.wake()

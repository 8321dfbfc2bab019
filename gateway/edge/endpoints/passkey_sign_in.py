"""`/auth/login/passkey…`: sign-in with a passkey alone (docs/passkeys.md).

Law: a stranger learns nothing of who has an account or a passkey.  The options are the same for
everybody, and an unknown passkey is refused as a known one is whose signature is wrong.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from aiohttp import web

from gateway.access.routing.csrf import AllowedOrigins
from gateway.audit.log import AuditKind
from gateway.edge.endpoints.audit_events import AuditSink, event_of
from gateway.edge.endpoints.csrf import is_cross_origin
from gateway.edge.endpoints.endpoint import (
    Endpoint,
    JsonReply,
    ProblemReply,
    Reply,
    ShieldedTasks,
)
from gateway.edge.endpoints.json_body import Text, read_fields
from gateway.edge.endpoints.login_guard import LoginGuard
from gateway.edge.endpoints.passkey_proofs import ANSWER, PasskeyProofs
from gateway.edge.endpoints.session_opening import SessionOpener
from gateway.identity.factors.passkey_ceremonies import PasskeyCeremonies
from gateway.identity.factors.passkeys import PasskeyUse, is_registered
from gateway.identity.sign_in.throttle import Reservation, Throttle
from gateway.model import Call, Reason

_SIGN_IN = ("login", "passkey")


@dataclass(frozen=True, slots=True)
class PasskeySignInDependencies:
    ceremonies: PasskeyCeremonies
    proofs: PasskeyProofs
    opener: SessionOpener
    guard: LoginGuard
    throttle: Throttle
    audit: AuditSink
    origins: Callable[[Call], AllowedOrigins]
    """Whose pages may call `/auth`, as the current snapshot says."""
    shielded: ShieldedTasks
    login_path: str
    """Of this sign-in, as the audit log names it."""


class PasskeySignInEndpoints:
    def __init__(self, dependencies: PasskeySignInDependencies) -> None:
        self._deps = dependencies

    def endpoints(self) -> dict[tuple[str, ...], dict[str, Endpoint]]:
        return {
            _SIGN_IN: {"POST": self.sign_in},
            (*_SIGN_IN, "options"): {"POST": self.options},
        }

    async def options(self, request: web.BaseRequest, _call: Call) -> Reply:
        """For anybody; nothing is kept of them."""
        fields = await read_fields(request, {}, optional=True)
        if isinstance(fields, ProblemReply):
            return fields
        return JsonReply(200, self._deps.ceremonies.sign_in_options())

    async def sign_in(self, request: web.BaseRequest, call: Call) -> Reply:
        if is_cross_origin(call, self._deps.origins):
            return ProblemReply(Reason.CROSS_ORIGIN)
        fields = await read_fields(
            request,
            {**ANSWER, "transport": Text(required=False, words=("bearer", "cookie"))},
        )
        if isinstance(fields, ProblemReply):
            return fields
        device = self._deps.guard.some_device(call)
        reservation = await self._deps.throttle.reserve_passkey(call.client_ip, device)
        if reservation.wait_s > 0:
            self._deps.audit.denied(Reason.TOO_MANY_ATTEMPTS, self._deps.login_path, None)
            return ProblemReply(Reason.TOO_MANY_ATTEMPTS, retry_after_s=reservation.wait_s)
        return await self._deps.shielded(self._prove(request, call, fields, reservation))

    async def _prove(
        self,
        request: web.BaseRequest,
        call: Call,
        fields: Mapping[str, Any],
        reservation: Reservation,
    ) -> Reply:
        """What the passkey says is written down before its event is: run it shielded."""
        try:
            use = await self._deps.proofs.sign_in(request, call, fields)
        except BaseException:
            await self._deps.throttle.give_back(reservation)
            raise
        if isinstance(use, ProblemReply) and use.reason is Reason.INVALID_CREDENTIALS:
            await self._deps.throttle.failed(reservation)
            self._record_failure(request, call, use.reason)
            return use
        await self._deps.throttle.give_back(reservation)
        if isinstance(use, ProblemReply):
            return use
        return await self._admit(request, call, use, fields.get("transport"))

    async def _admit(
        self, request: web.BaseRequest, call: Call, use: PasskeyUse, transport: str | None
    ) -> Reply:
        """Begin a session for a passkey whose authenticator has verified its person."""
        device = await self._deps.guard.known_device(call, use.account.normalized_email)
        opening = self._deps.opener.opening(
            request, call, transport, known_device=device is not None
        )
        reply = await self._deps.opener.open(
            opening,
            use.account,
            amr=(*use.passkey.amr, "mfa"),
            without_password=True,
            still_proven=partial(is_registered, passkey_id=use.passkey.id),
        )
        if isinstance(reply, Reason):
            self._deps.opener.record_failure(opening, use.account, reply)
            return ProblemReply(reply)
        return reply

    def _record_failure(self, request: web.BaseRequest, call: Call, reason: Reason) -> None:
        """By no account: what was not proven to be one's passkey names nobody."""
        self._deps.audit.record(
            event_of(AuditKind.SIGN_IN_FAILED, call, request, result=reason, by="passkey")
        )

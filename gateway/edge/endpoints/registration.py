"""`/auth/register` (docs/accounts.md).

Law: a stranger cannot tell a known e-mail address from an unknown one.  Who may not register is
told so by the settings and the address alone, before any account is looked up.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

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
    invalid_field,
)
from gateway.edge.endpoints.json_body import EMAIL, PASSWORD, Text, read_fields
from gateway.edge.endpoints.new_passwords import hash_for_link, hash_or_refusal
from gateway.edge.endpoints.session_opening import Verification
from gateway.email_address import display_email, is_same_mailbox, normalize_email
from gateway.identity.accounts.account_rows import Account
from gateway.identity.accounts.accounts import Accounts
from gateway.identity.accounts.invitations import Invitations
from gateway.identity.accounts.passwords import Passwords
from gateway.identity.accounts.registration import Registrations
from gateway.identity.accounts.registration_rules import RegistrationRules
from gateway.identity.made_up import AddressTurns
from gateway.identity.mail.recipients import requester_of
from gateway.identity.sign_in.throttle import RequestKind, Throttle
from gateway.model import Call, Reason

_INVITATION = Text(longest=256, required=False)
CLOSED = ProblemReply(Reason.REGISTRATION_CLOSED, detail="Nobody can register here.")
NOT_INVITED = ProblemReply(
    Reason.REGISTRATION_CLOSED, detail="Nobody can register here without an invitation."
)
OTHER_DOMAIN = ProblemReply(
    Reason.REGISTRATION_CLOSED, detail="No address of this domain can be had here."
)
BAD_INVITATION = ProblemReply(
    Reason.REGISTRATION_CLOSED,
    detail="The invitation is unknown, was used, has ended, or is for another address.",
)


@dataclass(frozen=True, slots=True)
class RegistrationDependencies:
    accounts: Accounts
    passwords: Passwords
    registrations: Registrations
    invitations: Invitations
    throttle: Throttle
    audit: AuditSink
    origins: Callable[[Call], AllowedOrigins]
    """Whose pages may call `/auth`, as the current snapshot says."""
    shielded: ShieldedTasks
    verification: Verification
    registration_rules: RegistrationRules


class RegistrationEndpoints:
    def __init__(self, dependencies: RegistrationDependencies) -> None:
        self._deps = dependencies
        self._turns = AddressTurns()

    def endpoints(self) -> dict[tuple[str, ...], dict[str, Endpoint]]:
        return {("register",): {"POST": self.register}}

    async def register(self, request: web.BaseRequest, call: Call) -> Reply:
        if is_cross_origin(call, self._deps.origins):
            return ProblemReply(Reason.CROSS_ORIGIN)
        if self._deps.registration_rules.mode == "closed":
            return CLOSED
        fields = await read_fields(
            request, {"email": EMAIL, "password": PASSWORD, "invitation": _INVITATION}
        )
        if isinstance(fields, ProblemReply):
            return fields
        email = display_email(fields["email"])
        if email is None:
            return invalid_field("email", "is not an address that mail can reach")
        if not self._deps.registration_rules.takes_domain(normalize_email(email) or ""):
            return OTHER_DOMAIN
        invitation = fields.get("invitation")
        if invitation is not None:
            return await self._by_invitation(invitation, email, fields["password"], call)
        if self._deps.registration_rules.mode == "invited":
            return NOT_INVITED
        if self._deps.verification == "off":
            if not is_same_mailbox(email, normalize_email(email) or ""):
                return invalid_field("email", "has letters that mail may take for others")
        else:
            wait_s = await self._deps.throttle.count_request(call.client_ip, RequestKind.REGISTER)
            if wait_s > 0:
                return ProblemReply(Reason.TOO_MANY_ATTEMPTS, retry_after_s=wait_s)
        password_hash = hash_or_refusal(
            await self._deps.passwords.hash(
                fields["password"], words=(email,), client_ip=call.client_ip
            )
        )
        if isinstance(password_hash, ProblemReply):
            return password_hash
        return await self._deps.shielded(self._register(email, password_hash, call))

    async def _by_invitation(self, token: str, email: str, password: str, call: Call) -> Reply:
        """The account at once: the operator has asked for it."""
        async with self._turns.turn(call.client_ip):
            invitation = await self._deps.invitations.find(token, email)
        if invitation is None:
            # Counted against its sender, as a mailed link that is none.
            wait_s = await self._deps.throttle.count_request(call.client_ip, RequestKind.LINK)
            if wait_s > 0:
                return ProblemReply(Reason.TOO_MANY_ATTEMPTS, retry_after_s=wait_s)
            return BAD_INVITATION
        password_hash = await hash_for_link(
            self._deps.passwords,
            self._deps.throttle,
            password,
            token=token,
            email=email,
            client_ip=call.client_ip,
        )
        if isinstance(password_hash, ProblemReply):
            return password_hash
        return await self._deps.shielded(self._redeem(token, email, password_hash, call))

    async def _redeem(self, token: str, email: str, password_hash: str, call: Call) -> Reply:
        requester = None if self._deps.verification == "off" else requester_of(call.client_ip)
        account = await self._deps.invitations.register(token, email, password_hash, requester)
        if account is Reason.EMAIL_TAKEN:
            return ProblemReply(Reason.EMAIL_TAKEN)
        if isinstance(account, Reason):
            return BAD_INVITATION
        self._deps.audit.record(
            event_of(AuditKind.REGISTERED, call, subject=account.id, invited=True)
        )
        return JsonReply(201, _shown(account))

    async def _register(self, email: str, password_hash: str, call: Call) -> Reply:
        if self._deps.verification != "off":
            requester = requester_of(call.client_ip)
            await self._deps.registrations.register(email, password_hash, requester)
            # Whether it has an account is not looked up, so that nothing reveals it.
            pseudonym = self._deps.audit.pseudonym(normalize_email(email) or "")
            self._deps.audit.record(event_of(AuditKind.REGISTERED, call, asked_for=pseudonym))
            return JsonReply(202, {"status": "verification_sent"})
        account = await self._deps.accounts.register(email, password_hash)
        if isinstance(account, Reason):
            return ProblemReply(account)
        self._deps.audit.record(event_of(AuditKind.REGISTERED, call, subject=account.id))
        return JsonReply(201, _shown(account))


def _shown(account: Account) -> dict[str, object]:
    return {
        "user_id": account.id,
        "email": account.email,
        "email_verified": account.email_verified,
        "roles": list(account.roles),
    }

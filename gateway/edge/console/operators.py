"""Who looks at the console, and what they may: by its cookie, or by a token that no browser adds by
itself.

The cookie stands for the local token, or for a session of an account: a session like any other,
which ends with a sign-out at any host, a revocation, a disabled account, on every worker at once.
What an account may is judged anew on each call: by the policy that `console:` names, without one
by the role `admin`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

from gateway.access.authorizer import Authenticator
from gateway.access.console import ConsolePermission, admin_policy
from gateway.access.evaluation import action_verdict
from gateway.access.policies import Policy
from gateway.access.step_up import StepUp
from gateway.edge.console.local_sign_in import LOCAL_ACTOR, LocalSignIn, caller_of
from gateway.edge.console.pages import Operator
from gateway.edge.replies.cookies import single_cookie
from gateway.identity.sign_in.session_cookies import Csrf, is_of_one_host
from gateway.model import Call, Clock, Credential, CredentialKind, Principal, Reason

COOKIE = "__Host-console"
CONSOLE_HOST = "/admin"
"""In the place of the host at which the cookie of an account counts: no `Host` can say it, so that
it is no session cookie anywhere else."""
_ATTRIBUTES = "Path=/; Secure; HttpOnly; SameSite=Lax"
EXPIRED_COOKIE = f"{COOKIE}=; Max-Age=0; {_ATTRIBUTES}"
ALL_PERMISSIONS = frozenset(ConsolePermission)


@dataclass(frozen=True, slots=True)
class OperatorDependencies:
    local: LocalSignIn | None
    """None where the listener is reached from elsewhere: there the local token is none."""
    authenticator: Authenticator
    csrf: Csrf
    clock: Clock
    policy: Callable[[], Policy | None] = field(default=lambda: None)
    """What `console:` of the configuration names, as it is now."""


class Operators:
    def __init__(self, dependencies: OperatorDependencies) -> None:
        self._deps = dependencies
        self._by_role = admin_policy()

    async def identify(self, call: Call) -> Operator | Reason:
        """Who calls, and what they may; NO_CREDENTIAL where nothing was shown."""
        token = bearer_token(call)
        if token is not None:
            return token if isinstance(token, Reason) else await self._of_token(call, token)
        cookie = single_cookie(call, COOKIE)
        if cookie is None:
            return Reason.NO_CREDENTIAL
        if self._deps.local is not None and (session := self._deps.local.read(cookie)) is not None:
            if self._deps.local.has_ended(session):
                return Reason.SESSION_UNKNOWN
            return replace(_LOCAL, csrf_token=self.proof_of(cookie), caller=caller_of(session))
        return await self._of_session(call, cookie)

    async def of_bearer(self, call: Call) -> Operator | Reason:
        """The same for who takes no cookie."""
        token = bearer_token(call)
        if token is None or isinstance(token, Reason):
            return token or Reason.NO_CREDENTIAL
        return await self._of_token(call, token)

    def may_act(self, operator: Operator) -> bool:
        """Whether they may do what an action does, with the sign-in that they have."""
        return operator.may(ConsolePermission.WRITE) and operator.is_fresh(self._deps.clock.now())

    def proof_of(self, cookie: str) -> str:
        """What the pages of this cookie send along with a form."""
        return self._deps.csrf.token(cookie)

    async def principal_of(self, call: Call, cookie: str) -> Principal | Reason:
        """Whose session the cookie stands for; SESSION_UNKNOWN for one of anything else."""
        if not is_of_one_host(cookie):
            return Reason.SESSION_UNKNOWN
        judged = judged_at_console(call, cookie)
        return await self._deps.authenticator.authenticate(
            judged, frozenset({CredentialKind.COOKIE})
        )

    async def _of_session(self, call: Call, cookie: str) -> Operator | Reason:
        principal = await self.principal_of(call, cookie)
        if isinstance(principal, Reason):
            return principal
        return self._judged(principal, call, self.proof_of(cookie))

    async def _of_token(self, call: Call, token: str) -> Operator | Reason:
        if self._deps.local is not None and self._deps.local.takes(token):
            return _LOCAL
        judged = replace(call, credential=Credential(CredentialKind.BEARER, token))
        principal = await self._deps.authenticator.authenticate(
            judged, frozenset({CredentialKind.BEARER})
        )
        if isinstance(principal, Principal) and principal.resource_only:
            # It is good on the routes of its resources (RFC 8707), and here is none.
            return Reason.TOKEN_CLAIMS_INVALID
        return principal if isinstance(principal, Reason) else self._judged(principal, call)

    def _judged(self, principal: Principal, call: Call, csrf_token: str = "") -> Operator:
        """With what the policy gives, and what it would give after a stronger sign-in."""
        policy = self._deps.policy() or self._by_role
        permissions, step_ups = frozenset[ConsolePermission](), dict[ConsolePermission, StepUp]()
        for permission in ConsolePermission:
            verdict = action_verdict(policy, permission, call, principal, self._deps.clock.now)
            if isinstance(verdict, Reason):
                continue
            if verdict.allowed:
                permissions |= {permission}
            elif verdict.step_up is not None:
                step_ups[permission] = verdict.step_up
        return Operator(
            actor=principal.subject,
            name=principal.email or principal.subject,
            permissions=permissions,
            csrf_token=csrf_token,
            # A token that does not say when its owner signed in proves nothing about it.
            auth_time=principal.auth_time or 0,
            step_ups=step_ups,
            caller=principal,
        )


def judged_at_console(call: Call, cookie: str) -> Call:
    """The call with the console's cookie as the session cookie that it is judged by."""
    return replace(
        call,
        host=CONSOLE_HOST,
        credential=Credential(CredentialKind.COOKIE, cookie),
        presented=None,
    )


def bearer_token(call: Call) -> str | Reason | None:
    """None where no `Authorization` came."""
    fields = [value for name, value in call.headers if name.lower() == b"authorization"]
    if not fields:
        return None
    scheme, _, token = fields[0].decode("latin-1").partition(" ")
    if len(fields) != 1 or scheme.lower() != "bearer":
        return Reason.TOKEN_MALFORMED
    return token.strip()


def console_cookie(value: str, life_s: int) -> str:
    """The value of the `Set-Cookie` that gives it: `__Host-` keeps every other host from it."""
    return f"{COOKIE}={value}; Max-Age={life_s}; {_ATTRIBUTES}"


_LOCAL = Operator(LOCAL_ACTOR, "the local token", ALL_PERMISSIONS)

"""Who looks at the console: by its cookie, or by a token that no browser adds by itself."""

from __future__ import annotations

from dataclasses import dataclass, replace

from gateway.access.authorizer import Authenticator
from gateway.edge.console.local_sign_in import LOCAL_ACTOR, LocalSignIn
from gateway.edge.console.pages import ConsolePermission, Operator
from gateway.edge.replies.cookies import single_cookie
from gateway.identity.sign_in.session_cookies import Csrf
from gateway.model import Call, Credential, CredentialKind, Principal, Reason

COOKIE = "__Host-console"
_ATTRIBUTES = "Path=/; Secure; HttpOnly; SameSite=Lax"
EXPIRED_COOKIE = f"{COOKIE}=; Max-Age=0; {_ATTRIBUTES}"
ADMIN_ROLE = "admin"
ALL_PERMISSIONS = frozenset(ConsolePermission)


@dataclass(frozen=True, slots=True)
class OperatorDependencies:
    local: LocalSignIn
    authenticator: Authenticator
    csrf: Csrf


class Operators:
    def __init__(self, dependencies: OperatorDependencies) -> None:
        self._deps = dependencies

    async def identify(self, call: Call) -> Operator | Reason:
        """Who calls, and what they may; NO_CREDENTIAL where nothing was shown."""
        token = bearer_token(call)
        if token is not None:
            return token if isinstance(token, Reason) else await self._of_token(call, token)
        cookie = single_cookie(call, COOKIE)
        return Reason.NO_CREDENTIAL if cookie is None else self._of_cookie(cookie)

    async def of_bearer(self, call: Call) -> Operator | Reason:
        """The same for who takes no cookie."""
        token = bearer_token(call)
        if token is None or isinstance(token, Reason):
            return token or Reason.NO_CREDENTIAL
        return await self._of_token(call, token)

    def _of_cookie(self, cookie: str) -> Operator | Reason:
        if self._deps.local.read(cookie) is None:
            return Reason.SESSION_UNKNOWN
        return replace(_LOCAL, csrf_token=self._deps.csrf.token(cookie))

    async def _of_token(self, call: Call, token: str) -> Operator | Reason:
        if self._deps.local.takes(token):
            return _LOCAL
        judged = replace(call, credential=Credential(CredentialKind.BEARER, token))
        principal = await self._deps.authenticator.authenticate(
            judged, frozenset({CredentialKind.BEARER})
        )
        return principal if isinstance(principal, Reason) else operator_of(principal)


def operator_of(principal: Principal, csrf_token: str = "") -> Operator:
    """With what the roles of the account give."""
    permissions = ALL_PERMISSIONS if ADMIN_ROLE in principal.role_set else frozenset()
    name = principal.email or principal.subject
    # A token that does not say when its owner signed in proves nothing about it.
    auth_time = principal.auth_time or 0
    return Operator(principal.subject, name, permissions, csrf_token, auth_time)


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

"""What a stranger sends again and again: floods of endpoints, and of ways to be refused."""

from __future__ import annotations

import base64
import json
import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from urllib.parse import urlencode

from gateway.identity.clients.key_form import new_key

CONNECTIONS = 16
"""Over so many a flood is sent."""
CALLER = "caller@example.com"


@dataclass(frozen=True, slots=True)
class Flood:
    """`request` makes the nth request.  `rows` and `keys` are the most that it may leave in SQL
    (the audit log included) and in Redis, however often it is sent."""

    name: str
    request: Callable[[int], bytes]
    rows: int = 0
    keys: int = 0


def request(method: str, path: str, *fields: str, body: bytes = b"", kind: str = "json") -> bytes:
    lines = [f"{method} {path} HTTP/1.1", "Host: 127.0.0.1", *fields]
    if body:
        types = {
            "json": "application/json",
            "form": "application/x-www-form-urlencoded",
            "event": "application/secevent+jwt",
        }
        lines.append(f"Content-Type: {types[kind]}")
    if body or method == "POST":
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode() + body


def _json(
    path: str, make: Callable[[int], Mapping[str, str]], *fields: str
) -> Callable[..., bytes]:
    return lambda n: request("POST", path, *fields, body=json.dumps(make(n)).encode())


def _form(path: str, make: Callable[[int], Mapping[str, str]]) -> Callable[[int], bytes]:
    fields = ("Sec-Fetch-Site: same-origin", "Accept: text/html")
    return lambda n: request("POST", path, *fields, body=urlencode(make(n)).encode(), kind="form")


def _client(path: str) -> Callable[[int], bytes]:
    def make(n: int) -> bytes:
        word = base64.b64encode(f"client-{n}:secret".encode()).decode()
        form = urlencode({"grant_type": "client_credentials", "token": "t"}).encode()
        return request("POST", path, f"Authorization: Basic {word}", body=form, kind="form")

    return make


def _signed_by_nobody(n: int) -> str:
    """A JWT of the right form whose key nobody has, another each time."""
    return _jwt(n, "at+jwt", {"sub": "s", "exp": 9e9})


def _jwt(n: int, typ: str, claims: Mapping[str, object]) -> str:
    parts = ({"alg": "RS256", "typ": typ, "kid": f"k{n}"}, claims, n)
    return ".".join(
        base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode() for part in parts
    )


ISSUER_NAME, ISSUER = "company", "http://127.0.0.1:9"
PROVIDER_SECRET = "flooded"
"""An issuer of the flooded configuration that answers nobody."""
ISSUERS = f"""\
issuers:
  {ISSUER_NAME}:
    issuer: {ISSUER}
    audience: api
    backchannel_logout: true
    events: true
providers:
  {ISSUER_NAME}:
    issuer: {ISSUER}
    client_id: gateway
    client_secret: {{secret: {PROVIDER_SECRET}}}
    backchannel_logout: true
"""


def _of_issuer(n: int, typ: str) -> str:
    """What it may have signed with a key that nobody knows, another each time."""
    claims = {"iss": ISSUER, "aud": "api", "iat": int(time.time()), "jti": f"j{n}", "sub": f"s{n}"}
    return _jwt(n, typ, claims)


def _logout_token(n: int) -> bytes:
    form = urlencode({"logout_token": _of_issuer(n, "logout+jwt")}).encode()
    path = f"/auth/issuers/{ISSUER_NAME}/backchannel-logout"
    return request("POST", path, body=form, kind="form")


def _provider_logout(n: int) -> bytes:
    form = urlencode({"logout_token": _of_issuer(n, "logout+jwt")}).encode()
    path = f"/auth/providers/{ISSUER_NAME}/backchannel-logout"
    return request("POST", path, body=form, kind="form")


def _of_provider(method: str, endpoint: str) -> Callable[[int], bytes]:
    path = f"/auth/providers/{ISSUER_NAME}/{endpoint}"
    return lambda n: request(method, f"{path}?state={n:043}&code={n}&return_to=/{n}")


def _security_event(n: int) -> bytes:
    body = _of_issuer(n, "secevent+jwt").encode()
    return request("POST", f"/auth/issuers/{ISSUER_NAME}/events", body=body, kind="event")


def _bearer(method: str, path: str) -> Callable[[int], bytes]:
    return lambda n: request(method, path, f"Authorization: Bearer {_signed_by_nobody(n)}")


def _by_bearer(endpoint: str) -> Flood:
    """Of `METHOD path`: of a token that nobody has signed nothing is left but the counter of a
    limit."""
    method, path = endpoint.split()
    return Flood(endpoint, _bearer(method, path.replace("*", "x")), keys=1)


def _cookie(path: str) -> Callable[[int], bytes]:
    return lambda n: request(
        "GET", path, f"Cookie: __Host-session={secrets.token_urlsafe(32)}",
        "Sec-Fetch-Site: same-origin",
    )  # fmt: skip


def _email(n: int) -> str:
    return f"u{n}@flood.example"


LETTERS = 50
"""Of one address in 15 minutes."""
FAILED_CLIENTS = 300 + 2 * CONNECTIONS
"""Of one address in a minute, and what is under way when it has used them up."""

OWN = (
    Flood(
        "POST /auth/register",
        _json(
            "/auth/register", lambda n: {"email": _email(n), "password": f"quiet river {n} boat"}
        ),
        rows=LETTERS * 4,
        keys=2,
    ),
    Flood(
        "POST /auth/login, accounts made up",
        _json("/auth/login", lambda n: {"email": _email(n), "password": "wrong one 17"}),
        rows=60,
        keys=55,
    ),
    Flood(
        "POST /auth/login, one account",
        _json("/auth/login", lambda n: {"email": CALLER, "password": "wrong one 17"}),
        rows=10,
        keys=5,
    ),
    Flood(
        "POST /auth/login/passkey/options",
        lambda n: request("POST", "/auth/login/passkey/options", "Content-Length: 0"),
        keys=1,
    ),
    Flood(
        "POST /auth/login/passkey",
        lambda n: request(
            "POST",
            "/auth/login/passkey",
            body=json.dumps({"challenge_token": f"{n:064}", "credential": {}}).encode(),
        ),
        keys=4,
    ),
    Flood(
        "POST /auth/refresh",
        _json("/auth/refresh", lambda n: {"refresh_token": f"{n:043}"}),
        keys=1,
    ),
    _by_bearer("POST /auth/logout"),
    _by_bearer("GET /auth/me"),
    _by_bearer("DELETE /auth/me"),
    _by_bearer("GET /auth/me/export"),
    _by_bearer("GET /auth/me/attributes"),
    _by_bearer("PATCH /auth/me/attributes"),
    _by_bearer("GET /auth/tenant"),
    _by_bearer("POST /auth/tenant"),
    _by_bearer("GET /auth/sessions"),
    _by_bearer("DELETE /auth/sessions/*"),
    Flood(
        "POST /auth/login/factor",
        _json("/auth/login/factor", lambda n: {"mfa_token": f"{n:0200}", "code": "123456"}),
        keys=1,
    ),
    _by_bearer("POST /auth/step-up"),
    _by_bearer("GET /auth/factors"),
    _by_bearer("POST /auth/factors/totp"),
    _by_bearer("DELETE /auth/factors/totp"),
    Flood(
        "POST /auth/factors/totp/confirm",
        _json("/auth/factors/totp/confirm", lambda n: {"mfa_token": f"{n:0200}", "code": "123456"}),
        keys=1,
    ),
    _by_bearer("POST /auth/factors/recovery-codes"),
    _by_bearer("GET /auth/keys"),
    _by_bearer("POST /auth/keys"),
    _by_bearer("DELETE /auth/keys/*"),
    _by_bearer("GET /auth/factors/passkeys"),
    _by_bearer("POST /auth/factors/passkeys"),
    _by_bearer("POST /auth/factors/passkeys/options"),
    _by_bearer("PATCH /auth/factors/passkeys/*"),
    _by_bearer("DELETE /auth/factors/passkeys/*"),
    _by_bearer("POST /auth/password/change"),
    _by_bearer("POST /auth/email/change"),
    Flood(
        "POST /auth/email/verify",
        _json("/auth/email/verify", lambda n: {"token": f"{n:043}"}),
        keys=1,
    ),
    Flood(
        "POST /auth/password/reset",
        _json("/auth/password/reset", lambda n: {"token": f"{n:043}", "password": "quiet river 7"}),
        keys=1,
    ),
    Flood(
        "POST /auth/email/resend",
        _json("/auth/email/resend", lambda n: {"email": _email(n)}),
        rows=LETTERS + 5,
        keys=2,
    ),
    Flood(
        "POST /auth/password/forgot",
        _json("/auth/password/forgot", lambda n: {"email": _email(n)}),
        rows=LETTERS * 2 + 5,
        keys=2,
    ),
    Flood("GET /auth/csrf", _cookie("/auth/csrf"), keys=1),
    Flood("GET /auth/hand-over", lambda n: request("GET", f"/auth/hand-over?request={n:064}")),
    Flood("GET /auth/hand-over/start", lambda n: request("GET", f"/auth/hand-over/start?n={n}")),
    Flood(
        "GET /auth/hand-over/accept",
        lambda n: request("GET", f"/auth/hand-over/accept?code={n:064}"),
    ),
    Flood("GET /auth/captcha", lambda n: request("GET", "/auth/captcha"), keys=1),
    Flood("POST /auth/token", _client("/auth/token"), keys=FAILED_CLIENTS),
    Flood("POST /auth/introspect", _client("/auth/introspect"), keys=FAILED_CLIENTS),
    Flood("POST /auth/revoke", _client("/auth/revoke"), keys=FAILED_CLIENTS),
    Flood("POST /auth/issuers/*/backchannel-logout", _logout_token, keys=1),
    Flood("POST /auth/issuers/*/events", _security_event, keys=1),
    Flood("GET /auth/providers", lambda n: request("GET", f"/auth/providers?n={n}")),
    Flood("GET /auth/providers/*/start", _of_provider("GET", "start")),
    Flood("GET /auth/providers/*/callback", _of_provider("GET", "callback")),
    Flood("POST /auth/providers/*/backchannel-logout", _provider_logout, keys=1),
    Flood("GET /auth/links", _bearer("GET", "/auth/links")),
    Flood("DELETE /auth/links/*", _bearer("DELETE", f"/auth/links/{ISSUER_NAME}")),
    Flood(
        "a page: sign-in, accounts made up",
        _form("/auth/ui/sign-in", lambda n: {"email": _email(n), "password": "wrong one 17"}),
        rows=60,
        keys=55,
    ),
    Flood(
        "a page: forgot",
        _form("/auth/ui/forgot", lambda n: {"email": _email(n)}),
        rows=LETTERS * 2 + 5,
        keys=2,
    ),
    Flood("a page: shown", lambda n: request("GET", f"/auth/ui/reset?token={n:043}")),
    Flood("a page: a form of another site", lambda n: request("POST", "/auth/ui/sign-in")),
    Flood("an unknown endpoint", lambda n: request("GET", f"/auth/x{n}")),
    Flood("a document", lambda n: request("GET", "/.well-known/jwks.json")),
)

GUARDED = "/api/whoami"
PROXIED = (
    Flood("proxied: no route", lambda n: request("GET", f"/nowhere/{n}")),
    Flood("proxied: no credential", lambda n: request("GET", GUARDED)),
    Flood("proxied: a made-up token", _bearer("GET", GUARDED)),
    Flood(
        "proxied: a made-up token of another issuer",
        lambda n: request("GET", GUARDED, f"Authorization: Bearer {_of_issuer(n, 'at+jwt')}"),
    ),
    Flood("proxied: a made-up cookie", _cookie(GUARDED)),
    Flood(
        "proxied: a made-up API key",
        lambda n: request("GET", GUARDED, f"Authorization: Bearer {new_key()}"),
    ),
    Flood("proxied: an ambiguous path", lambda n: request("GET", f"/a/%2e%2e/{n}")),
)
FLOODS = OWN + PROXIED


def at(path: str, floods: tuple[Flood, ...] = PROXIED) -> tuple[Flood, ...]:
    """The proxied floods with another guarded path."""

    def moved(flood: Flood) -> Flood:
        return replace(
            flood, request=lambda n: flood.request(n).replace(GUARDED.encode(), path.encode())
        )

    return tuple(map(moved, floods))

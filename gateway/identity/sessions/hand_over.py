"""One sign-in for several hosts: the host of the public URL hands a session over to another.

Law: a code is worth something once, within a minute, at the host it was made out to, in the
browser that asked for it.  The other host draws a name for each request, gives it to that browser
in a `__Host-` cookie and writes its hash into the request, the public host carries the hash over
into the code: nobody who only sees a code, has one made of a session of their own, or may set
cookies for the domain can have it taken; nor can a page of that very host, which may set the
cookie but reads no name that was drawn here.

The operator's console asks in the same way (`console`), and what was made for it is of another
kind: no host of a route takes its codes, and it takes none of theirs.

What travels is sealed (AES-256-GCM) under a key of the installation, so nothing is stored before
a code is used; what was used is claimed in Redis (docs/decisions/0012).
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field

from gateway.identity.base64url import encoded
from gateway.identity.sealed_tokens import CLOCK_STEP_S, SealedTokens
from gateway.model import Clock
from gateway.stores.protocols import NonceStore

BROWSER_COOKIE = "__Host-hand-over"
"""Names the browser that asks, at the host that asks: a name for each of its last requests."""
NAMES_MAX = 8
"""Names that it holds: tabs that ask at once."""

REQUEST_TTL_S = 600
"""Time enough to sign in between."""
CODE_TTL_S = 60

ATTEMPTS_MAX = 4
"""Requests of one tab: by then the cookie of another tab is there."""

RETURN_TO_MAX = 2_048
"""Characters of a path with its query; a longer one leads to `/`."""

_BROWSER = re.compile(r"[A-Za-z0-9_-]{43}", re.ASCII)
_REQUEST, _CODE = b"hand-over request", b"hand-over code"
_CONSOLE_REQUEST, _CONSOLE_CODE = b"hand-over request, console", b"hand-over code, console"
CONSOLE_START, CONSOLE_ACCEPT = "/admin/sign-in/start", "/admin/sign-in/accept"
"""Where the console asks for a session, and where it is given the code."""


@dataclass(frozen=True, slots=True)
class HandOverRequest:
    """What another host asks the public one for.  `origin` is that host's own."""

    origin: str
    return_to: str
    """A path of `origin`, with its query."""
    browser_hash: str
    expires_at: int
    attempt: int = 1
    """How often this browser has asked for it: of tabs that ask at once some must ask again."""
    console: bool = False
    """Whether the operator's console asks, which names itself by `GATEWAY_ADMIN_URL`."""


@dataclass(frozen=True, slots=True)
class HandOverCode:
    """One that was sealed here and is not over; whether it was taken is known to Redis."""

    id: str
    session_id: str = field(repr=False)
    auth_time: int
    amr: tuple[str, ...]
    """When and how its owner signed in, or proved again who they are: a cookie that the other
    host has may not know of it yet."""
    request: HandOverRequest


class HandOvers:
    """Seals requests and codes, and opens them again."""

    def __init__(self, key: bytes, nonces: NonceStore, clock: Clock) -> None:
        """`key` is `derived_key(secret, KeyPurpose.HAND_OVER)`."""
        self._sealed = SealedTokens(key)
        self._nonces = nonces
        self._clock = clock

    def ask(
        self, origin: str, return_to: str, browser: str, attempt: int = 1, *, console: bool = False
    ) -> str:
        """The request of the browser that `browser`, the value of its cookie, names."""
        return self._sealed.seal(
            _CONSOLE_REQUEST if console else _REQUEST,
            [origin, return_to, _hash(browser), int(self._clock.now()) + REQUEST_TTL_S, attempt],
        )

    def read_request(self, sealed: str) -> HandOverRequest | None:
        """None for what was not sealed here, or is over."""
        for kind in (_REQUEST, _CONSOLE_REQUEST):
            match self._sealed.open(kind, sealed):
                case [
                    str(origin),
                    str(return_to),
                    str(browser_hash),
                    int(expires_at),
                    int(attempt),
                ] if expires_at > self._clock.now():
                    console = kind is _CONSOLE_REQUEST
                    return HandOverRequest(
                        origin, return_to, browser_hash, expires_at, attempt, console
                    )
        return None

    def issue(
        self, request: HandOverRequest, session_id: str, auth_time: int, amr: Sequence[str]
    ) -> str:
        """A code for the session, which is live."""
        return self._sealed.seal(
            _CONSOLE_CODE if request.console else _CODE,
            [
                secrets.token_urlsafe(16),
                session_id,
                auth_time,
                list(amr),
                request.origin,
                request.return_to,
                request.browser_hash,
                int(self._clock.now()) + CODE_TTL_S,
                request.attempt,
            ],
        )

    def read_code(self, sealed: str, origin: str, *, console: bool = False) -> HandOverCode | None:
        """None for what was not sealed here, is over, or is made out to another origin, or to the
        console where a host of a route asks, or the other way round."""
        code = self._unsealed_code(sealed, console=console)
        return code if code is not None and code.request.origin == origin else None

    async def redeem(self, code: HandOverCode, browsers: Sequence[str]) -> bool:
        """Whether it is good in this browser, which the cookie names so, for the first time.

        Raises StoreUnavailable.
        """
        return is_of_browser(code, browsers) and await self._nonces.claim(
            f"hand-over:{code.id}", CODE_TTL_S + CLOCK_STEP_S
        )

    def _unsealed_code(self, sealed: str, *, console: bool) -> HandOverCode | None:
        match self._sealed.open(_CONSOLE_CODE if console else _CODE, sealed):
            case [
                str(code_id),
                str(session_id),
                int(auth_time),
                list(amr),
                str(origin),
                str(return_to),
                str(browser_hash),
                int(expires_at),
                int(attempt),
            ] if expires_at > self._clock.now():
                request = HandOverRequest(
                    origin, return_to, browser_hash, expires_at, attempt, console
                )
                return HandOverCode(code_id, session_id, auth_time, tuple(map(str, amr)), request)
        return None


def new_browser() -> str:
    """256 random bits."""
    return secrets.token_urlsafe(32)


def browsers_of(value: str) -> Sequence[str]:
    """The names that the value of a cookie holds, the latest last; none where it is not ours."""
    names = value.split(".")
    return names if len(names) <= NAMES_MAX and all(map(_BROWSER.fullmatch, names)) else ()


def is_of_browser(code: HandOverCode, browsers: Sequence[str]) -> bool:
    """Whether one of the names is that of the browser that asked."""
    wanted = code.request.browser_hash
    return any(hmac.compare_digest(wanted, _hash(browser)) for browser in browsers)


def browser_cookie(browsers: Sequence[str]) -> str:
    """The value of the `Set-Cookie` that names the browser, the latest name last.

    Only this host can set it, and only over TLS (RFC 6265bis section 4.1.3.2): no sibling
    chooses it.
    """
    value = ".".join(browsers[-NAMES_MAX:])
    return (
        f"{BROWSER_COOKIE}={value}; Max-Age={REQUEST_TTL_S}; Path=/; Secure; HttpOnly; SameSite=Lax"
    )


def path_of_own(return_to: str) -> str:
    """The path, where a browser takes it for one of the same origin; else `/`.

    `//host` and `/\\host` name another host to a browser, and what is no printable ASCII is
    removed or rewritten by it (WHATWG URL, section 4.4).
    """
    plain = (
        len(return_to) <= RETURN_TO_MAX
        and return_to.startswith("/")
        and not return_to.startswith("//")
        and "\\" not in return_to
        and all("!" <= char <= "~" for char in return_to)
    )
    return return_to if plain else "/"


def _hash(browser: str) -> str:
    return encoded(hashlib.sha256(b"authgate hand-over\x00" + browser.encode()).digest())

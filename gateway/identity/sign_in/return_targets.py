"""`return_to`: where a browser goes once it is signed in, sealed on its way through the pages.

Law: it leads to a path of the host that it was sealed at, and to no other origin but one that
shares its sessions with the public host, or to the operator's console; nobody but the gateway makes
one.  Whatever else comes is none, and the pages lead to `/`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import quote

from gateway.access.routing.csrf import OwnOrigins
from gateway.access.routing.own_paths import OwnPaths, url_host
from gateway.access.routing.paths import Target, split_target
from gateway.access.step_up import StepUp
from gateway.identity.sealed_tokens import SealedTokens
from gateway.identity.sessions.hand_over import CONSOLE_START, path_of_own
from gateway.model import Clock

RETURN_TTL_S = 3_600
"""Time enough to register, to read the mail and to come back."""

_KIND, _CONSOLE_KIND = b"return to", b"return to the console"


@dataclass(frozen=True, slots=True)
class ReturnTarget:
    location: str
    """For `Location`: a path with its query; the URL at which another host that shares the
    session is given it, and leads on."""
    asked: StepUp | None = None
    """What the sign-in must be for it; None where any will do."""


class ReturnTargets:
    def __init__(
        self,
        key: bytes,
        clock: Clock,
        *,
        public_url: str,
        own_paths: OwnPaths,
        shared_hosts: Callable[[], frozenset[str]],
    ) -> None:
        """`key` is `derived_key(secret, KeyPurpose.RETURN_TO)`; `shared_hosts` are those of the
        configuration as it is now."""
        self._sealed = SealedTokens(key)
        self._now = clock.now
        self._own = OwnOrigins(public_url)
        self._hand_over_path = own_paths.endpoint("hand-over", "start")
        self._shared_hosts = shared_hosts

    def seal(self, host: str, path: str, asked: StepUp | None = None) -> str:
        """`host` as calls have it.  What is no path of its own (`path_of_own`) becomes `/`."""
        max_age_s, amr = (None, ()) if asked is None else (asked.max_age_s, asked.amr)
        expires_at = int(self._now()) + RETURN_TTL_S
        return self._sealed.seal(
            _KIND,
            [self._own.origin_at(host), own_path(path), max_age_s, list(amr), expires_at],
        )

    def seal_for_console(self, origin: str, path: str, asked: StepUp | None = None) -> str:
        """`origin` is that of the console, by the settings of its node; `path` one of its own."""
        max_age_s, amr = (None, ()) if asked is None else (asked.max_age_s, asked.amr)
        expires_at = int(self._now()) + RETURN_TTL_S
        return self._sealed.seal(
            _CONSOLE_KIND, [origin, own_path(path), max_age_s, list(amr), expires_at]
        )

    def open(self, sealed: str, host: str) -> ReturnTarget | None:
        """What it leads to from a page of `host`; None for what was not sealed here, is over, or
        leads to a host that does not share the session."""
        kind, parts = _KIND, self._sealed.open(_KIND, sealed)
        if parts is None:
            kind, parts = _CONSOLE_KIND, self._sealed.open(_CONSOLE_KIND, sealed)
        match parts:
            case [str(origin), str(path), int() | None as max_age_s, list(amr), int(expires_at)]:
                pass
            case _:
                return None
        if kind is _CONSOLE_KIND:
            location: str | None = f"{origin}{CONSOLE_START}?return_to={quote(path, safe='/')}"
        else:
            location = self._location(origin, path, host)
        if location is None or expires_at <= self._now():
            return None
        asked = StepUp(max_age_s, tuple(map(str, amr)))
        return ReturnTarget(location, None if asked == StepUp() else asked)

    def location(self, sealed: str, host: str) -> str:
        """The same for who only leads on; `/` where it leads nowhere."""
        target = self.open(sealed, host)
        return "/" if target is None else target.location

    def _location(self, origin: str, path: str, host: str) -> str | None:
        if own_path(path) != path:
            return None
        if origin == self._own.origin_at(host):
            return path
        other_host = url_host(origin)
        # The hosts may have changed since it was sealed.
        if other_host not in self._shared_hosts() or origin != self._own.origin_at(other_host):
            return None
        return f"{origin}{self._hand_over_path}?return_to={quote(path, safe='/')}"


def own_path(target: str) -> str:
    """The path with its query, where every reader takes it for the same one of this origin;
    else `/`: one with `..` or an empty segment may be cleaned into another."""
    plain = path_of_own(target)
    return plain if isinstance(split_target(plain), Target) else "/"

"""`WWW-Authenticate`: how a caller that was refused may get in (RFC 9110 section 11.6.1)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from gateway.access.definitions import DEFAULT_CHALLENGE, Challenge, ChallengeScheme
from gateway.access.resource_servers import metadata_url
from gateway.access.routing.csrf import OwnOrigins
from gateway.access.routing.routes import Route
from gateway.model import Call, Reason


@dataclass(frozen=True, slots=True)
class ResourceChallenge:
    """What a route that is a resource of OAuth adds to a challenge: where the client reads whom to
    ask for a token (RFC 9728 section 5.1), and for which scopes (RFC 6750 section 3)."""

    metadata_url: str
    scopes: tuple[str, ...]
    lacking: tuple[str, ...] = ()
    """Of these, what the token that came does not have."""


def resource_challenge(
    route: Route, call: Call, origins: OwnOrigins, lacking: tuple[str, ...] = ()
) -> ResourceChallenge | None:
    """None where the route is no resource."""
    server = route.resource_server
    if server is None:
        return None
    return ResourceChallenge(
        metadata_url(server, route, call.host, origins), server.scopes, lacking
    )


def sign_in_challenge(
    reason: str, challenge: Challenge = DEFAULT_CHALLENGE, resource: ResourceChallenge | None = None
) -> str:
    """Of a 401.  RFC 6750 section 3: no error code when the request held no authentication at all.

    A resource is always one of Bearer tokens: what it names leads to no password.
    """
    if reason == Reason.INSUFFICIENT_USER_AUTHENTICATION:
        return step_up_challenge(None, (), challenge, resource)
    if challenge.scheme is ChallengeScheme.BASIC and resource is None:  # RFC 7617 section 2.1
        return f'Basic {_realm(challenge)}, charset="UTF-8"'
    error = None if reason == Reason.NO_CREDENTIAL else "invalid_token"
    return _bearer(challenge, error, [], resource)


def scope_challenge(challenge: Challenge, resource: ResourceChallenge) -> str:
    """Of a 403: the token is good, and for less than this (RFC 6750 section 3.1).

    It names what the resource asks for, not what is lacking: the next token is to have it all.
    """
    return _bearer(challenge, "insufficient_scope", [], resource)


def step_up_challenge(
    max_age_s: int | None,
    amr: Sequence[str],
    challenge: Challenge = DEFAULT_CHALLENGE,
    resource: ResourceChallenge | None = None,
) -> str:
    """RFC 9470 section 3: how the caller must sign in.  `amr` are names of the configuration.

    Of the Bearer scheme on every route: no password makes a sign-in fresher.
    """
    parts = []
    if amr:
        parts.append(f'acr_values="{" ".join(amr)}"')
    if max_age_s is not None:
        parts.append(f'max_age="{max_age_s}"')
    return _bearer(challenge, "insufficient_user_authentication", parts, resource)


def _bearer(
    challenge: Challenge,
    error: str | None,
    parts: Sequence[str],
    resource: ResourceChallenge | None,
) -> str:
    params = [_realm(challenge)]
    if error is not None:
        params.append(f'error="{error}"')
    params += parts
    if resource is not None:
        if resource.scopes:
            params.append(f'scope="{" ".join(resource.scopes)}"')
        params.append(f'resource_metadata="{resource.metadata_url}"')
    return f"Bearer {', '.join(params)}"


def _realm(challenge: Challenge) -> str:
    """A quoted-string (RFC 9110 section 5.6.4)."""
    escaped = challenge.realm.replace("\\", "\\\\").replace('"', '\\"')
    return f'realm="{escaped}"'

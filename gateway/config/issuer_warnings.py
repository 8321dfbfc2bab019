"""What is hardly meant of issuers and resources: `gateway validate` warns of it, and loads it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from gateway.access.issuers import SUBJECT, Issuer
from gateway.access.routing.routes import Auth, Route
from gateway.model import OWN_ISSUER, ConfigProblem, CredentialKind


def issuer_notices(routes: Iterable[Route], issuers: Mapping[str, Issuer]) -> list[ConfigProblem]:
    """Issuers whose tokens no route takes; opaque tokens that could be of several; resources that
    our own tokens are no good for; authorization servers whose tokens a resource refuses; and ends
    that are told by another name than tokens have."""
    judging = [route for route in routes if route.auth is not Auth.PUBLIC]
    return [
        *_untaken(judging, issuers),
        *_ends_by_another_name(issuers),
        *_of_several(judging, issuers),
        *_own_at_resources(judging),
        *_refused_servers(judging, issuers),
    ]


def _untaken(routes: Iterable[Route], issuers: Mapping[str, Issuer]) -> Iterator[ConfigProblem]:
    taken = frozenset[str]().union(*(route.issuers for route in routes))
    for issuer in issuers.values():
        if issuer.name not in taken:
            yield ConfigProblem.at(
                issuer.location,
                f"no route takes the tokens of issuer `{issuer.name}`: add "
                f"`issuers: [own, {issuer.name}]` to a route or to `defaults`",
            )


def _ends_by_another_name(issuers: Mapping[str, Issuer]) -> Iterator[ConfigProblem]:
    for issuer in issuers.values():
        if (issuer.backchannel_logout or issuer.events) and issuer.subject != SUBJECT:
            yield ConfigProblem.at(
                issuer.location,
                f"issuer `{issuer.name}` knows its users by `{issuer.subject.text}`: what it tells "
                "of ends names them by `sub`, and is refused where it names no session and not "
                "that claim",
            )


def _of_several(routes: Iterable[Route], issuers: Mapping[str, Issuer]) -> Iterator[ConfigProblem]:
    asked = {name for name, issuer in issuers.items() if issuer.introspection is not None}
    several = [route for route in routes if len(route.issuers & asked) > 1]
    if several:
        yield ConfigProblem.at(
            several[0].location,
            f"route `{several[0].id}`{_others(several)} takes several issuers that are asked "
            f"about tokens ({_listed(several[0].issuers & asked)}): an opaque token could be "
            "of any of them, so none is shown it, and it is refused",
        )


def _own_at_resources(routes: Iterable[Route]) -> Iterator[ConfigProblem]:
    own = [
        route
        for route in routes
        if route.resource_server is not None
        and OWN_ISSUER in route.issuers
        and CredentialKind.BEARER in route.accept
    ]
    if own:
        yield ConfigProblem.at(
            own[0].location,
            f"route `{own[0].id}`{_others(own)} is a resource and takes `own`: our tokens name "
            "GATEWAY_AUDIENCE and not the resource, so they are refused there, and only "
            "cookies and keys of ours count",
        )


def _refused_servers(
    routes: Iterable[Route], issuers: Mapping[str, Issuer]
) -> Iterator[ConfigProblem]:
    """Each once, at the first route that names it."""
    reported: set[str] = set()
    for route in routes:
        if route.resource_server is None or OWN_ISSUER in route.issuers:
            continue
        known = {issuers[name].issuer for name in route.issuers if name in issuers}
        for server in route.resource_server.authorization_servers:
            if server in known or server in reported:
                continue
            reported.add(server)
            yield ConfigProblem.at(
                route.location,
                f"route `{route.id}` sends clients to `{server}`, which is the `issuer` of "
                "none that it takes: the tokens they get there are refused",
            )


def _listed(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in sorted(names))


def _others(routes: list[Route]) -> str:
    return f" (and {len(routes) - 1} more)" if len(routes) > 1 else ""

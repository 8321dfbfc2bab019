"""What is hardly meant of issuers and resources: `gateway validate` warns of it, and loads it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from gateway.access.issuers import SUBJECT, Issuer
from gateway.access.routing.routes import Auth, Route
from gateway.model import OWN_ISSUER, ConfigProblem, CredentialKind


def issuer_notices(routes: Iterable[Route], issuers: Mapping[str, Issuer]) -> list[ConfigProblem]:
    """Issuers whose tokens no route takes; opaque tokens that could be of several; resources that
    our own tokens are no good for; authorization servers whose tokens a resource refuses; and ends
    that are told by another name than tokens have."""
    judging = [route for route in routes if route.auth is not Auth.PUBLIC]
    taken = frozenset[str]().union(*{route.issuers for route in judging})
    problems = [
        ConfigProblem.at(
            issuer.location,
            f"no route takes the tokens of issuer `{issuer.name}`: add "
            f"`issuers: [own, {issuer.name}]` to a route or to `defaults`",
        )
        for issuer in issuers.values()
        if issuer.name not in taken
    ]
    problems += [
        ConfigProblem.at(
            issuer.location,
            f"issuer `{issuer.name}` knows its users by `{issuer.subject.text}`: what it tells of "
            "ends names them by `sub`, and is refused where it names no session and not that claim",
        )
        for issuer in issuers.values()
        if (issuer.backchannel_logout or issuer.events) and issuer.subject != SUBJECT
    ]
    asked = {name for name, issuer in issuers.items() if issuer.introspection is not None}
    several = [route for route in judging if len(route.issuers & asked) > 1]
    if several:
        problems.append(
            ConfigProblem.at(
                several[0].location,
                f"route `{several[0].id}`{_others(several)} takes several issuers that are asked "
                f"about tokens ({_listed(several[0].issuers & asked)}): an opaque token could be "
                "of any of them, so none is shown it, and it is refused",
            )
        )
    resources = [route for route in judging if route.resource_server is not None]
    own = [
        route
        for route in resources
        if OWN_ISSUER in route.issuers and CredentialKind.BEARER in route.accept
    ]
    if own:
        problems.append(
            ConfigProblem.at(
                own[0].location,
                f"route `{own[0].id}`{_others(own)} is a resource and takes `own`: our tokens name "
                "GATEWAY_AUDIENCE and not the resource, so they are refused there, and only "
                "cookies and keys of ours count",
            )
        )
    foreign = [route for route in resources if OWN_ISSUER not in route.issuers]
    reported: set[str] = set()
    for route in foreign:
        assert route.resource_server is not None
        known = {issuers[name].issuer for name in route.issuers if name in issuers}
        for server in route.resource_server.authorization_servers:
            if server not in known and server not in reported:
                reported.add(server)
                problems.append(
                    ConfigProblem.at(
                        route.location,
                        f"route `{route.id}` sends clients to `{server}`, which is the `issuer` of "
                        "none that it takes: the tokens they get there are refused",
                    )
                )
    return problems


def _listed(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in sorted(names))


def _others(routes: list[Route]) -> str:
    return f" (and {len(routes) - 1} more)" if len(routes) > 1 else ""

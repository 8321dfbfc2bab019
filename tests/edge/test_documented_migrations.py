"""`docs/coming-from.md`: our files load, and decide what theirs did."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from gateway.access.simulation import FixedClock, SimulatedRequest, person, simulate
from gateway.access.snapshot import Snapshot
from gateway.config.compile import Sources, compile_snapshot
from gateway.model import Principal, Reason

PAGE = Path(__file__).parents[2] / "docs" / "coming-from.md"
NOW = 1_767_600_000.0
NOBODY = Reason.NO_CREDENTIAL
_OURS = re.compile(r"```yaml\n# (routes\.yaml|policies/\S+)\n(.*?)```", re.S)


def world(heading: str) -> Snapshot:
    section = PAGE.read_text("utf-8").partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    files = dict(_OURS.findall(section))
    routes = files.pop("routes.yaml")
    made = compile_snapshot(Sources(("routes.yaml", routes), tuple(files.items())))
    assert isinstance(made, Snapshot), made
    return made


def theirs(issuer: str, *roles: str, scopes: tuple[str, ...] = ()) -> Principal:
    caller = person("x:ann", roles, now=NOW, email="ann@example.com", email_verified=True)
    return replace(caller, issuer=issuer, audience=("x",), granted_scopes=scopes)


STALE = person("u", ("admins",), now=NOW, auth_time=0)


@pytest.mark.parametrize(
    ("heading", "request_", "caller", "expected"),
    [
        ("oauth2-proxy", "GET http://h/healthz", NOBODY, Reason.ROUTE_PUBLIC),
        ("oauth2-proxy", "GET http://h/", NOBODY, Reason.NO_CREDENTIAL),
        ("oauth2-proxy", "GET http://h/a/b", theirs("company", "staff"), Reason.RULE_ALLOWED),
        ("oauth2-proxy", "GET http://h/a/b", theirs("company"), Reason.NO_RULE),
        ("oauth2-proxy", "GET http://h/a/b", theirs("builds"), Reason.RULE_ALLOWED),
        ("oauth2-proxy", "GET http://h/", person("u", now=NOW), Reason.TOKEN_CLAIMS_INVALID),
        ("Authelia", "GET https://public.example.com/", NOBODY, Reason.ROUTE_PUBLIC),
        ("Authelia", "GET https://app.example.com/", NOBODY, Reason.NO_CREDENTIAL),
        ("Authelia", "GET https://app.example.com/x", person("u", now=NOW), Reason.NO_RULE),
        (
            "Authelia",
            "GET https://app.example.com/x",
            person("u", ("staff",), now=NOW),
            Reason.RULE_ALLOWED,
        ),
        (
            "Authelia",
            "GET https://app.example.com/admin/x",
            person("u", ("staff",), now=NOW),
            Reason.NO_RULE,
        ),
        (
            "Authelia",
            "GET https://app.example.com/admin",
            person("u", ("admins",), now=NOW),
            Reason.RULE_ALLOWED,
        ),
        (
            "Authelia",
            "GET https://app.example.com/admin",
            STALE,
            Reason.INSUFFICIENT_USER_AUTHENTICATION,
        ),
        (
            "Ory Oathkeeper",
            "GET https://api.example.com/v1/orders/7",
            theirs("company", scopes=("orders.read",)),
            Reason.RULE_ALLOWED,
        ),
        (
            "Ory Oathkeeper",
            "GET https://api.example.com/v1/orders/7",
            theirs("company", scopes=("orders.write",)),
            Reason.NO_RULE,
        ),
        (
            "Ory Oathkeeper",
            "PUT https://api.example.com/v1/orders/7",
            theirs("company", scopes=("orders.read",)),
            Reason.METHOD_NOT_ALLOWED,
        ),
        (
            "Kong's jwt plugin",
            "GET http://h/orders/7",
            theirs("company", "staff"),
            Reason.RULE_ALLOWED,
        ),
        ("Kong's jwt plugin", "GET http://h/orders/7", theirs("company"), Reason.NO_RULE),
        ("Kong's jwt plugin", "GET http://h/ordersx", theirs("company"), Reason.ROUTE_UNKNOWN),
    ],
)
def test_our_file_decides_as_theirs_did(
    heading: str, request_: str, caller: Principal | Reason, expected: Reason
) -> None:
    method, _, url = request_.partition(" ")
    address = "10.0.0.7"
    asked = SimulatedRequest(method, url, caller, client_ip=address, clock=FixedClock(NOW))
    decided = simulate(asked, world(heading))
    assert decided.decision.reason == expected

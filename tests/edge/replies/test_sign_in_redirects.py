"""Which denials lead a browser to the hand-over of a session, and which stay a 401."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.access.authorizer import Decision
from gateway.access.routing.own_paths import OwnPaths
from gateway.access.routing.routes import Route
from gateway.edge.replies.sign_in_redirects import SignInRedirects
from gateway.model import Call, CredentialKind, Reason

HOSTS = frozenset(("app.example", "gate.example"))
NAVIGATION = [(b"Sec-Fetch-Mode", b"navigate"), (b"Sec-Fetch-Dest", b"document")]
REDIRECTS = SignInRedirects("https://gate.example", OwnPaths())


def location(
    *,
    reason: str = Reason.NO_CREDENTIAL,
    conceal: bool = False,
    accept: frozenset[CredentialKind] = frozenset(CredentialKind),
    hosts: frozenset[str] = HOSTS,
    redirects: SignInRedirects = REDIRECTS,
    **changed: Any,
) -> str | None:
    call = Call(
        **{
            "method": "GET",
            "host": "app.example",
            "path": "/a%20b",
            "segments": ("a b",),
            "query": "x=1&y",
            "headers": NAVIGATION,
            "client_ip": "192.0.2.1",
            "scheme": "https",
            **changed,
        }
    )
    decision = Decision(
        allowed=False,
        reason=reason,
        route=Route("r", (), "/", (), accept=accept),
        conceal=conceal,
    )
    return redirects.location(call, decision, hosts)


@pytest.mark.parametrize(
    "reason", [Reason.NO_CREDENTIAL, Reason.SESSION_UNKNOWN, Reason.TOKEN_REVOKED]
)
def test_a_navigation_without_a_session_begins_a_hand_over(reason: Reason) -> None:
    expected = "/auth/hand-over/start?return_to=/a%2520b%3Fx%3D1%26y"
    assert location(reason=reason) == expected


def test_a_target_that_a_browser_would_read_otherwise_leads_back_to_the_root() -> None:
    assert location(path="/\\evil.example", query="") == "/auth/hand-over/start?return_to=/"


def test_nobody_is_led_from_the_public_host_to_itself_however_its_url_is_written() -> None:
    redirects = SignInRedirects("https://app.example.", OwnPaths())
    assert location(redirects=redirects) is None


@pytest.mark.parametrize(
    "changed",
    [
        {"host": "gate.example"},
        {"host": "other.example"},
        {"hosts": frozenset()},
        {"method": "HEAD"},
        {"method": "POST"},
        {"headers": []},
        {"headers": NAVIGATION[:1]},
        {"headers": [*NAVIGATION, NAVIGATION[0]]},
        {"headers": [(b"Sec-Fetch-Mode", b"cors"), (b"Sec-Fetch-Dest", b"empty")]},
        {"headers": [(b"Sec-Fetch-Mode", b"navigate"), (b"Sec-Fetch-Dest", b"iframe")]},
        {"reason": Reason.NO_RULE},
        {"reason": Reason.TOKEN_EXPIRED},
        {"reason": "of_a_rule"},
        {"conceal": True},
        {"accept": frozenset((CredentialKind.BEARER,))},
    ],
    ids=str,
)
def test_everything_else_is_answered_as_it_is(changed: dict[str, Any]) -> None:
    assert location(**changed) is None

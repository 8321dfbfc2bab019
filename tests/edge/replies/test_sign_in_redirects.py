"""Which denials lead a browser to a session, and which stay a 401."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.access.authorizer import Decision
from gateway.access.routing.own_paths import OwnPaths
from gateway.access.routing.routes import Route
from gateway.access.step_up import StepUp
from gateway.edge.replies.sign_in_redirects import SignInRedirects
from gateway.identity.sign_in.return_targets import ReturnTargets
from gateway.model import Call, Credential, CredentialKind, Principal, Reason
from tests.access.worlds import who
from tests.identity.keyring import HandClock

NOTHING_ASKED = StepUp()
HOSTS = frozenset(("app.example", "gate.example"))
NAVIGATION = [(b"Sec-Fetch-Mode", b"navigate"), (b"Sec-Fetch-Dest", b"document")]
CLOCK = HandClock()
TARGETS = ReturnTargets(
    bytes(32),
    CLOCK,
    public_url="https://gate.example",
    own_paths=OwnPaths(),
    shared_hosts=lambda: HOSTS,
)
REDIRECTS = SignInRedirects("https://gate.example", OwnPaths(), TARGETS)


def location(
    *,
    reason: str = Reason.NO_CREDENTIAL,
    conceal: bool = False,
    accept: frozenset[CredentialKind] = frozenset(CredentialKind),
    page: bool = False,
    principal: Principal | None = None,
    asked: StepUp = NOTHING_ASKED,
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
        route=Route("r", (), "/", (), accept=accept, sign_in_page=page),
        principal=principal,
        conceal=conceal,
        max_age_s=asked.max_age_s,
        amr=asked.amr,
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
    redirects = SignInRedirects("https://app.example.", OwnPaths(), TARGETS)
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


ALONE = "wiki.example"
"""A host that shares nothing: people sign in there."""
BROWSER = [*NAVIGATION, (b"Accept", b"text/html,application/xhtml+xml,*/*;q=0.8")]
OF_BROWSERS_WITHOUT_METADATA = [(b"Accept", b"text/html,application/xhtml+xml,*/*;q=0.8")]
COOKIE = Credential(CredentialKind.COOKIE, "c")
UNMET = Reason.INSUFFICIENT_USER_AUTHENTICATION


def led(**changed: Any) -> tuple[str, str, StepUp | None] | None:
    """The page, where it leads back to, and what is asked for."""
    at = changed.setdefault("host", ALONE)
    led_to = location(**{"page": True, "headers": BROWSER, **changed})
    if led_to is None:
        return None
    page, _, sealed = led_to.partition("?return_to=")
    target = TARGETS.open(sealed, "gate.example" if page.startswith("https:") else at)
    assert target is not None, led_to
    return page, target.location, target.asked


@pytest.mark.parametrize("host", [ALONE, "gate.example"])
@pytest.mark.parametrize(
    "reason", [Reason.NO_CREDENTIAL, Reason.SESSION_UNKNOWN, Reason.TOKEN_REVOKED]
)
def test_a_navigation_without_a_session_is_led_to_the_page_of_its_host_and_back(
    host: str, reason: Reason
) -> None:
    assert led(host=host, reason=reason) == ("/auth/ui/sign-in", "/a%20b?x=1&y", None)


def test_another_host_that_shares_the_session_begins_its_hand_over() -> None:
    expected = "/auth/hand-over/start?return_to=/a%2520b%3Fx%3D1%26y"
    assert location(page=True, headers=BROWSER) == expected


def test_a_sign_in_that_is_not_enough_is_led_to_the_step_up_with_what_is_asked() -> None:
    asked = StepUp(300, ("otp",))
    steps = led(reason=UNMET, principal=who(), credential=COOKIE, asked=asked)
    assert steps == ("/auth/ui/step-up", "/a%20b?x=1&y", asked)


def test_a_step_up_of_a_shared_session_is_at_the_public_host_and_leads_through_the_hand_over() -> (
    None
):
    """No page of an application sees what is typed."""
    asked = StepUp(300)
    steps = led(reason=UNMET, principal=who(), credential=COOKIE, asked=asked, host="app.example")
    back = "https://app.example/auth/hand-over/start?return_to=/a%2520b%3Fx%3D1%26y"
    assert steps == ("https://gate.example/auth/ui/step-up", back, asked)


@pytest.mark.parametrize("reason", [Reason.NO_RULE, Reason.CONDITION_FAILED, UNMET])
def test_what_a_policy_refuses_nobody_it_may_allow_somebody(reason: Reason) -> None:
    """On a route with `auth: optional`."""
    steps = led(reason=reason)
    assert steps is not None
    assert steps[0] == "/auth/ui/sign-in"


def test_a_form_that_was_posted_leads_back_to_the_page_on_which_it_stood() -> None:
    referrer = (b"Referer", b"https://wiki.example/edit?page=7")
    posted = led(method="POST", headers=[*BROWSER, referrer])
    assert posted == ("/auth/ui/sign-in", "/edit?page=7", None)


@pytest.mark.parametrize(
    "referrer",
    [
        b"",
        b"https://evil.example/edit",
        b"https://wiki.example@evil.example/edit",
        b"https://wiki.example//evil.example",
        b"https://wiki.example/\\evil.example",
        b"https://[/",
        b"javascript:alert(1)",
        b"/edit",
    ],
)
def test_a_form_of_no_page_of_this_host_leads_back_to_the_root(referrer: bytes) -> None:
    posted = led(method="POST", headers=[*BROWSER, (b"Referer", referrer)])
    assert posted == ("/auth/ui/sign-in", "/", None)


def test_a_browser_without_fetch_metadata_is_known_by_what_it_accepts() -> None:
    assert led(headers=OF_BROWSERS_WITHOUT_METADATA) is not None


def test_bytes_that_are_no_ascii_come_back_encoded() -> None:
    steps = led(path="/caf\xc3\xa9", query="q=\xff")
    assert steps is not None
    assert steps[1] == "/caf%C3%A9?q=%FF"


@pytest.mark.parametrize(
    "changed",
    [
        {"page": False},
        {"method": "HEAD"},
        {"method": "PUT"},
        {"method": "POST", "headers": OF_BROWSERS_WITHOUT_METADATA},
        {"headers": []},
        {"headers": [(b"Accept", b"text/html")]},
        {"headers": [(b"Accept", b"text/html, image/gif, image/jpeg, *; q=.2, */*; q=.2")]},
        {"headers": [(b"Accept", b"*/*")]},
        {"headers": [(b"Accept", b"application/json")]},
        {"headers": [(b"Accept", b"a/b," * 250), *OF_BROWSERS_WITHOUT_METADATA]},
        {"headers": [*OF_BROWSERS_WITHOUT_METADATA, (b"X-Requested-With", b"XMLHttpRequest")]},
        {"headers": [*NAVIGATION, (b"Accept", b"application/json")]},
        {"headers": [*NAVIGATION, (b"Accept", b"text/html;q=0, application/json")]},
        {"headers": [(b"Sec-Fetch-Site", b"same-origin"), *OF_BROWSERS_WITHOUT_METADATA]},
        {"headers": [(b"Sec-Fetch-Mode", b"cors"), (b"Sec-Fetch-Dest", b"empty")]},
        {"headers": [(b"Sec-Fetch-Mode", b"navigate"), (b"Sec-Fetch-Dest", b"iframe")]},
        {"reason": Reason.NO_RULE, "principal": who()},
        {"reason": UNMET, "principal": who(), "page": False, "credential": COOKIE},
        {"reason": UNMET, "principal": who(), "credential": Credential(CredentialKind.BEARER, "t")},
        {"reason": Reason.TOKEN_EXPIRED},
        {"reason": Reason.TOKEN_REVOKED, "credential": Credential(CredentialKind.BEARER, "t")},
        {"reason": Reason.AMBIGUOUS_HEADER},
        {"reason": Reason.RATE_LIMITED},
        {"reason": "of_a_rule"},
        {"conceal": True},
        {"accept": frozenset((CredentialKind.BEARER,))},
    ],
    ids=str,
)
def test_everything_else_is_answered_as_it_is_on_a_route_with_the_page(
    changed: dict[str, Any],
) -> None:
    assert led(**changed) is None

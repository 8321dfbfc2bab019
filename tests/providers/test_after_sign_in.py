"""What comes after a sign-in by a provider: its links, the end of its session, an operator's view."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any
from urllib.parse import urlencode

import pytest

from tests.e2e.processes import until
from tests.providers.browser import Browser
from tests.providers.sign_in_site import BACK, Site, opened, refused, start
from tests.providers.visitor import fetch

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with opened(tmp_path_factory.mktemp("after-sign-in")) as site:
        yield site


# --- links


def links(browser: Browser) -> dict[str, Any]:
    answer = browser.call("GET", "/auth/links")
    assert answer.status == 200, answer.body
    return dict(answer.json)


def test_an_owner_links_and_unlinks(site: Site) -> None:
    site.other.describe("ivy", email="ivy@example.com", email_verified=True, groups=["staff"])
    site.create("ivy@work.example", "--verified")
    browser = site.browser()
    site.login_in(browser, "ivy@work.example")
    [company, other] = links(browser)["available"]
    assert (company["name"], other["name"]) == ("company", "other")
    url, _ = browser.go(site.origin + other["start"], "ivy")
    assert url == f"{site.origin}/"
    [link] = links(browser)["links"]
    assert (link["name"], link["email"]) == ("other", "ivy@example.com")
    by_provider = site.browser()
    by_provider.sign_in("other", "ivy")
    assert by_provider.me()["email"] == "ivy@work.example"
    assert browser.call("DELETE", "/auth/links/other").status == 204
    # What it began is over; what the password began is not.
    assert by_provider.me() is None
    assert browser.me()["email"] == "ivy@work.example"
    assert refused(site.browser().sign_in("other", "ivy")[1])[0] == 403
    assert browser.call("DELETE", "/auth/links/other").status == 404
    until(lambda: "provider_unlinked" in [row["event"] for row in site.audit()], 30)
    kinds = [row["event"] for row in site.audit()]
    assert kinds.count("provider_unlinked") == 1


def test_an_unlinked_identity_is_not_linked_again_by_its_address(site: Site) -> None:
    site.create("jon@example.com", "--verified")
    browser = site.browser()
    browser.sign_in("company", "jon")
    assert browser.call("DELETE", "/auth/links/company").status == 204
    assert refused(site.browser().sign_in("company", "jon")[1])[0] == 409


def test_the_last_way_in_is_not_taken_away(site: Site) -> None:
    browser = site.browser()
    browser.sign_in("company", "kim")
    assert browser.call("DELETE", "/auth/links/company").status == 409
    assert browser.me()["email"] == "kim@example.com"


def test_an_identity_of_another_account_is_not_linked(site: Site) -> None:
    site.browser().sign_in("company", "leo")
    site.create("lea@work.example", "--verified")
    browser = site.browser()
    site.login_in(browser, "lea@work.example")
    start_url = next(
        one["start"] for one in links(browser)["available"] if one["name"] == "company"
    )
    status, told = refused(browser.go(site.origin + start_url, "leo")[1])
    assert (status, "Another account" in told) == (409, True)
    assert links(browser)["links"] == []


def test_a_permit_that_was_changed_begins_no_link(site: Site) -> None:
    site.create("sam@work.example", "--verified")
    browser = site.browser()
    site.login_in(browser, "sam@work.example")
    path = next(one["start"] for one in links(browser)["available"] if one["name"] == "other")
    spoilt = browser.open(f"{site.origin}{path[:-3]}")
    assert refused(spoilt)[0] == 400


def test_another_site_links_nobody(site: Site) -> None:
    """A thief's page has a visitor sign in to the thief's account there, and link it here."""
    site.create("moe@work.example", "--verified")
    victim, thief = site.browser(), site.browser()
    site.login_in(victim, "moe@work.example")
    thief.sign_in("company", "ada")
    for permit in ("", "made-up", "a" * 300):
        url = f"{site.origin}/auth/providers/company/start?permit={permit}"
        assert victim.open(url, come_from="https://evil.example").status in (400, 401)
    # Nor by a permit of the thief's own session.
    stolen = next(one["start"] for one in links(thief)["available"] if one["name"] == "other")
    page = victim.open(site.origin + stolen, come_from="https://evil.example")
    assert refused(page)[0] == 400


# --- the end of a session


def test_a_session_that_ends_at_the_provider_ends_here(site: Site) -> None:
    browser, other = site.browser(), site.browser()
    browser.sign_in("company", "oda")
    other.sign_in("company", "oda")
    assert browser.me() is not None
    url, _ = browser.go(f"{site.provider.issuer}/session/end", "oda")
    assert url.startswith(site.provider.issuer)
    assert [browser.me() for _ in range(8)] == [None] * 8
    assert site.provider.logouts()[-1] == "gateway: done"
    # The other session of the same person goes on.
    assert other.me() is not None


def test_who_signs_out_here_is_offered_to_sign_out_there(site: Site) -> None:
    browser = site.browser()
    browser.sign_in("company", "pia")
    answer = browser.call("POST", "/auth/logout", {"provider": True})
    assert answer.status == 200, answer.body
    offer = answer.json["provider_sign_out"]
    assert offer["label"] == "Example Inc."
    assert browser.me() is None
    url, _ = browser.go(offer["location"], "pia", stop_at=f"{site.origin}/bye")
    assert url.startswith(f"{site.origin}/bye")
    # Who signs in there again is asked who they are.
    assert start(site, browser, account="quinn")
    assert browser.me() is None


def test_the_sign_out_page_offers_it_as_a_link(site: Site) -> None:
    browser = site.browser()
    browser.sign_in("company", "pia")
    page = browser.open(f"{site.origin}/auth/ui/sign-out", form={"x": "y"}, come_from=site.origin)
    assert (page.status, b"Sign out at Example Inc. too" in page.body) == (200, True)
    assert browser.me() is None


@pytest.mark.parametrize("text", ["", "a.b.c", "x" * 100])
def test_what_is_no_logout_token_ends_nothing(site: Site, text: str) -> None:
    url = f"{site.origin}/auth/providers/company/backchannel-logout"
    answer = fetch(url, urlencode({"logout_token": text}).encode())
    assert (answer.status, answer.json["error"]) == (400, "invalid_request")
    assert fetch(url.replace("company", "other"), b"logout_token=a").status == 404


# --- an operator's view


def test_the_commands_tell_what_there_is_and_whether_it_works(site: Site) -> None:
    listed = site.gateway.cli("providers", "list", "--json")
    rows = json.loads(listed.stdout)
    assert [row["name"] for row in rows] == ["company", "other"]
    assert rows[0]["redirect_uri"] == f"{site.origin}{BACK}"
    good = site.gateway.cli("providers", "check", "--json")
    assert (good.returncode, good.stderr) == (0, ""), good.stdout
    told = {(row["provider"], row["check"]): row["good"] for row in json.loads(good.stdout)}
    for name in ("company", "other"):
        assert all(told[name, what] for what in ("metadata", "keys", "client"))
    wrong = {**site.gateway.environment, "GATEWAY_SECRET_COMPANY": "another"}
    spoilt = replace(site.gateway, environment=wrong).cli("providers", "check", "company")
    assert (spoilt.returncode, "invalid_client" in spoilt.stdout) == (1, True), spoilt.stdout
    assert site.gateway.cli("providers", "check", "nobody").returncode == 2


def test_an_operator_unlinks_somebody(site: Site) -> None:
    browser = site.browser()
    browser.sign_in("company", "tom")
    assert browser.me()["email"] == "tom@example.com"
    listed = site.gateway.cli("providers", "links", "tom@example.com", "--json")
    assert [(row["provider"], row["subject"]) for row in json.loads(listed.stdout)] == [
        ("company", "tom")
    ]
    done = site.gateway.confirmed("providers", "unlink", "tom@example.com", "company")
    assert done.returncode == 0, done.stderr
    assert [browser.me() for _ in range(4)] == [None] * 4
    assert refused(site.browser().sign_in("company", "tom")[1])[0] == 409
    again = site.gateway.cli("providers", "unlink", "tom@example.com", "company")
    assert again.returncode == 1


def test_metrics_and_readiness_tell_of_providers(site: Site) -> None:
    site.browser().sign_in("company", "uma")
    metrics = site.gateway.admin("/metrics").body.decode()
    assert 'authgate_provider_sign_ins_total{outcome="created",provider="company"}' in metrics
    assert 'authgate_provider_failing{provider="company"' in metrics
    [*workers] = site.gateway.admin("/readyz").json["workers"]
    assert all(set(worker["providers"]) == {"company", "other"} for worker in workers)

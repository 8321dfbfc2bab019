"""People sign in by a real provider, as their browser sees it, and as who means harm does it."""

from __future__ import annotations

import html
import json
import re
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import pyotp
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
)
from jwt.algorithms import ECAlgorithm

from gateway.app.data_dir import DataFolder
from tests.contract.running import Running, free_port, started
from tests.e2e.processes import until
from tests.providers import oidc_provider
from tests.providers.browser import Browser
from tests.providers.oidc_provider import OidcProvider, Setup, application
from tests.providers.visitor import SECRET, Fetched, fetch

pytestmark = pytest.mark.slow

ROUTES = """\
version: 1
providers:
  company:
    label: Example Inc.
    issuer: {issuer}
    client_id: gateway
    client_secret: {{{{secret: company}}}}
    scopes: [openid, email, groups]
    roles: "has(claims.groups) ? claims.groups : []"
    trust_email: true
    accounts: create
    backchannel_logout: true
    after_sign_out: {public}/bye
  other:
    issuer: {other}
    client_id: gateway
    private_key: {{{{secret: other-key, alg: ES256, kid: k1}}}}
    form_post: true
    domains: [example.com]
    groups: [staff]
    scopes: [openid, email, groups]
upstreams:
  echo: {{{{targets: ["http://127.0.0.1:{{port}}"]}}}}
routes:
  - {{{{id: me, match: {{{{path: /me}}}}, policy: signed-in, sign_in: page, upstream: echo}}}}
"""
ACCOUNTS = {"ada": {"email": "ada@example.com", "email_verified": True, "groups": ["staff"]}}
PASSWORD = "correct horse 7 battery"


@dataclass
class Site:
    gateway: Running
    provider: OidcProvider
    other: OidcProvider
    origin: str

    def browser(self) -> Browser:
        return Browser(self.origin, (self.provider.issuer, self.other.issuer))

    def create(self, email: str, *words: str) -> None:
        done = self.gateway.cli(
            "users", "create", email, "--password-stdin", *words, stdin=PASSWORD
        )
        assert done.returncode == 0, done.stderr

    def account(self, email: str) -> Any:
        done = self.gateway.cli("users", "show", email, "--json")
        return json.loads(done.stdout) if done.returncode == 0 else None

    def login(self, email: str) -> int:
        """With the password, by a program."""
        body = json.dumps({"email": email, "password": PASSWORD}).encode()
        return fetch(f"{self.origin}/auth/login", body, {"Content-Type": "application/json"}).status

    def login_in(self, browser: Browser, email: str) -> None:
        words = {"email": email, "password": PASSWORD, "transport": "cookie"}
        answer = browser.call("POST", "/auth/login", words)
        assert answer.status == 200, answer.body

    def link_mailed_to(self, email: str) -> str:
        """The token of the newest link in the outbox, which the admin page shows."""
        token = DataFolder(self.gateway.folder / "data").admin_token()
        until(lambda: self._mail(email, token) is not None, 20)
        return str(self._mail(email, token))

    def _mail(self, email: str, token: str) -> str | None:
        answer = self.gateway.admin("/admin/api/outbox", ("Authorization", f"Bearer {token}"))
        for mail in answer.json["mails"]:
            found = re.search(r"token=([A-Za-z0-9_-]+)", mail["text"])
            if mail["to"] == email and found:
                return found[1]
        return None

    def audit(self) -> list[dict[str, Any]]:
        done = self.gateway.cli("audit", "tail", "--json", "-n", "500")
        assert done.returncode == 0, done.stderr
        return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder: Path = tmp_path_factory.mktemp("sign-in")
    port = free_port()
    origin = f"http://127.0.0.1:{port}"
    setup = Setup(
        clients=(
            application(
                "gateway",
                f"{origin}/auth/providers/company/callback",
                backchannel_logout_uri=f"{origin}/auth/providers/company/backchannel-logout",
                post_logout_redirect_uris=[f"{origin}/bye"],
            ),
        ),
        accounts=ACCOUNTS,
    )
    key = ec.generate_private_key(ec.SECP256R1())
    public = ECAlgorithm.to_jwk(key.public_key(), as_dict=True)
    by_key = Setup(
        clients=(
            application(
                "gateway",
                f"{origin}/auth/providers/other/callback",
                token_endpoint_auth_method="private_key_jwt",
                jwks={"keys": [{**public, "kid": "k1", "use": "sig"}]},
            ),
        ),
    )
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    with (
        oidc_provider.started(folder / "provider", setup) as provider,
        oidc_provider.started(folder / "other", by_key) as other,
    ):
        routes = ROUTES.format(issuer=provider.issuer, other=other.issuer, public=origin)
        own = {
            "GATEWAY_LISTEN": f"127.0.0.1:{port}",
            "GATEWAY_PUBLIC_URL": origin,
            "GATEWAY_EMAIL_VERIFICATION": "required",
            "GATEWAY_SECRET_COMPANY": SECRET,
            "GATEWAY_SECRET_OTHER_KEY": pem.decode().strip(),
        }
        with started(folder / "g", "--workers", "2", routes=routes, **own) as running:
            running.port = port
            yield Site(running, provider, other, origin)


BACK = "/auth/providers/company/callback"


def start(site: Site, browser: Browser, name: str = "company", account: str = "ada") -> str:
    """The URL by which the provider sends the browser back, which is not opened."""
    url, _ = browser.go(
        f"{site.origin}/auth/providers/{name}/start",
        account,
        stop_at=f"{site.origin}/auth/providers/{name}/callback",
    )
    return url


def refused(page: Fetched) -> tuple[int, str]:
    """The page of a refusal: its status, and what it says."""
    assert page.headers["Content-Type"].startswith("text/html"), page.body
    found = re.search(r"<h1>.*?</h1>\s*<p>(.*?)</p>", page.body.decode(), re.S)
    assert found, page.body
    # The other ways are one click away.
    assert b'href="/auth/ui/sign-in"' in page.body
    return page.status, found[1]


def test_somebody_signs_in_and_an_account_is_made(site: Site) -> None:
    browser = site.browser()
    url, page = browser.sign_in("company", "ada", return_to="/me")
    assert (url, page.status) == (f"{site.origin}/me", 200)
    me = browser.me()
    assert (me["email"], me["email_verified"], me["roles"]) == ("ada@example.com", True, ["staff"])
    # Nothing is left of the round trip.
    ours = {name for name in browser.cookies[site.origin] if name.startswith("__Host-")}
    assert ours == {"__Host-session", "__Host-device"}
    assert ["X-Auth-Email", "ada@example.com"] in browser.call("GET", "/me").json["fields"]


def test_the_same_person_has_the_same_account(site: Site) -> None:
    first, second = site.browser(), site.browser()
    first.sign_in("company", "bea")
    second.sign_in("company", "bea")
    assert first.me()["user_id"] == second.me()["user_id"]
    assert first.me()["session_id"] != second.me()["session_id"]


def test_the_page_of_a_route_leads_to_the_provider_and_back(site: Site) -> None:
    browser = site.browser()
    url, page = browser.go(f"{site.origin}/me", "ada")
    assert url.startswith(f"{site.origin}/auth/ui/sign-in?")
    button = re.search(r'href="(/auth/providers/company/start[^"]*)"', page.body.decode())
    assert button, page.body
    assert b"Continue with Example Inc." in page.body
    url, page = browser.go(site.origin + html.unescape(button[1]), "ada")
    assert (url, page.status) == (f"{site.origin}/me", 200)


@pytest.mark.parametrize(
    "return_to",
    [
        "//evil.example", "/\\evil.example", "https://evil.example", "javascript:alert(1)",
        "/%2f/evil.example", "https://user@evil.example", "/\t/evil.example", "///evil.example",
        "http://127.0.0.1:1/", "%2F%2Fevil.example",
    ],
)  # fmt: skip
def test_nobody_is_led_to_another_origin(site: Site, return_to: str) -> None:
    url, _ = site.browser().sign_in("company", "ada", return_to=return_to)
    assert urlsplit(url)[:3] in [
        ("http", urlsplit(site.origin).netloc, "/"),
        ("http", urlsplit(site.origin).netloc, "/%2f/evil.example"),
    ]


# --- who means harm


def test_a_state_of_another_browser_signs_nobody_in(site: Site) -> None:
    mine, theirs = site.browser(), site.browser()
    url = start(site, mine)
    status, told = refused(theirs.open(url, come_from=site.provider.issuer))
    assert (status, "another browser" in told) == (400, True)
    assert theirs.me() is None
    # With a trip of their own under way, too.
    start(site, theirs)
    assert refused(theirs.open(url, come_from=site.provider.issuer))[0] == 400


def test_what_came_back_counts_once(site: Site) -> None:
    browser = site.browser()
    url = start(site, browser)
    kept = dict(browser.cookies[site.origin])
    assert browser.open(url, come_from=site.provider.issuer).status == 303
    again = site.browser()
    again.cookies[site.origin] = kept
    assert refused(again.open(url, come_from=site.provider.issuer))[0] == 400
    assert again.me() is None


def changed(url: str, **words: str | None) -> str:
    parts = urlsplit(url)
    query = {name: values[0] for name, values in parse_qs(parts.query).items()}
    query |= {name: value for name, value in words.items() if value is not None}
    kept = {name: value for name, value in query.items() if words.get(name, "") is not None}
    return parts._replace(query=urlencode(kept)).geturl()


@pytest.mark.parametrize("iss", ["https://evil.example", "", None])
def test_an_answer_of_a_mixed_up_provider_is_refused(site: Site, iss: str | None) -> None:
    browser = site.browser()
    url = changed(start(site, browser), iss=iss)
    status, _ = refused(browser.open(url, come_from=site.provider.issuer))
    assert (status, browser.me()) == (401, None)


def test_a_trip_to_one_provider_does_not_end_at_another(site: Site) -> None:
    browser = site.browser()
    url = start(site, browser).replace("/company/", "/other/")
    assert refused(browser.open(url, come_from=site.provider.issuer))[0] == 400


@pytest.mark.parametrize(
    "words",
    [
        {"code": "made-up"},
        {"code": None},
        {"code": "c" * 5000},
        {"error": "access_denied", "code": None},
    ],
)
def test_an_answer_without_a_good_code_signs_nobody_in(
    site: Site, words: dict[str, str | None]
) -> None:
    browser = site.browser()
    url = changed(start(site, browser), **words)
    assert refused(browser.open(url, come_from=site.provider.issuer))[0] == 401
    assert browser.me() is None


@pytest.mark.parametrize("more", ["&state=x", "&code=x", "&STATE=x", ";code=x"])
def test_an_answer_that_can_be_read_in_two_ways_is_refused(site: Site, more: str) -> None:
    browser = site.browser()
    url = start(site, browser) + more
    assert refused(browser.open(url, come_from=site.provider.issuer))[0] == 400


def test_a_code_of_another_sign_in_is_refused_by_its_verifier(site: Site) -> None:
    mine, theirs = site.browser(), site.browser()
    stolen = parse_qs(urlsplit(start(site, theirs, account="bea")).query)["code"][0]
    url = changed(start(site, mine), code=stolen)
    assert refused(mine.open(url, come_from=site.provider.issuer))[0] == 401
    assert mine.me() is None


def test_an_address_that_the_provider_has_not_verified_makes_no_account(site: Site) -> None:
    site.provider.describe("unverified", email="victim@example.com", email_verified=False)
    browser = site.browser()
    _, page = browser.sign_in("company", "unverified")
    status, told = refused(page)
    assert (status, "has not been confirmed there" in told) == (403, True)
    site.provider.describe("nobody")
    assert refused(browser.sign_in("company", "nobody")[1])[0] == 403
    assert site.account("victim@example.com") is None


def test_a_program_is_told_the_reason(site: Site) -> None:
    answer = fetch(f"{site.origin}{BACK}?state=a&code=b")
    assert (answer.status, answer.json["reason"]) == (400, "invalid_token")
    assert fetch(f"{site.origin}/auth/providers/unknown/start").status == 404
    assert fetch(f"{site.origin}/auth/providers/unknown/callback").status == 404
    listed = fetch(f"{site.origin}/auth/providers").json["providers"]
    assert [(one["name"], one["label"]) for one in listed] == [
        ("company", "Example Inc."), ("other", "other"),
    ]  # fmt: skip


# --- whose account it is


def test_an_account_of_a_verified_address_is_linked_and_keeps_its_password(site: Site) -> None:
    site.create("cyd@example.com", "--verified")
    browser = site.browser()
    browser.sign_in("company", "cyd")
    assert browser.me()["email"] == "cyd@example.com"
    assert site.login("cyd@example.com") == 200
    until(lambda: "provider_linked" in [row["event"] for row in site.audit()], 30)


def test_an_account_that_nobody_has_verified_is_not_taken_over(site: Site) -> None:
    site.create("dan@example.com")
    browser = site.browser()
    status, told = refused(browser.sign_in("company", "dan")[1])
    assert (status, "exists here" in told) == (409, True)
    assert browser.me() is None


def test_a_registration_that_waits_is_void_once_the_owner_has_come(site: Site) -> None:
    body = json.dumps({"email": "eve@example.com", "password": PASSWORD}).encode()
    fields = {"Content-Type": "application/json"}
    assert fetch(f"{site.origin}/auth/register", body, fields).status == 202
    browser = site.browser()
    browser.sign_in("company", "eve")
    assert browser.me()["email"] == "eve@example.com"
    link = site.link_mailed_to("eve@example.com")
    body = json.dumps({"token": link, "password": PASSWORD}).encode()
    assert fetch(f"{site.origin}/auth/email/verify", body, fields).status == 400
    assert site.login("eve@example.com") == 401


def test_a_disabled_account_does_not_come_in_by_a_provider(site: Site) -> None:
    browser = site.browser()
    browser.sign_in("company", "fay")
    assert site.gateway.confirmed("users", "disable", "fay@example.com").returncode == 0
    assert refused(site.browser().sign_in("company", "fay")[1])[0] == 403


def test_who_is_in_no_group_that_is_asked_for_does_not_come_in(site: Site) -> None:
    site.other.describe("gus", email="gus@example.com", email_verified=True, groups=["guests"])
    status, told = refused(site.browser().sign_in("other", "gus")[1])
    assert (status, "you cannot sign in here" in told) == (403, True)
    site.other.describe("gus", email="gus@elsewhere.example", email_verified=True, groups=["staff"])
    assert refused(site.browser().sign_in("other", "gus")[1])[0] == 403
    # Whoever may, and has no account: none is made.
    site.other.describe("gus", email="gus@example.com", email_verified=True, groups=["staff"])
    status, told = refused(site.browser().sign_in("other", "gus")[1])
    assert (status, "No account here" in told) == (403, True)


def test_roles_are_those_of_the_last_sign_in_and_apart_from_the_operators(site: Site) -> None:
    site.provider.describe(
        "hal", email="hal@example.com", email_verified=True, groups=["staff", "admins"]
    )
    first = site.browser()
    first.sign_in("company", "hal")
    assert first.me()["roles"] == ["admins", "staff"]
    assert site.gateway.confirmed("roles", "grant", "hal@example.com", "own").returncode == 0
    assert site.gateway.confirmed("roles", "grant", "hal@example.com", "staff").returncode == 0
    site.provider.describe("hal", email="hal@example.com", email_verified=True, groups=["readers"])
    second = site.browser()
    second.sign_in("company", "hal")
    assert second.me()["roles"] == ["own", "readers", "staff"]
    # In the session of before at once, too.
    assert first.me()["roles"] == ["own", "readers", "staff"]
    assert site.gateway.confirmed("roles", "revoke", "hal@example.com", "staff").returncode == 0
    assert second.me()["roles"] == ["own", "readers"]


# --- second factors


def test_an_account_with_a_factor_gives_it_after_the_provider(site: Site) -> None:
    browser = site.browser()
    browser.sign_in("company", "ruth")
    secret = browser.call("POST", "/auth/factors/totp", {}).json["secret"]
    codes, now = pyotp.TOTP(secret), time.time()
    confirmed = browser.call("POST", "/auth/factors/totp/confirm", {"code": codes.at(now)})
    assert confirmed.status in (200, 204), confirmed.body
    later = site.browser()
    url, page = later.sign_in("company", "ruth", return_to="/me")
    assert later.me() is None
    form = dict(
        re.findall(r'name="(mfa_token|return_to|factors)" value="([^"]*)"', page.body.decode())
    )
    assert "mfa_token" in form, (url, page.body)
    wrong = later.open(
        f"{site.origin}/auth/ui/sign-in/factor",
        form={**form, "code": "000000"},
        come_from=site.origin,
    )
    assert (wrong.status, later.me()) == (401, None)
    done = later.open(
        f"{site.origin}/auth/ui/sign-in/factor",
        form={**form, "code": codes.at(now + 30)},
        come_from=site.origin,
    )
    assert (done.status, done.headers["Location"]) == (303, "/me")
    assert later.me()["email"] == "ruth@example.com"
    # It is of the provider's session all the same.
    later.go(f"{site.provider.issuer}/session/end", "ruth")
    assert [later.me() for _ in range(4)] == [None] * 4


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


def test_who_signed_in_long_ago_confirms_it_before_a_link_is_made(site: Site) -> None:
    site.other.describe("sam", email="sam@example.com", email_verified=True, groups=["staff"])
    site.create("sam@work.example", "--verified")
    browser = site.browser()
    site.login_in(browser, "sam@work.example")
    path = next(one["start"] for one in links(browser)["available"] if one["name"] == "other")
    permit = parse_qs(urlsplit(path).query)["permit"][0]
    # A permit that is none says nothing of a step-up.
    spoilt = browser.open(f"{site.origin}/auth/providers/other/start?permit={permit[:-3]}")
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
    stolen = next((one["start"] for one in links(thief)["available"] if one["name"] == "other"), "")
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


# --- a provider that is away


def test_a_provider_that_is_away_leaves_the_other_ways_open(site: Site) -> None:
    site.create("rob@example.com", "--verified")
    site.other.describe("rob", email="rob@example.com", email_verified=True, groups=["staff"])
    browser = site.browser()
    url = start(site, browser)
    site.provider.answer_with("hanging")
    try:
        began = time.monotonic()
        status, told = refused(browser.open(url, come_from=site.provider.issuer))
        assert (status, "another way" in told) == (503, True)
        assert time.monotonic() - began < 8
        assert site.login("rob@example.com") == 200
        assert site.browser().open(f"{site.origin}/auth/providers/other/start").status == 303
    finally:
        site.provider.answer_again()
    later = site.browser()
    later.sign_in("company", "ada")
    assert later.me() is not None


def test_a_provider_that_fails_again_and_again_is_left_alone(site: Site) -> None:
    def start_one(_: int) -> float:
        began = time.monotonic()
        page = site.browser().open(f"{site.origin}/auth/providers/company/start")
        assert refused(page)[0] == 503
        return time.monotonic() - began

    site.provider.answer_with("hanging")
    try:
        with ThreadPoolExecutor(32) as visitors:
            first = list(visitors.map(start_one, range(32)))
            then = list(visitors.map(start_one, range(32)))
    finally:
        site.provider.answer_again()
    assert max(first) > 4
    # Each worker tries with one of them, and tells the others at once.
    assert sorted(then)[16] < 2, then

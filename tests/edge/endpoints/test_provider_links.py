"""What a page may ask about the links of its visitor's account."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from urllib.parse import parse_qs, quote, urlsplit

import pytest

from gateway.access.providers import Provider
from gateway.audit.log import AuditKind
from gateway.edge.endpoints.rate_limits import LINKS
from gateway.identity.providers.identities import ProviderIdentity
from gateway.identity.providers.linked_identities import LinkedAccount
from gateway.identity.providers.metadata import ProviderMetadata
from gateway.identity.providers.provider_sessions import ProviderSession
from gateway.identity.sessions.session_origins import record_origin
from tests.config.provider_texts import provider as provider_of
from tests.edge.auth_house import CREDENTIALS, House, open_house, reason, request, told
from tests.edge.endpoints.test_provider_guesses import HUB
from tests.edge.endpoints.test_required_factors import links_of
from tests.edge.rig import Answer
from tests.identity.providers.parts import ISSUER, provider

GATE, APP = "gate.example", "app1.example"


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    async with open_house(tmp_path, providers={"idp": provider()}) as opened:
        await opened.register()
        yield opened


async def signed_in_at(house: House, host: str) -> list[str]:
    """What a page of the host sends with the session that begins."""
    body = b'{"email": "%s", "password": "%s", "transport": "cookie"}' % (
        CREDENTIALS["email"].encode(),
        CREDENTIALS["password"].encode(),
    )
    signed_in = await house.raw(request("POST", "/auth/login", body, host=host))
    line = next(v for v in signed_in.values("set-cookie") if v.startswith(b"__Host-session="))
    return [f"Cookie: {line.split(b';')[0].decode()}", "Sec-Fetch-Site: same-origin"]


async def by_cookie(house: House, host: str, method: str, path: str) -> Answer:
    """What a page of the host is told in a session that began there."""
    fields = await signed_in_at(house, host)
    return await house.raw(request(method, path, b"", headers=fields, host=host))


async def test_the_page_of_an_application_gets_no_permit_to_link(house: House) -> None:
    """It would lead its visitor with it to the public host, and have the identity of somebody else
    linked whom the browser is signed in as at the provider."""
    own = await by_cookie(house, GATE, "GET", "/auth/links")
    assert "permit=" in told(own)["available"][0]["start"]
    of_application = await by_cookie(house, APP, "GET", "/auth/links")
    assert told(of_application)["available"] == [{"name": "idp", "label": "idp", "start": None}]


async def test_the_page_of_an_application_ends_no_link(house: House) -> None:
    assert (await by_cookie(house, GATE, "DELETE", "/auth/links/idp")).status == 404
    answer = await by_cookie(house, APP, "DELETE", "/auth/links/idp")
    assert (answer.status, reason(answer)) == (403, "cross_origin")


@pytest.mark.parametrize("host", [GATE, APP])
async def test_the_page_of_an_application_is_told_no_id_token(
    house: House, monkeypatch: pytest.MonkeyPatch, host: str
) -> None:
    """Where tokens of that provider count, it would be one that outlives the sign-out."""

    async def of_session(_session_id: str) -> ProviderSession:
        return ProviderSession(ISSUER, "an.id.token")

    async def metadata(_provider: object) -> ProviderMetadata:
        ends = "https://id.example/end"
        return ProviderMetadata(
            f"{ISSUER}/auth", f"{ISSUER}/token", f"{ISSUER}/keys", end_session=ends
        )

    monkeypatch.setattr(house.deps.providers.sessions, "of_session", of_session)
    monkeypatch.setattr(house.deps.providers.client, "metadata", metadata)
    fields = await signed_in_at(house, host)
    body = b'{"provider": true}'
    answer = await house.raw(request("POST", "/auth/logout", body, headers=fields, host=host))
    assert answer.status == 200, answer.body
    location = told(answer)["provider_sign_out"]["location"]
    assert location.startswith("https://id.example/end?client_id=")
    assert ("id_token_hint=an.id.token" in location) is (host == GATE)


async def test_who_signed_in_long_ago_confirms_it_before_a_link_is_made_or_ended(
    house: House,
) -> None:
    fields = await signed_in_at(house, GATE)
    house.clock.move(301)
    listed = await house.raw(request("GET", "/auth/links", b"", headers=fields, host=GATE))
    start = told(listed)["available"][0]["start"]
    for method, path in (("GET", start), ("DELETE", "/auth/links/idp")):
        answer = await house.raw(request(method, path, b"", headers=fields, host=GATE))
        assert (answer.status, reason(answer)) == (401, "insufficient_user_authentication")
        assert not answer.values("location")


async def test_an_account_sets_out_to_be_linked_fifty_times_a_day(tmp_path: Path) -> None:
    """Each link leaves an event, and one more when it is ended: whoever has a script of both
    would fill the audit log.  Ending one is never refused."""
    async with open_house(tmp_path, providers={"idp": provider_of(HUB)}) as house:
        await house.register()
        fields = await signed_in_at(house, GATE)
        listed = await house.raw(request("GET", "/auth/links", b"", headers=fields, host=GATE))
        start = told(listed)["available"][0]["start"]

        async def ask(method: str, path: str) -> Answer:
            return await house.raw(request(method, path, b"", headers=fields, host=GATE))

        assert {(await ask("GET", start)).status for _ in range(LINKS[0].burst)} == {303}
        answer = await ask("GET", start)
        assert (answer.status, reason(answer)) == (429, "rate_limited")
        assert (await ask("DELETE", "/auth/links/idp")).status == 404


# --- a block that names another issuer now


MOVED = "https://moved.example"


def moved(name: str = "idp", issuer: str = MOVED) -> Provider:
    before = provider("accounts: create\ntrust_email: true")
    return replace(
        before, name=name, label=name, issuer=replace(before.issuer, name=name, issuer=issuer)
    )


async def linked_before(house: House) -> LinkedAccount:
    """The visitor, by `idp` when it was `ISSUER`."""
    async with house.database.transaction() as tx:
        await tx.run("UPDATE accounts SET email_verified = 1")
    identity = ProviderIdentity(
        moved(issuer=ISSUER), "ada", CREDENTIALS["email"], email_verified=True
    )
    found = await links_of(house).sign_in(identity)
    assert isinstance(found, LinkedAccount), found
    return found


async def listed(house: House, fields: list[str]) -> dict[str, list[dict[str, object]]]:
    answer = await house.raw(request("GET", "/auth/links", b"", headers=fields, host=GATE))
    assert answer.status == 200
    return dict(told(answer))


async def unlinked(house: House, fields: list[str], name: str) -> int:
    path = f"/auth/links/{name}"
    return (await house.raw(request("DELETE", path, b"", headers=fields, host=GATE))).status


async def test_a_link_with_an_issuer_that_has_gone_is_seen_and_goes_with_its_name(
    tmp_path: Path,
) -> None:
    async with open_house(tmp_path, providers={"idp": moved()}) as house:
        await house.register()
        await linked_before(house)
        fields = await signed_in_at(house, GATE)
        shown = await listed(house, fields)
        [link] = shown["links"]
        # Its button would lead to another, who knows nothing of it.
        assert (link["label"], link["start"]) == (ISSUER, None)
        assert [one["name"] for one in shown["available"]] == ["idp"]
        again = ProviderIdentity(moved(), "ada", CREDENTIALS["email"], email_verified=True)
        assert isinstance(await links_of(house).sign_in(again), LinkedAccount)
        shown = await listed(house, fields)
        assert {str(one["label"]): one["start"] for one in shown["links"]} == {
            ISSUER: None,
            "idp": "/auth/providers/idp/start",
        }
        assert shown["available"] == []
        assert await unlinked(house, fields, "idp") == 204
        assert (await listed(house, fields))["links"] == []


async def test_a_link_with_an_issuer_that_has_gone_goes_alone(tmp_path: Path) -> None:
    """Else its button takes the way in of another name with it."""
    async with open_house(tmp_path, providers={"idp": moved()}) as house:
        await house.register()
        await linked_before(house)
        again = ProviderIdentity(moved(), "ada", CREDENTIALS["email"], email_verified=True)
        assert isinstance(await links_of(house).sign_in(again), LinkedAccount)
        fields = await signed_in_at(house, GATE)
        shown = (await listed(house, fields))["links"]
        [name] = [str(one["name"]) for one in shown if one["label"] == ISSUER]
        assert await unlinked(house, fields, name) == 204
        assert [one["name"] for one in (await listed(house, fields))["links"]] == ["idp"]
        [event] = [e for e in house.recorded.events if e.kind is AuditKind.PROVIDER_UNLINKED]
        assert event.detail["provider"] == ISSUER


async def test_a_link_is_shown_by_the_name_that_its_provider_has_now(tmp_path: Path) -> None:
    async with open_house(tmp_path, providers={"company": moved("company", ISSUER)}) as house:
        await house.register()
        await linked_before(house)
        fields = await signed_in_at(house, GATE)
        shown = await listed(house, fields)
        [link] = shown["links"]
        assert (link["name"], link["start"]) == ("company", "/auth/providers/company/start")
        assert shown["available"] == []
        assert await unlinked(house, fields, "company") == 204


@pytest.mark.parametrize(
    ("provider_now", "is_offered"),
    [(moved(), False), (moved("company", ISSUER), True), (moved(issuer=ISSUER), True)],
)
async def test_an_id_token_is_shown_to_no_provider_but_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, provider_now: Provider, is_offered: bool
) -> None:
    """Whoever has the name now would read what another said of the person."""
    async with open_house(tmp_path, providers={provider_now.name: provider_now}) as house:
        await house.register()
        found = await linked_before(house)
        identity = ProviderIdentity(moved(issuer=ISSUER), "ada", id_token="an.id.token")
        origin = house.deps.providers.sessions.origin(identity, found.identity_id)
        fields = await signed_in_at(house, GATE)
        async with house.database.transaction() as tx:
            [row] = await tx.all("SELECT id FROM families")
            await record_origin(tx, str(row["id"]), origin)

        async def metadata(_provider: object) -> ProviderMetadata:
            return ProviderMetadata("a", "t", "k", end_session="https://id.example/end")

        monkeypatch.setattr(house.deps.providers.client, "metadata", metadata)
        answer = await house.raw(
            request("POST", "/auth/logout", b'{"provider": true}', headers=fields, host=GATE)
        )
        assert answer.status == (200 if is_offered else 204)
        assert (b"an.id.token" in answer.body) is is_offered


async def test_what_was_begun_with_one_issuer_is_not_completed_with_another(
    tmp_path: Path,
) -> None:
    """The code that one provider gave would be sent to the other."""
    before = provider_of(HUB)
    providers = {"idp": before}
    async with open_house(tmp_path, providers=providers) as house:
        await house.register()
        fields = await signed_in_at(house, GATE)
        permitted = str((await listed(house, fields))["available"][0]["start"])
        begun = await house.raw(
            request("GET", "/auth/providers/idp/start", b"", headers=fields, host=GATE)
        )
        assert begun.status == 303
        location = begun.values("location")[0].decode()
        state = parse_qs(urlsplit(location).query)["state"][0]
        trip = begun.values("set-cookie")[0].split(b";")[0].decode()
        providers["idp"] = replace(before, issuer=replace(before.issuer, issuer=MOVED))
        back = f"/auth/providers/idp/callback?state={state}&code=x&iss={quote(MOVED)}"
        for path, cookies in ((back, [f"Cookie: {trip}"]), (permitted, fields)):
            answer = await house.raw(request("GET", path, b"", headers=cookies, host=GATE))
            assert (answer.status, reason(answer)) == (400, "invalid_token")

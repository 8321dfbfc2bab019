"""What somebody who shares an address with others can keep them out of."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import pytest

from gateway.client_networks import asking_for
from gateway.identity.clients.clients import Clients, NewSecret
from gateway.identity.clients.failures import ADDRESS_FAILURES as CLIENTS_FAILURES
from gateway.identity.clients.failures import CLIENT_FAILURES
from gateway.identity.keys.jwk import Alg, PrivateKey, generate
from gateway.identity.made_up import LOOKS_OF_ADDRESS
from gateway.identity.sign_in.throttle import ADDRESS_FAILURES, DEVICE_FAILURES, REQUESTS
from gateway.stores.protocols import Transaction
from tests.authenticator import Authenticator, StoredCredential
from tests.config.provider_texts import provider
from tests.edge.auth_house import CREDENTIALS, URL, House, open_house, reason
from tests.edge.endpoints.mail_house import ATTACKERS, MailHouse
from tests.edge.endpoints.oauth_clients import (
    GRANT,
    TYPE,
    assertion,
    basic,
    created,
    post,
    with_assertion,
)
from tests.edge.endpoints.passkey_calls import SIGN_IN, add_passkey, asked_to_sign_in, is_refused
from tests.edge.endpoints.test_provider_guesses import HUB, Servers, come_back
from tests.edge.rig import Answer


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    providers = {"idp": provider(HUB)}
    async with open_house(tmp_path, providers=providers, provider_servers=Servers()) as opened:
        await opened.register()
        yield opened


async def device_cookie(house: House, **fields: str) -> str:
    """Of a browser in which somebody signs in."""
    answer = await house.ask("POST", "/auth/login", {**CREDENTIALS, **fields})
    assert answer.status == 200, answer.body
    (line,) = (v for v in answer.values("set-cookie") if v.startswith(b"__Host-device="))
    return line.decode().partition(";")[0]


async def by_passkey(house: House, authenticator: Authenticator, *cookies: str) -> Answer:
    options = await asked_to_sign_in(house)
    body = {
        "challenge_token": options["challenge_token"],
        "credential": authenticator.get(options["public_key"]),
    }
    return await house.ask("POST", SIGN_IN, body, headers=[f"Cookie: {one}" for one in cookies])


def is_too_many(answer: Answer) -> bool:
    return (answer.status, reason(answer)) == (429, "too_many_attempts")


async def test_a_neighbours_made_up_passkeys_keep_no_known_browser_out(house: House) -> None:
    own, made_up = Authenticator(URL), Authenticator(URL)
    known = await device_cookie(house)
    await add_passkey(house, own)
    key = own.credentials[0].private_key
    made_up.credentials.append(StoredCredential(b"unknown", "gate.example", b"nobody", key))
    for _ in range(ADDRESS_FAILURES):
        assert is_refused(await by_passkey(house, made_up))
    assert is_too_many(await by_passkey(house, own))
    for _ in range(DEVICE_FAILURES + 1):
        assert (await by_passkey(house, own, known)).status == 200
    # What a known browser makes up ends as soon.
    for _ in range(DEVICE_FAILURES):
        assert is_refused(await by_passkey(house, made_up, known))
    assert is_too_many(await by_passkey(house, made_up, known))


async def test_a_neighbours_requests_for_mail_keep_no_known_browser_from_a_reset(
    house: House,
) -> None:
    known = await device_cookie(house)

    async def forgot(email: str, *cookies: str) -> int:
        headers = [f"Cookie: {cookie}" for cookie in cookies]
        answer = await house.ask("POST", "/auth/password/forgot", {"email": email}, headers=headers)
        return answer.status

    for number in range(REQUESTS):
        assert await forgot(f"u{number}@y.example") == 202
    assert await forgot(CREDENTIALS["email"]) == 429
    statuses = [await forgot(CREDENTIALS["email"], known) for _ in range(DEVICE_FAILURES + 1)]
    assert statuses == [202] * DEVICE_FAILURES + [429]


async def test_a_neighbours_made_up_codes_keep_no_known_browser_out(house: House) -> None:
    known = await device_cookie(house)
    for _ in range(ADDRESS_FAILURES):
        assert is_refused(await come_back(house))
    assert is_too_many(await come_back(house))
    for _ in range(DEVICE_FAILURES):
        assert is_refused(await come_back(house, known))
    assert is_too_many(await come_back(house, known))


async def test_an_accounts_browsers_ask_together_as_often_as_an_address(house: House) -> None:
    browsers = [await device_cookie(house) for _ in range(ADDRESS_FAILURES // DEVICE_FAILURES + 1)]
    for _ in range(ADDRESS_FAILURES):
        assert is_refused(await come_back(house))
    *most, last = browsers
    for known in most:
        for _ in range(DEVICE_FAILURES):
            assert is_refused(await come_back(house, known))
    assert is_too_many(await come_back(house, last))


async def test_a_neighbours_made_up_clients_keep_none_out_that_was_believed(house: House) -> None:
    key = generate(Alg.ES256)
    by_secret, by_key = await created(house), await created(house, "other", [key])
    assert (await token(house, by_secret)).status == 200
    first = await with_assertion(house, assertion(by_key, key, house))
    assert first.status == 200
    for n in range(CLIENTS_FAILURES + 1):
        assert (await token(house, by_secret, client_id=f"client-{n}")).status == 401
    assert is_too_many(await token(house, by_secret, client_id="client-x"))
    # Nor in the name of the client itself.
    for _ in range(CLIENT_FAILURES + 1):
        await token(house, by_secret, client_secret="x")
    assert is_too_many(await token(house, by_secret, client_secret="x"))
    assert (await token(house, by_secret)).status == 200
    again = await with_assertion(house, assertion(by_key, key, house, jti="twice"))
    assert again.status == 200


async def signed(house: House, client: NewSecret, key: PrivateKey) -> Answer:
    text = assertion(client, key, house, jti=secrets.token_hex(8))
    return await with_assertion(house, text)


async def test_a_neighbours_wrong_secrets_keep_no_client_out_that_signs(house: House) -> None:
    """Nobody guesses a signature, and a client that has a key alone has no secret to guess.  A
    loop of wrong secrets with its id kept it from tokens for as long as that went on."""
    key = generate(Alg.ES256)
    client = await created(house, keys=[key])
    for _ in range(CLIENT_FAILURES + 1):
        assert (await token(house, client, client_secret="x")).status == 401
    for n in range(CLIENTS_FAILURES - CLIENT_FAILURES):
        assert (await token(house, client, client_id=f"client-{n}")).status == 401
    assert is_too_many(await token(house, client, client_secret="x"))
    assert is_too_many(await token(house, client, client_id="client-x"))
    assert (await signed(house, client, key)).status == 200
    text = assertion(client, key, house, jti="asked")
    form = {"token": "t", "client_assertion_type": TYPE, "client_assertion": text}
    assert (await post(house, "/auth/introspect", form)).status == 200


@pytest.mark.parametrize("was_believed", [True, False])
async def test_a_neighbours_made_up_assertions_keep_no_client_out(
    house: House, was_believed: bool
) -> None:
    key, made_up = generate(Alg.ES256), generate(Alg.ES256)
    client = await created(house, keys=[key])
    if was_believed:
        assert (await signed(house, client, key)).status == 200
    for _ in range(CLIENT_FAILURES + 5):
        assert (await signed(house, client, made_up)).status == 401
    for n in range(CLIENTS_FAILURES + 5 - CLIENT_FAILURES):
        stranger = NewSecret(f"client-{n}", "")
        assert (await signed(house, stranger, made_up)).status == 401
    assert (await signed(house, client, key)).status == 200
    # Nor out of what its secret opens.
    assert (await token(house, client)).status == 200


async def test_made_up_assertions_cost_a_look_at_sql_once_a_minute(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    made_up = generate(Alg.ES256)
    client = await created(house, keys=[generate(Alg.ES256)])
    with counted_reads(house, monkeypatch) as counted:
        for _ in range(30):
            assert (await signed(house, client, made_up)).status == 401
        assert counted["all"] == 1
        house.clock.move(60)
        answers = await asyncio.gather(*(signed(house, client, made_up) for _ in range(60)))
        assert {answer.status for answer in answers} == {401}
        assert counted["all"] <= 1 + LOOKS_OF_ADDRESS


async def test_who_makes_up_clients_that_sign_takes_a_share_of_the_stores_queue(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = generate(Alg.ES256)
    with counted_reads(house, monkeypatch) as counted:
        answers = await asyncio.gather(
            *(signed(house, NewSecret(f"client-{n}", ""), key) for n in range(60))
        )
    assert counted["most"] == LOOKS_OF_ADDRESS
    assert {answer.status for answer in answers} == {401}


async def test_a_secret_that_has_ended_waits_as_any_other(house: House) -> None:
    client = await created(house)
    assert (await token(house, client)).status == 200
    await Clients(house.database).delete(client.client_id)
    for _ in range(CLIENT_FAILURES + 1):
        assert (await token(house, client)).status == 401
    assert is_too_many(await token(house, client))


async def token(house: House, client: NewSecret, **changed: str) -> Answer:
    client_id = changed.get("client_id", client.client_id)
    secret = changed.get("client_secret", client.client_secret)
    return await post(house, "/auth/token", GRANT, basic(client_id, secret))


@contextmanager
def counted_reads(house: House, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, int]]:
    """How many looks at SQL are under way, the most that were, and all."""
    read, counted = house.database.read_transaction, {"now": 0, "most": 0, "all": 0}

    @asynccontextmanager
    async def counting() -> AsyncIterator[Transaction]:
        counted["now"] += 1
        counted["all"] += 1
        counted["most"] = max(counted["now"], counted["most"])
        try:
            async with read() as tx:
                yield tx
        finally:
            counted["now"] -= 1

    with monkeypatch.context() as patched:
        patched.setattr(house.database, "read_transaction", counting)
        yield counted


@pytest.mark.parametrize(
    ("path", "field"),
    [
        ("/auth/email/verify", "token"),
        ("/auth/password/reset", "token"),
        ("/auth/refresh", "refresh_token"),
        ("/auth/logout", "refresh_token"),
    ],
)
async def test_who_makes_up_links_and_tokens_takes_a_share_of_the_stores_queue(
    house: House, monkeypatch: pytest.MonkeyPatch, path: str, field: str
) -> None:
    """PostgreSQL has ten places and five hundred wait for them: a few hundred connections of one
    address, which no limit of links holds up, would else be all that SQL is asked by."""
    password = {"password": "four quiet rivers"} if field == "token" else {}
    with counted_reads(house, monkeypatch) as counted:
        answers = await asyncio.gather(
            *(
                house.ask("POST", path, {field: secrets.token_urlsafe(32), **password})
                for _ in range(60)
            )
        )
    assert counted["most"] == LOOKS_OF_ADDRESS
    assert {answer.status for answer in answers} <= {400, 401, 429}


async def test_who_makes_up_invitations_takes_no_more(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    with counted_reads(house, monkeypatch) as counted:
        answers = await asyncio.gather(
            *(
                house.ask(
                    "POST",
                    "/auth/register",
                    {**CREDENTIALS, "invitation": secrets.token_urlsafe(32)},
                )
                for _ in range(60)
            )
        )
    assert counted["most"] == LOOKS_OF_ADDRESS
    assert {answer.status for answer in answers} <= {403, 429}


@pytest.mark.parametrize("endpoint", ["token", "introspect", "revoke"])
async def test_who_makes_up_clients_takes_no_more(
    house: House, monkeypatch: pytest.MonkeyPatch, endpoint: str
) -> None:
    with counted_reads(house, monkeypatch) as counted:
        answers = await asyncio.gather(
            *(
                post(house, f"/auth/{endpoint}", GRANT, basic(f"client-{n}", "made-up"))
                for n in range(60)
            )
        )
    assert counted["most"] == LOOKS_OF_ADDRESS
    assert {answer.status for answer in answers} == {401}


async def test_a_client_that_was_believed_waits_behind_no_made_up_ones(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = generate(Alg.ES256)
    by_secret, by_key = await created(house), await created(house, "other", [key])
    assert (await token(house, by_secret)).status == 200
    assert (await with_assertion(house, assertion(by_key, key, house))).status == 200
    read, held, go_on = house.database.read_transaction, asyncio.Event(), asyncio.Event()
    under_way = 0

    @asynccontextmanager
    async def slow_for_the_first() -> AsyncIterator[Transaction]:
        nonlocal under_way
        under_way += 1
        if under_way == LOOKS_OF_ADDRESS:
            held.set()
        if under_way <= LOOKS_OF_ADDRESS:
            await go_on.wait()
        async with read() as tx:
            yield tx

    with monkeypatch.context() as patched:
        patched.setattr(house.database, "read_transaction", slow_for_the_first)
        made_up = [
            asyncio.create_task(token(house, by_secret, client_id=f"client-{n}"))
            for n in range(LOOKS_OF_ADDRESS + 4)
        ]
        await held.wait()
        assert (await token(house, by_secret)).status == 200
        again = await with_assertion(house, assertion(by_key, key, house, jti="twice"))
        assert again.status == 200
        go_on.set()
        assert {(await one).status for one in made_up} == {401}


async def test_a_store_is_asked_in_the_name_of_the_callers_neighbourhood(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that its queue can tell a crowd from who comes from elsewhere."""
    token_text = str((await house.sign_in())["access_token"])
    read, names = house.database.read_transaction, []

    @asynccontextmanager
    async def noting() -> AsyncIterator[Transaction]:
        names.append(asking_for.get())
        async with read() as tx:
            yield tx

    with monkeypatch.context() as patched:
        patched.setattr(house.database, "read_transaction", noting)
        assert (await house.ask("GET", "/auth/sessions", token=token_text)).status == 200
    assert set(names) == {"127.0.0.0/24"}


@pytest.mark.parametrize("purpose", ["register", "reset"])
async def test_who_has_a_link_of_their_own_takes_no_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, purpose: str
) -> None:
    """One that is good, and is never used up: it comes without its password, or to the wrong
    endpoint."""
    async with open_house(tmp_path, verification="required") as house:
        mail = MailHouse(house, house.deps.mailer)
        if purpose == "register":
            await mail.as_from("198.51.100.7", "eve@example.com", ATTACKERS)
        else:
            await house.register("eve@example.com")
            await mail.registrations().forgot("eve@example.com", "eve")
        (own,) = await mail.links()
        with counted_reads(house, monkeypatch) as counted:
            answers = await asyncio.gather(
                *(house.ask("POST", "/auth/email/verify", {"token": own}) for _ in range(60))
            )
        assert counted["most"] == LOOKS_OF_ADDRESS
        assert {answer.status for answer in answers} <= {400, 422, 429}

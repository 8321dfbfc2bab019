"""Sessions, machine clients and signing keys in the console."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest

from gateway.audit.log import AuditKind
from gateway.edge.console.clients_page import CLIENTS, ClientPageDependencies, ClientsPage
from gateway.edge.console.keys_page import KEYS, KeysPage
from gateway.edge.console.sessions_page import SESSIONS, SessionListDependencies, SessionsPage
from gateway.identity.accounts.accounts import Accounts
from gateway.identity.clients.api_keys import ApiKeys
from gateway.identity.clients.client_search import ClientSearch
from gateway.identity.clients.clients import Clients
from gateway.identity.keys.encryption import Sealer
from gateway.identity.keys.rotation import KeyRotation
from gateway.identity.sessions.session_search import SessionSearch
from gateway.identity.sessions.sessions import Sessions, SignInSource, begin
from gateway.model import ChangeKind
from gateway.stores.protocols import Database
from tests.edge.console.house import Answered, ConsoleHouse, Told, console_house


@dataclass
class Credentials:
    house: ConsoleHouse
    database: Database
    rotation: KeyRotation
    csrf: str

    async def act(self, path: str, do: str, **form: str) -> Answered:
        fields = {name.replace("_", "-"): value for name, value in form.items()}
        return await self.house.post(path, {"csrf": self.csrf, "do": do, **fields})

    async def shown(self, path: str) -> str:
        answer = await self.house.ask(path)
        assert answer.status == 200, answer.text
        return answer.text

    @property
    def told(self) -> list[tuple[str, str | None, object]]:
        return [
            (event.kind, event.subject, event.detail.get("change"))
            for event in self.house.events.all
            if event.kind is not AuditKind.CONSOLE_OPENED
        ]


@pytest.fixture
async def credentials(sqlite_database: Database) -> AsyncIterator[Credentials]:
    database = sqlite_database
    rotation = KeyRotation(database, Sealer(b"k" * 32), Told(), alg="ES256", max_token_life_s=3_600)
    await rotation.ensure()
    pages = [
        *SessionsPage(
            SessionListDependencies(SessionSearch(database), Sessions(database), Accounts(database))
        ).pages(),
        *ClientsPage(
            ClientPageDependencies(ClientSearch(database), Clients(database), ApiKeys(database))
        ).pages(),
        *KeysPage(rotation).pages(),
    ]
    async with console_house(*pages) as house:
        yield Credentials(house, database, rotation, await house.sign_in())


async def add_sessions(database: Database, email: str, count: int) -> list[str]:
    account = await Accounts(database).register(email, None)
    made = []
    async with database.transaction() as tx:
        now = int(await tx.now())
        for number in range(count):
            source = SignInSource("<b>", "192.0.2.7")
            at = now + number
            made.append(
                await begin(tx, account.id, source, amr="pwd", at=at, expires_at=now + 900)  # type: ignore[union-attr]
            )
    return made


# --- sessions ---


async def test_live_sessions_are_listed_the_newest_first_in_pages(credentials: Credentials) -> None:
    made = await add_sessions(credentials.database, "ada@example.com", 60)
    first = await credentials.shown(SESSIONS)
    assert made[-1] in first
    assert made[0] not in first
    assert "&lt;b&gt;" in first
    following = re.search(r'rel="next" href="([^"]+)"', first)
    assert following is not None
    second = await credentials.shown(following[1])
    assert made[0] in second
    assert made[-1] not in second


async def test_sessions_of_one_person_are_found_by_address_and_by_id(
    credentials: Credentials,
) -> None:
    [one] = await add_sessions(credentials.database, "ada@example.com", 1)
    [other] = await add_sessions(credentials.database, "bob@example.com", 1)
    for text in ("ADA@example.com", one):
        shown = await credentials.shown(f"{SESSIONS}?q={text}")
        assert one in shown
        assert other not in shown
    for text in ("nobody@example.com", "%3Cscript%3E", "%00", "x" * 200):
        shown = await credentials.shown(f"{SESSIONS}?q={text}")
        assert "No live session." in shown or one not in shown or other in shown
        assert "<script>" not in shown


async def test_a_session_ends_and_everybody_is_told(credentials: Credentials) -> None:
    [one] = await add_sessions(credentials.database, "ada@example.com", 1)
    assert (await credentials.act(SESSIONS, "end", session=one)).status == 303
    assert credentials.told == [("session_ended", None, "ended")]
    assert [change.kind for change in credentials.house.told.changes] == [ChangeKind.SESSION]
    assert one not in await credentials.shown(SESSIONS)
    assert (await credentials.act(SESSIONS, "end", session="nobody")).status == 422
    assert (await credentials.act(SESSIONS, "end", session="a b")).status == 422


# --- clients ---


async def make_client(credentials: Credentials, name: str = "billing") -> tuple[str, str]:
    """Its id and its secret."""
    answer = await credentials.act(CLIENTS, "create", name=name, roles="reader")
    assert answer.status == 200, answer.text
    found = dict(re.findall(r'<code id="(\w+)">([^<]+)</code>', answer.text))
    return found["client_id"], found["client_secret"]


async def test_a_client_is_made_and_its_secret_shown_once(credentials: Credentials) -> None:
    client_id, secret = await make_client(credentials)
    assert credentials.told == [("client_changed", client_id, "created")]
    assert "billing" in await credentials.shown(CLIENTS)
    for path in (CLIENTS, f"{CLIENTS}/{client_id}"):
        assert secret not in await credentials.shown(path)
    client = await Clients(credentials.database).find(client_id)
    assert client is not None
    shown = await credentials.shown(f"{CLIENTS}/{client_id}")
    assert client.secret_hashes[0] not in shown
    assert (await credentials.act(CLIENTS, "create", name="billing")).status == 422
    wrong = await credentials.act(CLIENTS, "create", name="no <name>")
    assert wrong.status == 422
    assert "no &lt;name&gt;" in wrong.text


async def test_a_secret_is_made_anew_and_the_older_ones_end(credentials: Credentials) -> None:
    client_id, secret = await make_client(credentials)
    path = f"{CLIENTS}/{client_id}"
    answer = await credentials.act(path, "rotate")
    assert secret not in answer.text
    assert credentials.house.told.changes == []
    credentials.house.told.confirms = False
    answer = await credentials.act(path, "rotate", at_once="1")
    assert 'id="client_secret"' in answer.text
    assert "not yet confirmed" in answer.text
    assert [change for *_, change in credentials.told][1:] == [
        "secret rotated",
        "secret rotated at once",
    ]
    client = await Clients(credentials.database).find(client_id)
    assert client is not None
    assert len(client.secret_hashes) == 1


async def test_an_api_key_is_made_shown_once_and_ended(credentials: Credentials) -> None:
    client_id, _ = await make_client(credentials)
    path = f"{CLIENTS}/{client_id}"
    answer = await credentials.act(path, "make-key", scopes="orders:read", days="30")
    found = dict(re.findall(r'<code id="(\w+)">([^<]+)</code>', answer.text))
    assert found["api_key"] not in await credentials.shown(path)
    for form in (
        {"days": "x"},
        {"days": "99999"},
        {"days": "0" * 9 + "9" * 20},
        {"scopes": "<x>"},
        {"key_roles": "admin"},
    ):
        assert (await credentials.act(path, "make-key", **form)).status == 422
    other, _ = await make_client(credentials, "other")
    wrong = await credentials.act(f"{CLIENTS}/{other}", "end-key", key=found["key_id"])
    assert wrong.status == 422
    assert (await credentials.act(path, "end-key", key=found["key_id"])).status == 303
    [key] = await ApiKeys(credentials.database).of_client(client_id)
    assert key.ended_at is not None


async def test_what_a_client_has_is_refused_and_it_is_deleted_by_its_name(
    credentials: Credentials,
) -> None:
    client_id, _ = await make_client(credentials)
    path = f"{CLIENTS}/{client_id}"
    assert (await credentials.act(path, "revoke")).status == 303
    assert (await credentials.act(path, "delete", name="wrong")).status == 422
    assert (await credentials.act(path, "delete", name="billing")).headers["Location"] == (
        f"{CLIENTS}?done=delete"
    )
    assert (await credentials.house.ask(path)).status == 404
    assert (await credentials.act(path, "rotate")).status == 404
    kinds = [str(kind) for kind, *_ in credentials.told]
    assert kinds == ["client_changed", "revoked", "client_changed"]


async def test_a_name_is_no_address_of_a_client(credentials: Credentials) -> None:
    await make_client(credentials)
    assert (await credentials.house.ask(f"{CLIENTS}/billing")).status == 404


async def test_clients_are_found_by_the_beginning_of_their_name(credentials: Credentials) -> None:
    client_id, _ = await make_client(credentials)
    await make_client(credentials, "other")
    for text in ("bill", client_id):
        shown = await credentials.shown(f"{CLIENTS}?q={text}")
        assert "billing" in shown
        assert "other" not in shown
    assert "There is no client." in await credentials.shown(f"{CLIENTS}?q=ill")


# --- signing keys ---


async def test_signing_keys_are_shown_with_their_states_and_nothing_of_them(
    credentials: Credentials,
) -> None:
    shown = await credentials.shown(KEYS)
    async with credentials.database.read_transaction() as tx:
        rows = await tx.all("SELECT * FROM signing_keys")
    for row in rows:
        assert row["kid"] in shown
        assert row["sealed_private"] not in shown
        assert row["state"] in shown


async def test_a_key_is_rotated_and_another_refused(credentials: Credentials) -> None:
    [active, following] = [row.kid for row in await credentials.rotation.listing()]
    answer = await credentials.act(KEYS, "rotate")
    assert answer.headers["Location"] == f"{KEYS}?done=rotated"
    states = {row.kid: str(row.state) for row in await credentials.rotation.listing()}
    assert states[following] == "active" or states[active] == "active"
    assert (await credentials.act(KEYS, "revoke", kid=active)).status == 422
    assert (await credentials.act(KEYS, "revoke", kid="x", confirm_kid="x")).status == 422
    done = await credentials.act(KEYS, "revoke", kid=active, confirm_kid=active)
    assert done.headers["Location"] == f"{KEYS}?done=revoked"
    assert [change for *_, change in credentials.told] == ["rotated", "revoked"]

"""What an operator has begun whose client leaves, or whose store is away by the time of the answer:
it is done, it is in the audit log, and every worker is told."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from urllib.parse import urlencode, urlsplit

import pytest

from gateway.access.console import ConsolePermission
from gateway.audit.log import AuditKind
from gateway.audit.operator_events import operator_event
from gateway.edge.console.clients_page import ClientPageDependencies, ClientsPage
from gateway.edge.console.issuers_page import ISSUERS, IssuersPage
from gateway.edge.console.keys_page import KEYS, KeysPage
from gateway.edge.console.operator_database import OperatorDatabase
from gateway.edge.console.operators import COOKIE
from gateway.edge.console.pages import Acted, ConsoleAction, ConsolePage, ConsoleRequest, View
from gateway.identity.clients.api_keys import ApiKeys
from gateway.identity.clients.client_search import ClientSearch
from gateway.identity.clients.clients import Clients
from gateway.identity.issuers.issuer_checks import CheckedIssuer
from gateway.identity.keys.encryption import Sealer
from gateway.identity.keys.key_ring import KeyState
from gateway.identity.keys.rotation import KeyRotation
from gateway.model import Change, ChangeKind, Reason
from gateway.stores.protocols import Database, StoreBusy, Transaction
from tests.edge.console.house import TOKEN, ConsoleHouse, Workers, console_house
from tests.edge.house_parts import Fragile
from tests.edge.rig import leave

LEFT_S = 0.1
"""So long a server has to see that its client is gone."""


@dataclass
class Gate:
    """Something waits before it until it is opened."""

    reached: asyncio.Event = field(default_factory=asyncio.Event)
    opened: asyncio.Event = field(default_factory=asyncio.Event)

    async def wait(self) -> None:
        self.reached.set()
        await self.opened.wait()


class BusyBehind(Fragile):
    """Lets nothing be read once something was written."""

    def __init__(self, database: Database) -> None:
        super().__init__(database)
        self.dialect = database.dialect
        self.busy = False

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Transaction]:
        async with super().transaction() as tx:
            yield tx
        self.busy = True

    def read_transaction(self) -> AbstractAsyncContextManager[Transaction]:
        if self.busy:
            raise StoreBusy("sql", "no place in time")
        return super().read_transaction()


class SlowWorkers:
    """Meets `stores.protocols.RevocationPublisher`."""

    def __init__(self) -> None:
        self.gate = Gate()
        self.told: list[ChangeKind] = []

    async def publish(self, changes: Sequence[Change]) -> bool:
        await self.gate.wait()
        self.told += [change.kind for change in changes]
        return True


async def sent_and_left(house: ConsoleHouse, path: str, gate: Gate, **form: str) -> None:
    """A form whose sender is gone by the time that the gate opens."""
    host = urlsplit(house.base).netloc
    name, port = host.split(":")
    body = urlencode({key.replace("_", "-"): value for key, value in form.items()}).encode()
    by = f"Cookie: {COOKIE}={house.cookie}" if house.cookie else f"Authorization: Bearer {TOKEN}"
    head = (
        f"POST {path} HTTP/1.1\r\nHost: {host}\r\n{by}\r\nOrigin: {house.base}\r\n"
        "Sec-Fetch-Site: same-origin\r\nContent-Type: application/x-www-form-urlencoded\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    _, writer = await asyncio.open_connection(name, int(port))
    writer.write(head.encode() + body)
    await gate.reached.wait()
    leave(writer)
    opening = asyncio.ensure_future(gate.opened.wait())
    await asyncio.wait([opening], timeout=LEFT_S)
    gate.opened.set()
    await opening
    await house.shielded.wait()


def clients_page(database: Database) -> Sequence[ConsolePage]:
    guarded = OperatorDatabase(database)
    dependencies = ClientPageDependencies(ClientSearch(guarded), Clients(guarded), ApiKeys(guarded))
    return ClientsPage(dependencies).pages()


def changes_told(house: ConsoleHouse) -> list[object]:
    return [event.detail["change"] for event in house.events.all]


async def client_id(database: Database) -> str:
    client = await Clients(database).create("billing")
    assert client is not None
    return client.client_id


async def test_what_an_operator_who_leaves_has_begun_is_done_and_told(database: Database) -> None:
    fragile, gate, billing = Fragile(database), Gate(), await client_id(database)
    fragile.dialect = database.dialect
    async with console_house(*clients_page(fragile), of_pages=database) as house:
        fragile.before_commit = gate.wait
        await sent_and_left(house, f"/admin/clients/{billing}", gate, do="rotate", at_once="1")
        assert changes_told(house) == ["secret rotated at once"]
        assert [change.kind for change in house.told.changes] == [ChangeKind.CLIENT]


async def test_a_key_is_told_to_be_revoked_before_any_worker_is_asked(
    sqlite_database: Database,
) -> None:
    workers, plain = SlowWorkers(), sqlite_database
    rotation = KeyRotation(
        OperatorDatabase(plain),
        Sealer(b"k" * 32),
        workers,
        alg="EdDSA",
        max_token_life_s=900,
        confirmations=plain,
    )
    own = KeyRotation(plain, Sealer(b"k" * 32), workers, alg="EdDSA", max_token_life_s=900)
    await own.ensure()
    [kid] = [row.kid for row in await own.listing() if row.state is KeyState.ACTIVE]
    async with console_house(*KeysPage(rotation).pages(), of_pages=plain) as house:
        form = {"do": "revoke", "kid": kid, "confirm_kid": kid}
        leaving = asyncio.ensure_future(sent_and_left(house, KEYS, workers.gate, **form))
        await workers.gate.reached.wait()
        assert changes_told(house) == ["revoked"]
        await leaving
        assert ChangeKind.KEY in workers.told


async def test_a_sign_out_whose_client_leaves_is_told_to_every_worker(
    sqlite_database: Database,
) -> None:
    fragile, gate = Fragile(sqlite_database), Gate()
    async with console_house(of_pages=fragile) as house:
        csrf = await house.sign_in()
        fragile.before_commit = gate.wait
        await sent_and_left(house, "/admin/sign-out", gate, csrf=csrf)
        assert len(house.told.sessions) == 1


async def test_what_only_reads_ends_with_its_reader(sqlite_database: Database) -> None:
    gate, ended = Gate(), asyncio.Event()

    async def look(_: ConsoleRequest) -> Acted:
        try:
            await gate.wait()
        except asyncio.CancelledError:
            ended.set()
            raise
        return Acted(())

    async def show(_: ConsoleRequest) -> View:
        return View("keys.html")

    read = ConsoleAction(look, ConsolePermission.READ, fresh=False, writes=False)
    page = ConsolePage("/admin/look", "Look", show, actions={"look": read})
    async with console_house(page, of_pages=sqlite_database) as house:
        await sent_and_left(house, "/admin/look", gate, do="look")
        assert ended.is_set()


async def test_a_check_of_issuers_ends_with_who_asked_for_it_and_is_told(
    sqlite_database: Database,
) -> None:
    """It asks other people's servers for up to 20 s, and writes nothing."""
    gate = Gate()

    async def check(_: str) -> Sequence[CheckedIssuer]:
        await gate.wait()
        return ()

    page = IssuersPage(Workers(), check)
    async with console_house(*page.pages(), of_pages=sqlite_database) as house:
        await sent_and_left(house, ISSUERS, gate, do="check", issuer="company")
        [event] = house.events.all
        assert event.kind is AuditKind.ISSUERS_CHECKED
        assert event.detail == {"change": "left", "issuers": "company", "by": "console"}
        again = await house.post(ISSUERS, {"do": "check"}, Authorization=f"Bearer {TOKEN}")
        assert again.status == 404  # and no check that runs already


async def test_what_says_that_it_writes_nothing_writes_nothing(sqlite_database: Database) -> None:
    database = OperatorDatabase(sqlite_database)

    async def act(_: ConsoleRequest) -> Acted:
        await Clients(database).create("billing")
        return Acted([operator_event(AuditKind.CLIENT_CHANGED, None, "created")])

    async def show(_: ConsoleRequest) -> View:
        return View("keys.html")

    action = ConsoleAction(act, writes=False)
    page = ConsolePage("/admin/act", "Act", show, actions={"act": action})
    async with console_house(page, of_pages=sqlite_database) as house:
        answer = await house.post("/admin/act", {"do": "act"}, Authorization=f"Bearer {TOKEN}")
        assert answer.status == 500
        assert house.events.all == []
    assert await ClientSearch(sqlite_database).page("", "", 10) == []


@pytest.mark.parametrize(
    ("do", "told", "kinds"),
    [
        ("make-key", "key made", []),
        ("rotate", "secret rotated at once", [ChangeKind.CLIENT]),
        ("create", "created", []),
    ],
)
async def test_a_store_that_is_busy_behind_the_commit_takes_neither_event_nor_secret(
    database: Database, do: str, told: str, kinds: Sequence[ChangeKind]
) -> None:
    busy, billing = BusyBehind(database), await client_id(database)
    path = "/admin/clients" if do == "create" else f"/admin/clients/{billing}"
    async with console_house(*clients_page(busy), of_pages=database) as house:
        form = {"do": do, "at-once": "1", "name": "new"}
        answer = await house.post(path, form, Authorization=f"Bearer {TOKEN}")
        assert answer.status == 200, answer.text
        assert 'id="api_key"' in answer.text or 'id="client_secret"' in answer.text
        assert "cannot be read just now" in answer.text
        assert changes_told(house) == [told]
        assert [change.kind for change in house.told.changes] == kinds


async def test_what_was_done_is_told_so_where_its_page_cannot_be_read(
    sqlite_database: Database,
) -> None:
    async def unreadable() -> View:
        raise StoreBusy("sql", "no place in time")

    async def act(_: ConsoleRequest) -> Acted:
        event = operator_event(AuditKind.CLIENT_CHANGED, None, "done")
        change = Change("c", ChangeKind.CLIENT, "x", 0, Reason.TOKEN_REVOKED, 0)
        return Acted([event], [change], view=unreadable)

    async def show(_: ConsoleRequest) -> View:
        return View("keys.html")

    page = ConsolePage("/admin/act", "Act", show, actions={"act": ConsoleAction(act)})
    async with console_house(page, of_pages=sqlite_database) as house:
        answer = await house.post("/admin/act", {"do": "act"}, Authorization=f"Bearer {TOKEN}")
        assert "It was done and is kept" in answer.text
        assert changes_told(house) == ["done"]
        assert len(house.told.changes) == 1

"""The lists of the console as somebody would misuse them: each page that acts, by an operator who may
only read, by a foreign page, without a proof of intent; two operators at once; a store that is away.
"""

from __future__ import annotations

import asyncio
from contextlib import AbstractAsyncContextManager

import pytest

from gateway.edge.console.clients_page import CLIENTS, ClientPageDependencies, ClientsPage
from gateway.edge.console.pages import ConsolePage
from gateway.edge.console.sessions_page import SESSIONS, SessionListDependencies, SessionsPage
from gateway.edge.console.users_page import USERS
from gateway.identity.accounts.accounts import Accounts
from gateway.identity.clients.api_keys import ApiKeys
from gateway.identity.clients.client_search import ClientSearch
from gateway.identity.clients.clients import Clients
from gateway.identity.sessions.session_search import SessionSearch
from gateway.identity.sessions.sessions import Sessions
from gateway.stores.protocols import Database, StoreUnavailable, Transaction
from tests.edge.console.house import console_house, policy_of
from tests.edge.console.test_credential_pages import Credentials, add_sessions, make_client
from tests.edge.console.test_credential_pages import credentials as credentials
from tests.edge.console.test_users_page import People
from tests.edge.console.test_users_page import people as people


async def test_who_may_only_read_is_shown_no_button_and_refused_each_action(
    people: People,
) -> None:
    house = people.house
    house.cookie = ""
    house.somebody.auth_time = int(house.clock.now())
    house.policy = policy_of("{id: r, allow: ['admin:read']}")
    headers = {"Authorization": "Bearer token-of-user"}
    person = f"{USERS}/{people.ada}"
    for path in (USERS, person):
        shown = (await house.ask(path, **headers)).text
        assert "ada@example.com" in shown
        assert 'name="do"' not in shown
    for path, names in (
        (USERS, ["invite"]),
        (person, ["grant", "revoke", "disable", "enable", "unlock", "end-all", "reset-factors"]),
        (person, ["end-session", "end-key"]),
    ):
        for name in names:
            form = {"do": name, "role": "admin", "email": "new@example.com"}
            assert (await house.ask(path, "POST", form=form, **headers)).status == 403
    assert people.told == []
    account = await Accounts(people.database).by_id(people.ada)
    assert account is not None
    assert (account.disabled, account.roles) == (False, ("viewer",))


async def test_a_foreign_page_and_a_form_without_a_proof_do_nothing(people: People) -> None:
    person = f"{USERS}/{people.ada}"
    for headers in (
        {"Origin": "https://evil.example", "Sec_Fetch_Site": "cross-site"},
        {"Origin": "null", "Sec_Fetch_Site": "cross-site"},
    ):
        form = {"csrf": people.csrf, "do": "disable"}
        assert (await people.house.post(person, form, **headers)).status == 403
    for csrf in ("", "x", people.csrf[:-1]):
        assert (await people.house.post(person, {"csrf": csrf, "do": "disable"})).status == 403
    assert people.told == []


async def test_reading_changes_nothing_whatever_is_asked_for(people: People) -> None:
    await people.house.ask(f"{USERS}/{people.ada}?do=disable&csrf={people.csrf}")
    account = await Accounts(people.database).by_id(people.ada)
    assert account is not None
    assert not account.disabled
    assert people.told == []


async def test_two_operators_at_once_leave_one_truth_and_two_lines(people: People) -> None:
    answers = await asyncio.gather(
        *(people.act("grant", role="auditor") for _ in range(4)),
        *(people.act("disable") for _ in range(2)),
    )
    statuses = sorted(answer.status for answer in answers)
    assert statuses == [303, 303, 303, 422, 422, 422]
    assert [change for *_, change in people.told].count("granted") == 1


async def test_an_id_of_another_kind_is_no_page(people: People, credentials: Credentials) -> None:
    client_id, _ = await make_client(credentials)
    [session_id] = await add_sessions(credentials.database, "eve@example.com", 1)
    for wrong in (f"{USERS}/{client_id}", f"{USERS}/{session_id}"):
        assert (await people.house.ask(wrong)).status == 404
    for wrong in (f"{CLIENTS}/{session_id}", f"{CLIENTS}/{people.ada}"):
        assert (await credentials.house.ask(wrong)).status == 404
    for path, do, form in (
        (SESSIONS, "end", {"session": client_id}),
        (f"{CLIENTS}/{client_id}", "end-key", {"key": session_id}),
    ):
        assert (await credentials.act(path, do, **form)).status == 422


class Away:
    """Meets `stores.protocols.Database`, and is not there."""

    dialect = "sqlite"

    def transaction(self) -> AbstractAsyncContextManager[Transaction]:
        raise StoreUnavailable("sql", "away")

    read_transaction = transaction

    async def close(self) -> None: ...


async def test_a_store_that_is_away_is_told_on_each_page() -> None:
    database: Database = Away()  # type: ignore[assignment]
    pages: list[ConsolePage] = [
        *SessionsPage(
            SessionListDependencies(SessionSearch(database), Sessions(database), Accounts(database))
        ).pages(),
        *ClientsPage(
            ClientPageDependencies(ClientSearch(database), Clients(database), ApiKeys(database))
        ).pages(),
    ]
    async with console_house(*pages) as house:
        csrf = await house.sign_in()
        for path in (SESSIONS, CLIENTS, f"{CLIENTS}/client-1"):
            answer = await house.ask(path)
            assert answer.status == 503
            assert "nav" in answer.text
        form = {"csrf": csrf, "do": "end", "session": "s"}
        assert (await house.post(SESSIONS, form)).status == 503


@pytest.mark.parametrize("path", [USERS, SESSIONS, CLIENTS])
async def test_strange_words_of_an_address_are_no_defect(
    people: People, credentials: Credentials, path: str
) -> None:
    house = people.house if path == USERS else credentials.house
    for words in (
        "q=%00", "q=%ff", "q=%F0%9F%98%80", "q=" + "a" * 5_000, "q=a&q=b", "after=%00", "q=%27%25_",
        "after=WyJhIiwgMV0", "after=W10", "after=WzFlOTk5LCAiYSJd", "after=WzEsIjAiXQ", "state=x",
        "q=%ED%A0%80", "after=WyJcdTAwMDAiXQ", "after=WzEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzLCAiYSJd",
        "after=WyJcdWQ4MDAiXQ",
    ):  # fmt: skip
        answer = await house.ask(f"{path}?{words}")
        assert answer.status in (200, 400), (words, answer.status, answer.text[:300])

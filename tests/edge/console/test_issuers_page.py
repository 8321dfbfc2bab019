"""An issuer is asked from the console: by whom it may be, what is shown, what is written of it."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Iterator, Sequence

import pytest

from gateway.access.issuers import Issuer
from gateway.audit.log import AuditKind
from gateway.edge.console.issuers_page import ISSUERS, IssuersPage
from gateway.edge.upstream.resolver import SystemResolver
from gateway.identity.issuers.issuer_checks import CheckedIssuer, CheckedRow, IssuerChecks
from gateway.identity.issuers.verifier import IssuerVerifier
from gateway.model import SystemClock
from tests.cli.test_issuers import KEY, Provider
from tests.edge.console.house import Answered, ConsoleHouse, Workers, console_house


class Named:
    """Two issuers of a configuration: one that answers, and one where nobody is."""

    def __init__(self, provider: Provider) -> None:
        self.issuers = [
            Issuer("company", provider.url, ("api",), algorithms=("ES256",)),
            Issuer("gone", "http://127.0.0.1:1", ("api",)),
        ]
        self.may_go_on = asyncio.Event()
        self.may_go_on.set()
        self.begun = asyncio.Event()

    async def check(self, name: str) -> Sequence[CheckedIssuer]:
        self.begun.set()
        await self.may_go_on.wait()
        verifiers = [
            IssuerVerifier(issuer, max_life_s=3_600, now=time.time)
            for issuer in self.issuers
            if name in ("", issuer.name)
        ]
        return await IssuerChecks(SystemResolver().addresses, SystemClock()).check(verifiers)


@pytest.fixture
def provider() -> Iterator[Provider]:
    with Provider() as server:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        server.publish(KEY)
        yield server
        server.shutdown()


@pytest.fixture
def named(provider: Provider) -> Named:
    return Named(provider)


@pytest.fixture
async def house(named: Named) -> AsyncIterator[ConsoleHouse]:
    async with console_house(*IssuersPage(Workers(), named.check).pages()) as opened:
        yield opened


async def ask(house: ConsoleHouse, csrf: str, issuer: str = "") -> Answered:
    return await house.post(ISSUERS, {"csrf": csrf, "do": "check", "issuer": issuer})


async def test_issuers_and_providers_are_shown(house: ConsoleHouse) -> None:
    await house.sign_in()
    page = (await house.ask(ISSUERS)).text
    assert "company" in page
    assert "7 s ago" in page
    assert "The configuration names no provider." in page
    assert "Asked now" not in page


async def test_what_an_issuer_answers_is_shown_and_who_asked_is_written(
    house: ConsoleHouse,
) -> None:
    answer = await ask(house, await house.sign_in())
    assert answer.status == 200
    for told in ("to be kept for 300 s", "EC P-256, for ES256", "in step with ours", "refused"):
        assert told in answer.text
    [event] = [one for one in house.events.all if one.kind is AuditKind.ISSUERS_CHECKED]
    assert event.actor == "local-token"
    assert event.detail == {
        "change": "checked",
        "issuers": "company,gone",
        "refused": "1",
        "by": "console",
    }


async def test_one_issuer_is_asked_by_its_name_and_nobody_by_an_address(
    house: ConsoleHouse, provider: Provider
) -> None:
    csrf = await house.sign_in()
    assert "127.0.0.1:1/" not in (await ask(house, csrf, "company")).text
    provider.there = {}
    assert (await ask(house, csrf, f"{provider.url}/keys")).status == 404
    kinds = [one.kind for one in house.events.all]
    assert kinds.count(AuditKind.ISSUERS_CHECKED) == 1


async def test_a_form_without_proof_of_intent_asks_nobody(
    house: ConsoleHouse, named: Named
) -> None:
    await house.sign_in()
    assert (await ask(house, "made-up")).status == 403
    assert not named.begun.is_set()


async def test_one_check_runs_at_a_time(house: ConsoleHouse, named: Named) -> None:
    csrf = await house.sign_in()
    named.may_go_on.clear()
    first = asyncio.ensure_future(ask(house, csrf))
    await named.begun.wait()
    second = await ask(house, csrf)
    assert (second.status, "A check runs already" in second.text) == (409, True)
    named.may_go_on.set()
    assert (await first).status == 200
    assert (await ask(house, csrf)).status == 200


async def test_an_issuer_that_is_not_done_in_time_is_told_and_holds_up_no_other(
    provider: Provider,
) -> None:
    async def addresses(host: str, port: int) -> list[str]:
        if host == "slow.example.com":
            await asyncio.Event().wait()
        return ["127.0.0.1"]

    checks = IssuerChecks(addresses, SystemClock())
    issuers = [
        Issuer("company", provider.url, ("api",), algorithms=("ES256",)),
        Issuer("slow", "https://slow.example.com", ("api",)),
    ]
    verifiers = [IssuerVerifier(one, max_life_s=3_600, now=time.time) for one in issuers]
    good, slow = await checks.check(verifiers, within_s=2.0)
    assert (good.is_away, slow.is_away) == (False, True)
    assert slow.rows == [CheckedRow("slow", "time", False, "it was not done within 2 s")]

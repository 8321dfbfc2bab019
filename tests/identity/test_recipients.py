"""Whom a letter may be sent to: one address, and no header that says otherwise."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from gateway.identity.mail.messages import message_of, single_email
from gateway.identity.mail.templates import InvalidMail, MailTemplate, MailTemplates
from gateway.stores.protocols import Database, Transaction
from tests.databases import Hands, fresh_database
from tests.identity.letters import TIME, outbox
from tests.mailbox import mail_server


@pytest.fixture
def clock() -> Hands:
    return Hands()


@pytest.fixture
async def database(tmp_path: Path, clock: Hands) -> AsyncIterator[Database]:
    async with fresh_database(tmp_path, clock) as opened:
        yield opened


@pytest.fixture
def mailbox(free_port: Callable[[], int]) -> object:
    with mail_server(free_port()) as box:
        yield box


@pytest.mark.parametrize(
    "recipient",
    [
        "",
        "ann",
        "ann@x.example\r\nBcc: eve@x.example",
        "ann@x.example\nRCPT TO:<eve@x.example>",
        "ann@x.example, eve@x.example",
        "ann@x.example;eve@x.example",
        "a@evil@x.example",
        "<ann@x.example>",
        "Ann <ann@x.example>",
        "ann@x.example\x00",
    ],
)
async def test_anything_but_one_address_is_refused_before_it_is_kept(
    database: Database, recipient: str
) -> None:
    post = outbox(database, None)

    async def put(tx: Transaction) -> None:
        await post.enqueue(tx, MailTemplate.PASSWORD_CHANGED, recipient, TIME)

    async with database.transaction() as tx:
        with pytest.raises(InvalidMail):
            await put(tx)


def test_a_host_in_another_script_is_written_in_ascii() -> None:
    assert single_email("ann@bücher.example") == "ann@xn--bcher-kva.example"


def test_a_message_never_has_two_recipients() -> None:
    letters = MailTemplates.load([], site="x.example", public_url="https://x.example")
    letter = letters.render(MailTemplate.PASSWORD_CHANGED, TIME)
    message = message_of(letter, "id", "no-reply@x.example", "ann@x.example")
    assert [a.addr_spec for a in message["To"].addresses] == ["ann@x.example"]
    with pytest.raises(InvalidMail):
        message_of(letter, "id", "no-reply@x.example", "ann@x.example, eve@x.example")

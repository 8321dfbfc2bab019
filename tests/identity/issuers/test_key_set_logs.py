"""What is logged of an issuer's keys: each change once, with whose they are."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog

from gateway.identity.issuers.kept_keys import KeptKeys, KeptSet
from gateway.identity.issuers.key_sets import KeySet, KeySetDependencies
from tests.identity.issuers.provider import (
    KEYS_URL,
    Documents,
    document,
    issuer,
    published,
    signer,
)
from tests.identity.keyring import HandClock

Lines = list[Any]


@pytest.fixture
def lines() -> Iterator[Lines]:
    with structlog.testing.capture_logs() as captured:
        yield captured


def line(event: str, level: str = "info", **fields: Any) -> dict[str, Any]:
    return {"event": event, "log_level": level, "issuer": "company", **fields}


def key_set(documents: Documents, clock: HandClock, kept: KeptKeys | None = None) -> KeySet:
    return KeySet(issuer(), KeySetDependencies(documents, kept, clock))


async def test_that_keys_cannot_be_fetched_and_are_back_is_logged_once(
    lines: Lines, clock: HandClock
) -> None:
    documents = published(signer())
    there = dict(documents.there)
    keys = key_set(documents, clock)
    await keys.refresh()
    lines.clear()
    documents.there.clear()
    for _ in range(3):
        await keys.refresh()
    why = f"{KEYS_URL} answered 404"
    documents.there |= there
    for _ in range(3):
        await keys.refresh()
    assert lines == [
        line("issuer-keys-not-fetched", "warning", why=why),
        line("issuer-keys-back"),
    ]


async def test_which_keys_have_come_and_gone_is_logged(lines: Lines, clock: HandClock) -> None:
    a, b, c = (signer(kid=kid) for kid in "abc")
    documents = Documents()
    keys = key_set(documents, clock)
    for listed in ((a, b), (a, b), (a, b, c), (b, c), (b, signer(kid="c"))):
        documents.there = published(*listed).there
        await keys.refresh()
    assert lines == [
        line("issuer-keys-changed", added=added, removed=removed)
        for added, removed in ((["a", "b"], []), (["c"], []), ([], ["a"]), ([], ["c"]))
    ]


async def test_that_kept_keys_are_refused_is_logged(
    lines: Lines, clock: HandClock, tmp_path: Path
) -> None:
    kept, one = KeptKeys(tmp_path), signer()
    kept.write(issuer(), KeptSet(document(one, one), clock.now()))
    key_set(Documents(), clock, kept)
    assert lines == [
        line("kept-issuer-keys-refused", "warning", why="the key set names two keys k-1")
    ]


async def test_that_keys_are_not_kept_is_logged(
    lines: Lines, clock: HandClock, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    await key_set(published(signer()), clock, KeptKeys(tmp_path / "file")).refresh()
    assert lines[1:] == [line("issuer-keys-not-kept", "warning", why="File exists")]

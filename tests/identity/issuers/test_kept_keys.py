"""The keys of an issuer as a file keeps them for the next start."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from gateway.identity.issuers.jwk_set import SET_BYTES_MAX
from gateway.identity.issuers.kept_keys import KeptKeys, KeptSet
from tests.identity.issuers.provider import (
    Documents,
    MakeKeySet,
    document,
    issuer,
    issuer_tokens,
    published,
    signer,
)
from tests.identity.keyring import START, HandClock

HOUR_S = 3600


@pytest.fixture
def kept(tmp_path: Path) -> KeptKeys:
    return KeptKeys(tmp_path / "issuers")


async def test_a_restart_has_the_last_good_set(
    made: MakeKeySet, kept: KeptKeys, clock: HandClock, tmp_path: Path
) -> None:
    await made(published(signer()), kept).refresh()
    clock.at, clock.steadily = clock.at + 600, 5.0  # the machine started anew
    keys = made(Documents(), kept)
    assert (list(keys.keys), keys.is_believed(), keys.age_s) == (["k-1"], True, 600)
    assert keys.due_at == -math.inf  # and asks at once
    file = tmp_path / "issuers" / "company.json"
    assert (file.stat().st_mode & 0o777, file.parent.stat().st_mode & 0o777) == (0o600, 0o700)


async def test_a_kept_set_ages_on(made: MakeKeySet, kept: KeptKeys, clock: HandClock) -> None:
    await made(published(signer()), kept).refresh()
    clock.advance(HOUR_S - 1)
    keys = made(Documents(), kept, max_stale_s=HOUR_S)
    assert keys.is_believed()
    clock.advance(1)
    assert not keys.is_believed()
    assert not made(Documents(), kept, max_stale_s=HOUR_S).keys


@pytest.mark.parametrize(
    "changed",
    [
        {"issuer": "https://id.example.com/realms/other"},
        {"jwks_uri": "https://id.example.com/other"},
        {"discovery": "https://id.example.com/other"},
    ],
)
async def test_a_set_of_another_place_is_not_used(
    made: MakeKeySet, kept: KeptKeys, changed: dict[str, str]
) -> None:
    await made(published(signer()), kept).refresh()
    assert not made(Documents(), kept, **changed).keys


async def test_a_set_from_the_future_is_not_used(
    made: MakeKeySet, kept: KeptKeys, clock: HandClock
) -> None:
    await made(published(signer()), kept).refresh()
    clock.at -= 300
    keys = made(Documents(), kept)
    assert (keys.is_believed(), keys.age_s) == (True, 0.0)
    clock.at -= 1
    assert not made(Documents(), kept).keys


@pytest.mark.parametrize(
    "spoilt",
    [
        b"",
        b"\xff",
        b"[]",
        b"{}",
        b'{"issuer": "x"}',
        b" " * 600_000,
    ],
)
async def test_a_spoilt_file_is_as_none(
    made: MakeKeySet, kept: KeptKeys, tmp_path: Path, spoilt: bytes
) -> None:
    await made(published(signer()), kept).refresh()
    (tmp_path / "issuers" / "company.json").write_bytes(spoilt)
    assert not made(Documents(), kept).keys


@pytest.mark.parametrize("spoilt", ["7", "null", "[]", "true", '"A+=="'])
async def test_a_file_whose_keys_are_no_text_of_bytes_is_as_none(
    made: MakeKeySet, kept: KeptKeys, tmp_path: Path, spoilt: str
) -> None:
    await made(published(signer()), kept).refresh()
    file = tmp_path / "issuers" / "company.json"
    text = file.read_text()
    file.write_text(text[: text.index('"keys": ') + 8] + spoilt + "}")
    assert not made(Documents(), kept).keys


async def test_a_file_may_be_twice_as_long_as_a_set_and_no_longer(
    made: MakeKeySet, kept: KeptKeys, tmp_path: Path
) -> None:
    await made(published(signer()), kept).refresh()
    file = tmp_path / "issuers" / "company.json"
    file.write_bytes(file.read_bytes().ljust(2 * SET_BYTES_MAX))
    assert made(Documents(), kept).keys
    file.write_bytes(file.read_bytes() + b" ")
    assert not made(Documents(), kept).keys


def test_what_is_kept_and_not_to_be_believed_holds_no_keys() -> None:
    assert list(KeptSet(document(signer()), START).keys()) == ["k-1"]
    assert KeptSet(b"{}", START).keys() == {}


async def test_a_kept_set_is_judged_as_strictly_as_a_fetched_one(
    made: MakeKeySet, kept: KeptKeys, tmp_path: Path
) -> None:
    await made(published(signer()), kept).refresh()
    file = tmp_path / "issuers" / "company.json"
    text = file.read_text()
    start = text.index('"keys": "') + 9
    file.write_text(text[:start] + "e30" + '"}')  # {}
    assert not made(Documents(), kept).keys


async def test_a_folder_that_cannot_be_written_harms_no_call(
    made: MakeKeySet, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    keys = made(published(signer()), KeptKeys(tmp_path / "file"))
    await keys.refresh()
    assert keys.is_believed()


@pytest.mark.parametrize("at", ["1" + "0" * 400, "-1" + "0" * 400, "1e300", '"now"', "null"])
async def test_a_kept_file_that_somebody_edited_keeps_no_worker_from_starting(
    tmp_path: Path, clock: HandClock, at: str
) -> None:
    kept = KeptKeys(tmp_path)
    kept.write(issuer(), KeptSet(document(signer()), START))
    [file] = tmp_path.iterdir()
    text = file.read_text().replace(f'"fetched_at": {START}', f'"fetched_at": {at}')
    assert at in text
    clock.advance(0.5)  # as that of a machine
    file.write_text(text)
    tokens = issuer_tokens(Documents(), clock, kept=kept)
    assert not tokens.key_sets["company"].keys

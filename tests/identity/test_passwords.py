"""Passwords: what is hashed, what is refused, and that the clock tells nothing."""

from __future__ import annotations

import asyncio
import cProfile
import threading
import time
from collections.abc import AsyncIterator, Callable
from functools import partial

import bcrypt
import pytest

from gateway.identity.accounts.passwords import (
    MAX_LENGTH,
    Checked,
    PasswordOptions,
    Passwords,
    WeakPassword,
    affordable_rounds,
    calibrated_rounds,
    import_hash,
)
from gateway.model import Reason
from gateway.stores.protocols import Database
from tests.cpu_cost import cost_ratio

GOOD = "correct horse 7 battery"


@pytest.fixture
async def passwords() -> AsyncIterator[Passwords]:
    opened = Passwords(PasswordOptions(threads=2), rounds=8)
    yield opened
    opened.close()


async def hashed(passwords: Passwords, password: str) -> str:
    password_hash = await passwords.hash(password)
    assert isinstance(password_hash, str)
    assert not isinstance(password_hash, Reason)
    return password_hash


async def matches(passwords: Passwords, password: str, stored: str | None) -> bool:
    checked = await passwords.check(password, stored)
    assert isinstance(checked, Checked)
    return checked.good


async def test_the_right_password_is_good_and_another_is_not(passwords: Passwords) -> None:
    stored = await hashed(passwords, GOOD)
    assert await matches(passwords, GOOD, stored)
    assert not await matches(passwords, GOOD + "!", stored)


async def test_passwords_that_differ_only_after_72_bytes_are_different(
    passwords: Passwords,
) -> None:
    # bcrypt reads 72 bytes: a key of id, name and password cut there signed strangers in.
    start = "long quiet rivers carry seven small wooden boats past the old mill town "
    assert len(start) == 72
    stored = await hashed(passwords, start + "A")
    assert await matches(passwords, start + "A", stored)
    assert not await matches(passwords, start + "B", stored)
    assert not await matches(passwords, start, stored)


async def test_a_nul_does_not_end_a_password(passwords: Passwords) -> None:
    stored = await hashed(passwords, "quiet\0rivers carry")
    assert not await matches(passwords, "quiet\0other words!", stored)


async def test_one_password_has_one_spelling(passwords: Passwords) -> None:
    composed, decomposed = (
        "caf\u00e9 ma\u00f1ana 77 rivi\u00e8re",
        "cafe\u0301 man\u0303ana 77 rivie\u0300re",
    )
    assert await matches(passwords, decomposed, await hashed(passwords, composed))


async def test_a_stored_hash_shows_neither_the_password_nor_the_pepper() -> None:
    peppered = Passwords(PasswordOptions(pepper=b"p" * 32), rounds=8)
    stored = await hashed(peppered, GOOD)
    assert stored.startswith("v1p$2b$08$")
    assert GOOD not in stored
    peppered.close()


async def test_another_pepper_makes_every_password_wrong() -> None:
    one = Passwords(PasswordOptions(pepper=b"1" * 32), rounds=8)
    other = Passwords(PasswordOptions(pepper=b"2" * 32), rounds=8)
    none = Passwords(PasswordOptions(), rounds=8)
    stored = await hashed(one, GOOD)
    assert await matches(one, GOOD, stored)
    assert not await matches(other, GOOD, stored)
    assert not await matches(none, GOOD, stored)
    for closing in (one, other, none):
        closing.close()


async def test_a_pepper_that_is_set_later_leaves_old_passwords_good_and_renews_them(
    passwords: Passwords,
) -> None:
    stored = await hashed(passwords, GOOD)
    peppered = Passwords(PasswordOptions(pepper=b"p" * 32), rounds=8)
    assert await matches(peppered, GOOD, stored)
    assert peppered.may_renew(stored, "x")
    assert not passwords.may_renew(stored, "x")
    peppered.close()


async def test_a_stranger_is_checked_at_the_cost_of_an_account() -> None:
    """By the clock, nobody learns which addresses have an account."""
    opened = Passwords(PasswordOptions(), rounds=10)
    try:
        stored = await hashed(opened, GOOD)
        took: dict[str | None, list[float]] = {None: [], stored: []}
        for asked in [*took] * 5:
            began_at = time.process_time()
            await opened.check("another " + GOOD, asked)
            took[asked].append(time.process_time() - began_at)
        assert 0.5 < min(took[None]) / min(took[stored]) < 2
    finally:
        opened.close()


def test_none_is_hashed_before_somebody_asks() -> None:
    """A start would wait for it: it costs as much as a thousand of the cheapest."""
    ratio = cost_ratio(
        lambda: Passwords(PasswordOptions(), rounds=14).close(),
        lambda: bcrypt.hashpw(b"whatever", bcrypt.gensalt(4)),
    )
    assert ratio < 20


async def test_a_hash_of_another_cost_is_not_current(passwords: Passwords) -> None:
    stored = await hashed(passwords, GOOD)
    dearer = Passwords(PasswordOptions(), rounds=11)
    assert dearer.may_renew(stored, "x")
    dearer.close()


@pytest.mark.parametrize(
    "stored", [None, "", "plain", "v1$2b$10$short", "v2$2b$10$" + "a" * 53, "$2b$10$" + "a" * 53]
)
async def test_without_a_readable_hash_nothing_is_good(
    passwords: Passwords, stored: str | None
) -> None:
    assert not await matches(passwords, GOOD, stored)
    assert not await matches(passwords, "", stored)


async def cost_the_same(passwords: Passwords, stored: str) -> bool:
    """A wrong password of an account with this hash, and one of nobody's.  What a machine that is
    busy does beside it may slow either; the fastest of each are compared, of as many as it takes."""
    known, unknown = list[float](), list[float]()
    for turn in range(100):
        for asked, took in ((stored, known), (None, unknown)):
            began = time.process_time()
            await passwords.check("a wrong guess 17", asked)
            took.append(time.process_time() - began)
        if turn >= 5 and abs(min(known) - min(unknown)) < 0.2 * min(unknown):
            return True
    return False


async def test_an_unknown_account_costs_what_a_known_one_costs(passwords: Passwords) -> None:
    # CVE-2026-32595: unknown users answered faster.
    assert await cost_the_same(passwords, await hashed(passwords, GOOD))


async def test_a_hash_of_a_lower_cost_costs_what_an_unknown_account_costs(
    passwords: Passwords,
) -> None:
    """Imported, or of before the cost was raised: until its owner signs in it stays as it is."""
    cheap = import_hash(bcrypt.hashpw(b"whatever", bcrypt.gensalt(4)).decode())
    assert cheap is not None
    assert await matches(passwords, "whatever", cheap)
    assert await cost_the_same(passwords, cheap)


@pytest.mark.parametrize(
    ("password", "hint"),
    [
        ("short1!", "at least 8 characters"),
        ("\ufb01\ufb01\ufb01", "at least 8 characters"),
        ("x" * (MAX_LENGTH + 1), "at most 256 characters"),
        ("password1", "most common"),
        ("qwertyuiop", "most common"),
        ("alice1234", "your address"),
        ("authgate12", "your address"),
        ("aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "too easy"),
        ("12/12/2012", "too easy"),
    ],
)
def test_a_weak_password_is_refused_with_a_hint(password: str, hint: str) -> None:
    refusal = Passwords(PasswordOptions(), rounds=8).weakness(password, ["alice@example.com"])
    assert refusal is not None
    assert hint in refusal.hint
    assert password not in refusal.hint


@pytest.mark.parametrize(
    "password",
    [
        GOOD,
        "Tr0ub4dor&3 und mehr",
        "x" * 20 + "correct horse battery staple 9",
        "长夜漫漫路迢迢风雨兼程",
        "kV9#mQ2$zL7!",
        "wjx8-plq3-vbn5 " * 17,
    ],
)
def test_a_good_password_of_any_alphabet_and_length_is_taken(password: str) -> None:
    assert Passwords(PasswordOptions(), rounds=8).weakness(password, ["alice@example.com"]) is None


def test_the_minimum_length_is_a_setting() -> None:
    strict = Passwords(PasswordOptions(min_length=30), rounds=8)
    assert strict.weakness(GOOD) == WeakPassword("It must hold at least 30 characters.")


def test_no_password_holds_a_thread_for_long() -> None:
    # 72 characters like these took the strength estimate a whole second.
    hostile = "4@8({[<369!1|0$5+7%2" * 12
    passwords = Passwords(PasswordOptions(), rounds=8)

    def calls(password: str) -> int:
        profile = cProfile.Profile()
        profile.runcall(passwords.weakness, password)
        return sum(entry.callcount for entry in profile.getstats())

    assert calls(hostile) < 2 * calls(hostile[:24])


async def test_hashing_leaves_the_loop_free(passwords: Passwords) -> None:
    work = asyncio.gather(*(passwords.check(GOOD, None) for _ in range(6)))
    turns = 0
    while not work.done():
        await asyncio.sleep(0)
        turns += 1
    # Hashes on the loop would leave it a turn or two each.
    assert turns > 200


async def test_past_the_queue_hashing_is_busy_and_recovers() -> None:
    small = Passwords(PasswordOptions(threads=1, queue=2), rounds=8)
    answers = await asyncio.gather(*(small.check(GOOD, None) for _ in range(10)))
    assert answers.count(Reason.HASHING_BUSY) == 7
    assert answers.count(Checked(good=False)) == 3
    assert await small.check(GOOD, None) == Checked(good=False)
    small.close()


async def test_a_caller_who_leaves_gives_the_queue_its_place_back() -> None:
    small = Passwords(PasswordOptions(threads=1, queue=4), rounds=8)
    leaving = [asyncio.create_task(small.check(GOOD, None)) for _ in range(5)]
    await asyncio.sleep(0)
    assert await small.check(GOOD, None) is Reason.HASHING_BUSY
    for task in leaving:
        task.cancel()
    await asyncio.gather(*leaving, return_exceptions=True)
    # All but the one that a thread has begun are gone at once.
    answers = await asyncio.gather(*(small.check(GOOD, None) for _ in range(4)))
    assert answers == [Checked(good=False)] * 4
    small.close()


async def test_the_cost_is_measured_once_and_kept(sqlite_database: Database) -> None:
    measured: list[int] = []

    def measure(rounds: int) -> float:
        measured.append(rounds)
        return {10: 0.02, 11: 0.04, 12: 0.08}[rounds]

    find = partial(affordable_rounds, measure)
    assert await calibrated_rounds(sqlite_database, None, find) == 12
    assert measured == [10, 11, 12, 12]
    assert await calibrated_rounds(sqlite_database, None, find) == 12
    assert len(measured) == 4


async def test_a_moment_in_which_the_machine_is_busy_does_not_settle_the_cost(
    sqlite_database: Database,
) -> None:
    took = iter((0.3, 0.03, 0.3, 0.06, 0.06))
    find = partial(affordable_rounds, lambda _rounds: next(took))
    assert await calibrated_rounds(sqlite_database, None, find) == 11


async def test_the_cost_is_never_under_10_however_slow_the_machine(
    sqlite_database: Database,
) -> None:
    find = partial(affordable_rounds, lambda _rounds: 3.0)
    assert await calibrated_rounds(sqlite_database, None, find) == 10


async def test_a_configured_cost_is_taken_and_not_kept(sqlite_database: Database) -> None:
    assert await calibrated_rounds(sqlite_database, 14) == 14
    find = partial(affordable_rounds, lambda _rounds: 3.0)
    assert await calibrated_rounds(sqlite_database, None, find) == 10


async def test_two_first_starts_agree_on_one_cost(database: Database) -> None:
    both_measure = threading.Barrier(2, timeout=10)

    def start(seconds: float) -> Callable[[int], float]:
        def measure(_rounds: int) -> float:
            if seconds not in measured:
                measured.add(seconds)
                both_measure.wait()
            return seconds

        return measure

    measured: set[float] = set()
    fast = calibrated_rounds(database, None, partial(affordable_rounds, start(0.001)))
    slow = calibrated_rounds(database, None, partial(affordable_rounds, start(1.0)))
    one, other = await asyncio.gather(fast, slow)
    assert one == other

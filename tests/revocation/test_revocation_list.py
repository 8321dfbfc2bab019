"""What is revoked, in memory."""

from __future__ import annotations

import pytest

from gateway.model import Change, ChangeKind, Principal, Reason
from gateway.revocation.revocation_list import RevocationList


def principal(issued_at: int = 100) -> Principal:
    return Principal("u1", (), "s1", "t1", "c1", "k1", issued_at, 1000)


def change(
    kind: ChangeKind, target: str, not_before: int = 100, cause: Reason = Reason.TOKEN_REVOKED
) -> Change:
    return Change("id", kind, target, not_before, cause, 0)


@pytest.mark.parametrize(
    ("kind", "target"),
    [
        (ChangeKind.SESSION, "s1"),
        (ChangeKind.TOKEN, "t1"),
        (ChangeKind.SUBJECT, "u1"),
        (ChangeKind.CLIENT, "c1"),
        (ChangeKind.KEY, "k1"),
    ],
)
def test_each_kind_refuses_what_it_names_and_nothing_else(kind: ChangeKind, target: str) -> None:
    revoked = RevocationList()
    revoked.apply(change(kind, "another"), 1e9)
    assert revoked.refusal(principal()) is None
    revoked.apply(change(kind, target), 1e9)
    assert revoked.refusal(principal()) is Reason.TOKEN_REVOKED


@pytest.mark.parametrize("kind", [ChangeKind.SUBJECT, ChangeKind.CLIENT])
def test_a_token_of_the_very_second_is_refused_and_one_of_the_next_is_not(
    kind: ChangeKind,
) -> None:
    revoked = RevocationList()
    revoked.apply(change(kind, "u1" if kind is ChangeKind.SUBJECT else "c1", 100), 1e9)
    assert revoked.refusal(principal(100)) is Reason.TOKEN_REVOKED
    assert revoked.refusal(principal(101)) is None


def test_a_change_of_roles_outdates_and_a_revocation_wins_over_it() -> None:
    revoked = RevocationList()
    revoked.apply(change(ChangeKind.SUBJECT, "u1", 100, Reason.TOKEN_OUTDATED), 1e9)
    assert revoked.refusal(principal()) is Reason.TOKEN_OUTDATED
    revoked.apply(change(ChangeKind.SUBJECT, "u1", 100), 1e9)
    assert revoked.refusal(principal()) is Reason.TOKEN_REVOKED


def test_the_strictest_not_before_wins_in_any_order() -> None:
    revoked = RevocationList()
    for not_before in (50, 120, 80):
        revoked.apply(change(ChangeKind.SUBJECT, "u1", not_before), 1e9)
    assert revoked.refusal(principal(120)) is Reason.TOKEN_REVOKED
    assert revoked.refusal(principal(121)) is None


def test_a_restored_backup_refuses_every_token_given_before() -> None:
    revoked = RevocationList()
    revoked.apply(change(ChangeKind.EVERYONE, "*", 100), 1e9)
    assert revoked.refusal(principal(100)) is Reason.TOKEN_REVOKED
    assert revoked.refusal(principal(101)) is None


def test_new_keys_refuse_nobody() -> None:
    revoked = RevocationList()
    revoked.apply(change(ChangeKind.KEYS, "k1"), 1e9)
    assert revoked.refusal(principal()) is None


def test_an_entry_ends_not_before_its_time_and_then_leaves_nothing() -> None:
    revoked = RevocationList()
    for kind, target in ((ChangeKind.SESSION, "s1"), (ChangeKind.SUBJECT, "u1")):
        revoked.apply(change(kind, target), 1000.0)
    revoked.expire(999.9)
    assert revoked.refusal(principal()) is Reason.TOKEN_REVOKED
    revoked.expire(1000.0 + 61)
    assert revoked.refusal(principal()) is None
    assert (len(revoked), revoked._minutes) == (0, {})


def test_a_stricter_date_outlives_the_end_of_an_earlier_one() -> None:
    revoked = RevocationList()
    revoked.apply(change(ChangeKind.SUBJECT, "u1", 50), 1000.0)
    revoked.apply(change(ChangeKind.SUBJECT, "u1", 100), 5000.0)
    revoked.expire(1100.0)
    assert revoked.refusal(principal()) is Reason.TOKEN_REVOKED


def test_repeats_cost_no_memory() -> None:
    revoked = RevocationList()
    for _ in range(100):
        revoked.apply(change(ChangeKind.SESSION, "s1"), 1000.0)
        revoked.apply(change(ChangeKind.SUBJECT, "u1"), 1000.0)
    (minute,) = revoked._minutes.values()
    assert [len(keys) for _, keys in minute.named] == [1]
    assert [len(keys) for _, keys, _ in minute.dated] == [1]


def test_a_token_without_session_or_client_is_not_taken_for_another() -> None:
    revoked = RevocationList()
    revoked.apply(change(ChangeKind.SESSION, "None"), 1e9)
    revoked.apply(change(ChangeKind.CLIENT, "None"), 1e9)
    assert revoked.refusal(Principal("u1", (), None, "t1", None, "k1", 1, 9)) is None

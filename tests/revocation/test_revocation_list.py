"""What is revoked, in memory."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gateway.model import OWN_ISSUER, Change, ChangeKind, Principal, Reason, without_session
from gateway.revocation.revocation_list import RevocationList


def principal(issued_at: int = 100) -> Principal:
    return Principal("u1", (), "s1", "t1", "c1", kid="k1", issued_at=issued_at, expires_at=1000)


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
    assert (
        revoked.refusal(Principal("u1", (), None, "t1", None, kid="k1", issued_at=1, expires_at=9))
        is None
    )


def test_where_a_session_of_another_issuer_ended_its_tokens_without_one_end_too() -> None:
    def holder(issuer: str, session_id: str | None, issued_at: int = 100) -> Principal:
        named = replace(principal(issued_at), subject="company:ann", issuer=issuer)
        return replace(named, session_id=session_id, client_id=None)

    revoked = RevocationList()
    revoked.apply(change(ChangeKind.SUBJECT, without_session("company:ann")), 1e9)
    assert revoked.refusal(holder("company", None)) is Reason.TOKEN_REVOKED
    assert revoked.refusal(holder("company", None, 101)) is None
    assert revoked.refusal(holder("company", "company:s1")) is None
    assert revoked.refusal(holder(OWN_ISSUER, None)) is None
    # Nor where something of another time is kept of the same caller.
    revoked.apply(replace(change(ChangeKind.SUBJECT, "company:ann"), not_before=50), 1e9)
    assert revoked.refusal(holder("company", "company:s1")) is None
    assert revoked.refusal(holder(OWN_ISSUER, None)) is None
    assert revoked.refusal(holder("company", None)) is Reason.TOKEN_REVOKED
    untouched = RevocationList()
    assert untouched.refusal(holder("company", None)) is None


@pytest.mark.parametrize(
    ("kind", "cause"),
    [
        (ChangeKind.SESSION, Reason.TOKEN_REVOKED),
        (ChangeKind.TOKEN, Reason.TOKEN_REVOKED),
        (ChangeKind.KEY, Reason.TOKEN_REVOKED),
        (ChangeKind.SUBJECT, Reason.TOKEN_REVOKED),
        (ChangeKind.SUBJECT, Reason.TOKEN_OUTDATED),
        (ChangeKind.CLIENT, Reason.TOKEN_REVOKED),
    ],
)
def test_each_entry_counts_once(kind: ChangeKind, cause: Reason) -> None:
    revoked = RevocationList()
    revoked.apply(change(ChangeKind.SESSION, "other"), 1e9)
    revoked.apply(change(ChangeKind.SUBJECT, "other"), 1e9)
    revoked.apply(change(kind, "x", cause=cause), 1e9)
    assert len(revoked) == 3


def test_of_a_date_of_roles_the_very_second_counts_too() -> None:
    revoked = RevocationList()
    revoked.apply(change(ChangeKind.SUBJECT, "u1", 100, Reason.TOKEN_OUTDATED), 1e9)
    assert revoked.refusal(principal(100)) is Reason.TOKEN_OUTDATED
    assert revoked.refusal(principal(101)) is None


def test_until_something_is_revoked_the_oldest_token_passes() -> None:
    assert RevocationList().refusal(principal(0)) is None
    assert RevocationList().refusal(principal(1)) is None


@pytest.mark.parametrize("kind", [ChangeKind.SUBJECT, ChangeKind.CLIENT])
def test_a_date_of_the_first_second_is_one(kind: ChangeKind) -> None:
    revoked = RevocationList()
    revoked.apply(change(kind, "u1" if kind is ChangeKind.SUBJECT else "c1", 0), 1e9)
    assert revoked.refusal(principal(0)) is Reason.TOKEN_REVOKED


def test_of_two_restored_backups_the_later_one_counts() -> None:
    revoked = RevocationList()
    for not_before in (100, 50):
        revoked.apply(change(ChangeKind.EVERYONE, "*", not_before), 1e9)
    assert revoked.refusal(principal(100)) is Reason.TOKEN_REVOKED
    assert revoked.refusal(principal(101)) is None


def test_what_was_named_first_says_why() -> None:
    revoked = RevocationList()
    for cause in (Reason.TOKEN_OUTDATED, Reason.TOKEN_REVOKED):
        revoked.apply(change(ChangeKind.SESSION, "s1", cause=cause), 1e9)
    assert revoked.refusal(principal()) is Reason.TOKEN_OUTDATED


@pytest.mark.parametrize(
    ("kind", "target"), [(ChangeKind.SESSION, "s1"), (ChangeKind.CLIENT, "c1")]
)
def test_an_entry_is_kept_for_the_minute_in_which_it_ends(kind: ChangeKind, target: str) -> None:
    revoked = RevocationList()
    revoked.apply(change(kind, target), 119.0)
    revoked.expire(119.9)
    assert revoked.refusal(principal()) is Reason.TOKEN_REVOKED
    revoked.expire(120.0)
    assert revoked.refusal(principal()) is None


def test_what_ends_in_one_minute_ends_together_and_nothing_else_does() -> None:
    revoked = RevocationList()
    kinds = (
        ChangeKind.SESSION,
        ChangeKind.TOKEN,
        ChangeKind.KEY,
        ChangeKind.SUBJECT,
        ChangeKind.CLIENT,
    )
    for kind in kinds:
        for name, ends_at in (("a", 100.0), ("b", 110.0), ("c", 200.0)):
            revoked.apply(change(kind, name), ends_at)
    assert sorted(revoked._minutes) == [2, 4]
    assert len(revoked) == 15
    revoked.expire(120.0)
    assert (len(revoked), sorted(revoked._minutes)) == (5, [4])
    assert revoked.refuses_key("c")
    assert not revoked.refuses_key("a")
    revoked.expire(1000.0)
    assert (len(revoked), revoked._minutes) == (0, {})


def test_an_entry_that_has_gone_already_holds_up_no_other() -> None:
    revoked = RevocationList()
    revoked.apply(change(ChangeKind.SESSION, "s1"), 100.0)
    revoked.apply(change(ChangeKind.SESSION, "s2"), 100.0)
    del revoked._sessions["s1"]
    revoked.expire(120.0)
    assert len(revoked) == 0

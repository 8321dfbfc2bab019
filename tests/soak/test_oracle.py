"""The oracle of `make soak` fails whatever is wrong: it is fed wrong answers here."""

from __future__ import annotations

import math
from typing import Any

import pytest

from bench.soak.answers import CUT, LATE, Answer
from bench.soak.consequences import Happened, Kind, unexpected
from bench.soak.oracle import (
    FORGED,
    Expected,
    Identity,
    Oracle,
    Subject,
    Unavailable,
    Verdict,
    allowed,
    judge,
    refused,
)
from bench.soak.people import Person, Session, State, may
from bench.soak.stalls import Stalls

ADA = Identity("u-1", "ada@example.com", frozenset(("user", "staff")), "s-1")
TOLD = [
    ["Host", "gate.example"],
    ["X-Auth-User-Id", "u-1"],
    ["X-Auth-Email", "ada@example.com"],
    ["X-Auth-Roles", "staff,user"],
    ["X-Auth-Session-Id", "s-1"],
]


def echoed(*more: list[str], without: str = "", path: str = "/api/x") -> Answer:
    headers = [field for field in TOLD if field[0] != without] + list(more)
    return Answer(200, body={"echo": "backend-0", "path": path, "headers": headers})


def verdict(answer: Answer, *expected: Expected) -> Verdict:
    return judge(answer, expected, "/api/x").verdict


def test_the_callers_own_answer_is_right() -> None:
    assert verdict(echoed(), allowed(ADA)) is Verdict.RIGHT


@pytest.mark.parametrize(
    "answer",
    [
        echoed(without="X-Auth-User-Id"),
        echoed(["X-Auth-User-Id", "u-2"], without="X-Auth-User-Id"),
        echoed(["X-Auth-User-Id", "u-1"]),
        echoed(["X-Auth-Roles", "staff,user,admin"], without="X-Auth-Roles"),
        echoed(["X-Auth-Roles", "user"], without="X-Auth-Roles"),
        echoed(["X-Auth-Session-Id", "s-2"], without="X-Auth-Session-Id"),
        echoed(without="X-Auth-Email"),
        echoed(["x_auth_tenant", FORGED]),
        echoed(["X-Real-IP", FORGED]),
        echoed(["Authorization", "Bearer x"]),
        echoed(["Cookie", "__Host-session=abc"]),
        echoed(path="/api/y"),
        Answer(200, body={"user_id": "u-1"}),
        Answer(204),
        Answer(401, "token_expired"),
        Answer(403, "no_rule"),
        Answer(404, "route_unknown"),
    ],
    ids=repr,
)
def test_an_allowed_call_that_is_refused_or_told_of_otherwise_is_wrong(answer: Answer) -> None:
    assert verdict(answer, allowed(ADA)) is Verdict.WRONG


def test_an_identity_on_a_public_call_is_wrong() -> None:
    assert verdict(echoed(), allowed()) is Verdict.WRONG


@pytest.mark.parametrize(
    "answer", [echoed(), Answer(204), Answer(401, "token_expired"), Answer(403), Answer(302)]
)
def test_a_refusal_with_another_status_or_reason_is_wrong(answer: Answer) -> None:
    assert verdict(answer, refused(403, "no_rule")) is Verdict.WRONG


def test_500_is_a_defect_whatever_was_expected() -> None:
    assert verdict(Answer(500, "internal_error"), allowed(ADA), refused(500)) is Verdict.DEFECT


@pytest.mark.parametrize(
    ("answer", "cause"),
    [
        (Answer(0, CUT), "cut"),
        (Answer(0, LATE), "late"),
        (Answer(502), "balancer"),
        (Answer(503), "balancer"),
        (Answer(503, "replica_stale", {"retry-after": "1"}), "replica_stale"),
        (Answer(504, "upstream_timeout"), "upstream_timeout"),
    ],
)
@pytest.mark.parametrize("expected", [allowed(ADA), refused(401)])
def test_what_nobody_decided_is_unavailable_and_says_why(
    answer: Answer, cause: str, expected: Expected
) -> None:
    found = judge(answer, [expected])
    assert (found.verdict, found.why) == (Verdict.UNAVAILABLE, cause)


def test_a_refusal_that_does_not_say_when_to_come_back_is_wrong() -> None:
    assert verdict(Answer(503, "store_unavailable"), allowed()) is Verdict.WRONG
    assert verdict(Answer(429, "rate_limited"), refused(429)) is Verdict.WRONG


def session(**changed: Any) -> Session:
    person = Person("ada@example.com", ["x"], "u-1", frozenset(("user",)))
    words = {"access_token": "t", "roles": person.roles, **changed}
    return Session(person, "s-1", **words)


def test_a_session_whose_sign_out_was_confirmed_may_only_be_refused() -> None:
    one = session()
    one.end()
    expected = may(one, one.glimpse(), allowed(one.identity))
    assert verdict(echoed(["X-Auth-Roles", "user"], without="X-Auth-Roles"), *expected) is (
        Verdict.WRONG
    )
    assert verdict(Answer(401, "token_revoked"), *expected) is Verdict.RIGHT


def test_a_live_session_may_not_be_refused() -> None:
    one = session()
    expected = may(one, one.glimpse(), allowed(one.identity))
    assert verdict(Answer(401, "token_revoked"), *expected) is Verdict.WRONG


def test_while_a_sign_out_is_on_its_way_either_answer_is_right() -> None:
    one = session()
    sent = one.glimpse()
    one.state = State.ENDING
    expected = may(one, sent, allowed(one.identity))
    mine = echoed(["X-Auth-Roles", "user"], without="X-Auth-Roles")
    assert verdict(mine, *expected) is Verdict.RIGHT
    assert verdict(Answer(401, "token_revoked"), *expected) is Verdict.RIGHT


def test_a_token_with_roles_that_were_taken_may_not_pass() -> None:
    one = session(roles=frozenset(("user", "staff")))
    expected = may(one, one.glimpse(), allowed(one.identity))
    assert verdict(echoed(), *expected) is Verdict.WRONG
    assert verdict(Answer(401, "token_outdated"), *expected) is Verdict.RIGHT


def test_a_token_from_before_two_changes_may_not_pass_though_they_undid_each_other() -> None:
    one = session()
    one.person.changes = 4
    assert one.outdated
    expected = may(one, one.glimpse(), allowed(one.identity))
    mine = echoed(["X-Auth-Roles", "user"], without="X-Auth-Roles")
    assert verdict(mine, *expected) is Verdict.WRONG
    assert verdict(Answer(401, "token_outdated"), *expected) is Verdict.RIGHT


def test_a_token_that_came_while_roles_changed_is_renewed_and_either_answer_is_right() -> None:
    one = session(changes=None)
    one.person.changes = 4
    assert one.outdated
    expected = may(one, one.glimpse(), allowed(one.identity))
    mine = echoed(["X-Auth-Roles", "user"], without="X-Auth-Roles")
    assert verdict(mine, *expected) is Verdict.RIGHT
    assert verdict(Answer(401, "token_outdated"), *expected) is Verdict.RIGHT


def test_availability_counts_what_nobody_decided() -> None:
    oracle = Oracle()
    for status in (200, 200, 200, 503):
        answer = Answer(status, body=None, fields={"retry-after": "1"})
        oracle.judge(answer, [allowed()], subject=Subject.CREDENTIAL, kind="api")
    assert oracle.availability(Subject.CREDENTIAL) == 0.75


def happened(kind: Kind, began: float, healed: float) -> Happened:
    return Happened(kind, kind.value, began, healed)


def test_only_an_event_that_may_cost_it_explains_what_was_not_answered() -> None:
    call = Unavailable(10.0, 10.5, Subject.CREDENTIAL, "api", "replica_stale")
    assert unexpected([call], []) == [call]
    assert unexpected([call], [happened(Kind.GOOD_RELOAD, 9, 12)]) == [call]
    assert unexpected([call], [happened(Kind.REDIS_AWAY, 30, 40)]) == [call]
    assert unexpected([call], [happened(Kind.REDIS_AWAY, 9, 12)]) == []
    assert unexpected([call], [happened(Kind.REDIS_AWAY, 9, math.inf)]) == []
    cut = Unavailable(10.0, 10.5, Subject.CREDENTIAL, "api", "cut")
    assert unexpected([cut], [happened(Kind.REDIS_AWAY, 9, 12)]) == [cut]


def test_what_is_wrong_is_told_with_its_moment_and_its_kind() -> None:
    oracle = Oracle()
    oracle.judge(echoed(), [refused(403)], subject=Subject.REFUSAL, kind="another's order")
    assert oracle.total(Verdict.WRONG) == 1
    assert "another's order: 200" in oracle.told[0]


def test_a_page_of_the_gateway_is_no_answer_of_the_balancer() -> None:
    page = Answer(503, "", {"proxy-status": "authgate", "retry-after": "1"}, b"<html>")
    assert judge(page, [allowed()]).why == "page"


def test_only_what_came_while_the_machine_stood_still_is_explained_by_that() -> None:
    stalls = Stalls([(100.0, 101.0)])
    assert stalls.explains(Unavailable(100.5, 100.6, Subject.PROBE, "probe", "late"))
    assert not stalls.explains(Unavailable(98.0, 99.0, Subject.PROBE, "probe", "late"))
    assert not stalls.explains(Unavailable(120.0, 121.0, Subject.PROBE, "probe", "late"))

"""`gateway diff` where one value stands in the place of another: in lists, empty, in order."""

from __future__ import annotations

import pytest

from bench.differences import Tally, check
from gateway.access.snapshot import Snapshot
from gateway.review.affixes import MAX_MADE_UP, affixed, every_is_made, in_order, met_by
from gateway.review.diff import Report, compare
from tests.access.worlds import snapshot

DATA = """
version: 1
first: carl
methods: B
"n": 3
flag: true
g: [a, b]
o: {a: [b]}
lists: [[a], [b]]
names: [x-ops, ann]
"""
NOBODY = "user.id == 'nobody'"


def world(when: str, owner: str = "{query.team}", data: str = DATA, keys: str = "") -> Snapshot:
    return snapshot(
        f"""
        version: 1
        issuers: {{auth0: {{issuer: "https://auth0.example", audience: api}}}}
        upstreams: {{api: {{targets: ["http://127.0.0.1:9001"]}}}}
        routes:
          - id: a
            match: {{path: "/a/{{x}}"}}
            policy: p
            upstream: api
            resource: {{owner: "{owner}"}}
            {keys}
        """,
        f'policy: p\nrules:\n  - {{id: r, allow: ["*"], when: "{when}"}}\n',
        data__tables=data,
    )


def whole(old: Snapshot, new: Snapshot) -> Report:
    report = compare(old, new)
    assert report.inexact == []
    assert all(one.certain for one in report.changes)
    return report


IN_LISTS = [
    f"{value} in user.claims.teams"
    for value in (
        "resource.owner", "request.params.x", "request.query['page']", "request.headers['x-a']",
        "user.id", "user.email", "user.session_id", "user.claims.tier", "user.tenants.acme",
    )
]  # fmt: skip


@pytest.mark.parametrize("when", IN_LISTS)
def test_a_value_of_the_call_that_a_list_of_the_caller_holds_is_told(when: str) -> None:
    old = "resource.owner == user.id"
    assert whole(world(old), world(f"{old} || {when}")).widened
    assert whole(world(NOBODY), world(f"{when} && '7' in user.claims.teams")).widened


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("request.query['page'] != ''", "'page' in request.query"),
        ("request.headers['x-a'] != ''", "'x-a' in request.headers"),
        ("user.claims.tier != ''", "has(user.claims.tier)"),
        (NOBODY, "resource.owner == ''"),
        (NOBODY, "'' in user.claims.teams"),
    ],
)
def test_the_empty_text_is_a_value_as_any_other(old: str, new: str) -> None:
    assert whole(world(old), world(new)).widened


@pytest.mark.parametrize("name", ["user.id", "user.email"])
def test_what_nobody_has_is_no_gain(name: str) -> None:
    assert not whole(world(f"{name} != ''"), world(f"{name} != null")).widened


OF_AUTH0 = "issuers: [own, auth0]"


@pytest.mark.parametrize("id_", ["auth0:auth0|5f7c", "auth0:client/7", "auth0:5f7c"])
def test_any_id_that_an_issuer_may_give_is_told(id_: str) -> None:
    without, with_ = f"{DATA}members: [ann]", f"{DATA}members: [ann, '{id_}']"
    rule = "user.id in data.members"
    sides = [world(rule, data=data, keys=OF_AUTH0) for data in (without, with_)]
    (gain,) = whole(*sides).changes
    assert gain.gains
    assert f'user.id is "{id_}"' in str(gain)
    (loss,) = whole(*reversed(sides)).changes
    assert not loss.gains
    named = world(f"user.id == '{id_}'", keys=OF_AUTH0)
    assert whole(world(NOBODY, keys=OF_AUTH0), named).widened
    session = world(f"user.session_id == '{id_}'", keys=OF_AUTH0)
    assert whole(world(NOBODY, keys=OF_AUTH0), session).widened
    # Nobody of ours is called so.
    assert not whole(world(NOBODY), world(f"user.id == '{id_}|'")).widened


def test_a_caller_of_another_issuer_among_ours_in_a_table_is_told() -> None:
    data = f"{DATA}members: [ann, 'auth0:bob']"
    rule = "user.id in data.members && user.issuer == 'auth0'"
    old, new = (world(one, data=data, keys=OF_AUTH0) for one in (NOBODY, rule))
    assert whole(old, new).widened


@pytest.mark.parametrize(
    "when",
    [
        "user.roles.exists(r, r.startsWith('x-')) && user.roles.all(r, r.endsWith('-ext'))",
        "user.roles.exists(r, r.startsWith('x-')) && !user.roles.exists(r, !r.endsWith('-ext'))",
    ],
)
def test_a_role_that_must_be_two_things_at_once_is_told(when: str) -> None:
    report = whole(world(NOBODY), world(when))
    assert [one.caller() for one in report.changes if one.gains] == ["x-another-role-ext"]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("3 in user.claims.levels", "3 in user.claims.levels || 4 in user.claims.levels"),
        (NOBODY, "data.n in user.claims.levels"),
        (NOBODY, "true in user.claims.flags"),
        (NOBODY, "data.flag in user.claims.flags && !(false in user.claims.flags)"),
        (NOBODY, "null in user.claims.flags"),
        (NOBODY, "user.claims.groups == data.g"),
        (NOBODY, "user.claims.groups == data.o"),
        (NOBODY, "user.claims.groups in data.lists"),
        (NOBODY, "data.g in user.claims.groups"),
        (NOBODY, "user.claims.groups == user.claims.teams && 'a' in user.claims.teams"),
        (NOBODY, "user.claims.tier in user.claims.levels && user.claims.tier > 2"),
    ],
)
def test_numbers_and_lists_are_held_and_compared_as_texts_are(old: str, new: str) -> None:
    assert whole(world(old), world(new)).widened


@pytest.mark.parametrize(
    "when",
    [
        "user.id.startsWith('c') && user.id < data.first",
        "user.id.startsWith('ca') && user.id.endsWith('-x') && user.id > data.first",
        "user.email.endsWith('@a.example') && user.email < data.first",
        "request.method < data.methods",
        "request.method > data.methods && request.method < data.first",
        # One of a table, of those that begin so.
        "user.claims.tier in data.names && user.claims.tier.startsWith('x-')",
        "user.claims.tier in data.names && user.claims.tier >= data.first",
        # What one begins with, the other may be.
        "user.id == request.params.x && user.id.startsWith('x-')",
        "user.claims.tier in user.roles && user.roles.all(r, r.endsWith('-ext'))",
    ],
)
def test_what_begins_or_sorts_so_is_tried_of_all_that_it_is_compared_with(when: str) -> None:
    assert whole(world(NOBODY), world(when)).widened


@pytest.mark.parametrize("other", ["user.claims.tier", "user.id", "request.query['page']"])
@pytest.mark.parametrize("owner", ["t-{x}", "t-{query.team}"])
def test_what_stands_around_a_value_is_a_part_of_what_others_are_compared_with(
    owner: str, other: str
) -> None:
    old, new = (world(one, owner) for one in (NOBODY, f"resource.owner == {other}"))
    assert whole(old, new).widened


def test_a_part_of_the_path_that_is_a_number_may_be_the_callers_id() -> None:
    def of(when: str) -> Snapshot:
        data = "version: 1\nusers: {ann: {team: a}}\n"
        return snapshot(
            '- {id: a, match: {path: "/a/{x:int}"}, policy: p, upstream: api}',
            f'policy: p\nrules:\n  - {{id: r, allow: ["*"], when: "{when}"}}\n',
            data__tables=data,
        )

    old = "has(data.users[user.id].team)"
    assert whole(of(old), of(f"{old} || user.id == request.params.x")).widened


def test_roles_in_their_order_are_told_by_names_that_can_be_read() -> None:
    before = whole(world(NOBODY), world("user.roles.exists(r, r < data.first)"))
    after = whole(world(NOBODY), world("user.roles.exists(r, r > data.first)"))
    assert [one.caller() for one in before.changes if one.gains] == [
        "-another-role or another-role"
    ]
    assert [one.caller() for one in after.changes if one.gains] == ["carl-another-role"]


def parted(asked: str, count: int) -> str:
    return " || ".join(f"{asked}.contains('bot{number:02}')" for number in range(count))


def test_many_texts_that_may_fill_a_value_are_not_tried_in_every_set() -> None:
    few = compare(world(NOBODY), world(f"!({parted('user.claims.dep', 6)})"))
    assert not few.inexact
    many = compare(world(NOBODY), world(f"!({parted('user.claims.dep', 18)})"))
    assert many.inexact
    assert many.may_widen
    assert many.decisions < few.decisions * 4
    assert len(list(affixed([("contains", f"b{number:02}") for number in range(60)]))) < 200


def test_a_role_is_told_by_what_conditions_give_for_it_however_many_ways_it_may_look() -> None:
    begins = " || ".join(f"r.startsWith('t{number}-')" for number in range(6))
    ends = " || ".join(f"r.endsWith('-e{number}')" for number in range(6))
    rule = f"user.roles.exists(r, ({begins}) && ({ends}))"
    assert whole(world(NOBODY), world(rule)).widened


def test_made_up_texts_are_bounded_and_say_so() -> None:
    asked = [(how, f"{how[0]}{n:03}") for how in ("startsWith", "endsWith") for n in range(100)]
    found = list(affixed(asked))
    assert not every_is_made(asked)
    assert len(found) <= MAX_MADE_UP + 2 * len(asked) + 10
    assert {(one,) for one in asked} <= {tuple(met_by(text, asked)) for text in found}


def test_made_up_texts_lie_before_between_and_after_those_in_order() -> None:
    ordered, asked = {"carl", "carm"}, [("startsWith", "ca"), ("endsWith", "-x")]
    places = {
        (sum(text > one for one in ordered), text.startswith("ca"), text.endswith("-x"))
        for text in in_order(asked, ordered)
    }
    assert {(n, True, end) for n in range(3) for end in (True, False)} <= places


def test_diff_agrees_with_deciding_both_ways_where_values_stand_in_others_places() -> None:
    tally = Tally()
    for seed in range(1, 60):
        check(seed, 20, tally, forms=True)
    assert tally.wrong == []
    assert tally.gains > 20
    assert tally.losses > 10
    assert tally.inexact < 10

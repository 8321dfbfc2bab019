"""The key of a limit by an expression: what callers write is one in all its spellings where it is
what the key gives, and everything else is as it was written."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.access.authorizer import Authorizer
from gateway.access.conditions.context import RequestedResource
from gateway.access.simulation import FixedAuthenticator, FixedClock, run_sync
from gateway.rate_limit.keys import LimitKeys
from gateway.rate_limit.limiter import RateLimiter
from tests.access.decision_world import call_of
from tests.access.worlds import NOW, snapshot, who
from tests.databases import Hands
from tests.rate_limit.test_limiter import by_expression, call, caller

ADDRESS = "address 192.0.2.1"


def key(source: str, subject: str = "u1", **resource: Any) -> str:
    of_call = LimitKeys(Hands()).of(by_expression(source))
    return of_call(call("192.0.2.1"), caller(subject), RequestedResource({}, resource))


@pytest.mark.parametrize(
    ("source", "resource", "counted"),
    [
        ("resource.urgent ? 'urgent' : user.id", {"urgent": True}, "is urgent"),
        ("resource.urgent ? 'urgent' : user.id", {"urgent": False}, "is u1"),
        ("!resource.urgent ? 'slow' : user.id", {"urgent": False}, "is slow"),
        ("has(resource.a) || has(resource.b) ? user.id : client.ip", {"a": True}, "is u1"),
        ("resource.kind in ['A'] ? user.id : client.ip", {"kind": "A"}, "is u1"),
        ("resource.n > 5 ? 'many ' + user.id : user.id", {"n": 7}, "is many u1"),
        ("resource.a == null ? 'none' : resource.a", {"a": None}, "is none"),
        ("has(resource.a) ? resource.a : user.id", {"a": None}, ADDRESS),
        ("resource.a == 'Gold' ? resource.a : user.id", {"a": "Gold"}, "is gold"),
    ],
)
def test_a_key_asks_of_what_was_written(source: str, resource: Any, counted: str) -> None:
    assert key(source, **resource) == counted


@pytest.mark.parametrize(
    ("source", "resource", "counted"),
    [
        ("resource.meta.owner", {"meta": {"owner": "Bob"}}, "is Bob"),
        ("has(resource.meta.owner) ? resource.meta.owner : user.id", {"meta": {"owner": "bob"}}, "is bob"),
        ("has(resource.meta.owner) ? resource.meta.owner : user.id", {"meta": {}}, "is u1"),
        ("resource.items[0]", {"items": ["A"]}, "is A"),
        ("{'u': user.id, 'r': resource.a}", {"a": "X"}, 'is {"r": "X", "u": "u1"}'),
        ("[user.id, resource.items[0]]", {"items": ["P"]}, 'is ["u1", "P"]'),
        ("size(resource.a) > 0 ? [user.id, resource.a] : [user.id]", {"a": "X"}, 'is ["u1", "X"]'),
        ("resource.tags + [user.id]", {"tags": ["A"]}, 'is ["A", "u1"]'),
        ("resource.n + resource.m", {"n": 3, "m": 4}, "is 7"),
        ("resource.to", {"to": ["A@x", "b@x"]}, 'is ["A@x", "b@x"]'),
        ("resource.to", {"to": {"eq": "A"}}, 'is {"eq": "A"}'),
        ("resource.a", {"a": True}, "is True"),
        ("resource.a", {"a": None}, ADDRESS),
        ("'to ' + resource.to", {"to": ["a@x", "b@x"]}, ADDRESS),
        ("string(resource.flag)", {"flag": [True, False]}, ADDRESS),
    ],
)  # fmt: skip
def test_what_is_no_text_and_no_number_is_counted_as_it_was_written(
    source: str, resource: Any, counted: str
) -> None:
    assert key(source, **resource) == counted


@pytest.mark.parametrize(
    ("source", "resource", "counted"),
    [
        ("resource.email != '' ? 'acct ' + resource.email : user.id", {"email": "007"}, "is acct 7"),
        ("resource.email != '' ? 'acct ' + resource.email : user.id", {"email": "Ann"}, "is acct ann"),
        ("user.id + string(resource.n)", {"n": 7.0}, "is u17"),
        ("user.id + string(resource.n)", {"n": 1.5}, "is u11.5"),
        ("'n ' + resource.n", {"n": 7}, "is n 7"),
        ("'n ' + resource.n", {"n": ["07"]}, "is n 7"),
        ("resource.a + resource.b", {"a": "A", "b": " 07"}, "is a7"),
        ("resource.a", {"a": [7]}, "is 7"),
    ],
)  # fmt: skip
def test_a_text_or_a_number_that_is_given_or_joined_is_one_in_all_its_spellings(
    source: str, resource: Any, counted: str
) -> None:
    assert key(source, **resource) == counted


ONE_CALLER = [
    ("2001:db8:1:2::1", "2001:db8:1:2:ffff::2", "2001:db8:1:2:3:4:5:6"),
    ("192.0.2.1", "::ffff:192.0.2.1", "64:ff9b::192.0.2.1", "2002:c000:201::", "2002:c000:201::9"),
]


@pytest.mark.parametrize("addresses", ONE_CALLER)
@pytest.mark.parametrize(
    "source",
    [
        "client.ip",
        "client.ip + ' ' + resource.email",
        "user == null ? client.ip : 'from ' + string(client.ip)",
        "resource.email != '' ? (client.ip) : user.id",
        "[client.ip, resource.email]",
        "{'at': client, 'to': resource.email}",
        "in_cidr(client.ip, '::/0') || in_cidr(client.ip, '0.0.0.0/0') ? client.ip : user.id",
    ],
)
def test_nobody_is_many_callers_by_the_addresses_of_one_network(
    source: str, addresses: tuple[str, ...]
) -> None:
    """The holder of one IPv6 /64 would have any number of tries."""
    of_call = LimitKeys(Hands()).of(by_expression(source))
    requested = RequestedResource({}, {"email": "ann@example.com"})
    assert len({of_call(call(one), caller("u1"), requested) for one in addresses}) == 1
    others = ("2001:db8:1:3::1", "192.0.2.2", addresses[0])
    assert len({of_call(call(one), caller("u1"), requested) for one in others}) == len(others)


def test_what_a_key_asks_of_an_address_it_asks_of_the_very_one() -> None:
    source = "in_cidr(client.ip, '2001:db8::7/128') ? 'the seventh' : client.ip"
    of_call = LimitKeys(Hands()).of(by_expression(source))
    requested = RequestedResource({}, {})
    assert of_call(call("2001:db8::7"), None, requested) == "is the seventh"
    assert of_call(call("2001:db8::8"), None, requested) == "is 2001:db8::/64"
    assert of_call(call("192.0.2.1"), None, requested) == "is 192.0.2.1"


@pytest.mark.parametrize("source", ["resource.a", "'a ' + resource.a", "string(resource.a)"])
@pytest.mark.parametrize("text", ["é" * 257, "é" * 258, "0" * 300, "v" + "\u200b" * 300])
def test_what_cannot_be_told_counts_by_the_address_and_not_with_a_stranger(
    source: str, text: str
) -> None:
    assert key(source, a=text) == ADDRESS


def test_what_is_too_much_to_be_told_in_all_counts_by_the_address() -> None:
    names = "abcdefgh"
    source = " + ".join(f"resource.{name}" for name in names)
    assert key(source, **dict.fromkeys(names, "é" * 100)) != ADDRESS
    assert key(source, **dict.fromkeys(names, "é" * 200)) == ADDRESS


@pytest.mark.parametrize(
    "source",
    [
        "resource.kind == 'x' ? user.id + ' full' : user.id",
        "resource.kind != 'y' ? user.id : 'other'",
        "user.id + '/' + resource.kind",
        "[user.id, resource.kind]",
    ],
)
def test_two_callers_are_two_in_whatever_spelling(source: str) -> None:
    subjects = ("company:AbC", "company:abc", "company:07", "company:7", "company:é")
    assert len({key(source, subject, kind="x") for subject in subjects}) == len(subjects)


def answers(source: str, resource: str, calls: list[tuple[str, str, Any]]) -> list[bool]:
    """Whether each call of a user, from an address, with a body, passes a limit of two."""
    world = snapshot(f"""
    version: 1
    upstreams: {{api: {{targets: [http://127.0.0.1:9001]}}}}
    limits: {{l: {{key: "{source}", rate: 2/1h, scope: local}}}}
    routes:
      - {{id: a, match: {{path: /a}}, policy: signed-in, limits: [l], upstream: api, resource: {resource}}}
    """)
    limiter, passed = RateLimiter(Hands()), []
    for subject, address, body in calls:
        asking = call_of("POST /a", who(subject))
        asking.body, asking.client_ip = body, address
        authorizer = Authorizer(FixedAuthenticator(who(subject)), limiter, clock=FixedClock(NOW))
        passed.append(run_sync(authorizer, asking, world).allowed)
    return passed


def test_a_victim_in_an_object_is_counted_from_wherever_it_is_asked() -> None:
    body = {"meta": {"account": "victim"}}
    calls = [(f"u{n}", f"192.0.2.{n}", body) for n in range(4)]
    assert answers("resource.meta.account", "{meta: '{body.meta}'}", calls) == [
        True,
        True,
        False,
        False,
    ]


@pytest.mark.parametrize(
    ("source", "resource", "body"),
    [
        ("resource.a ? 'urgent' : user.id", "{a: '{body.a}'}", {"a": False}),
        ("[user.id, resource.a]", "{a: '{body.a}'}", {"a": "x"}),
        ("{'u': user.id, 'r': resource.a[0]}", "{a: '{body.a}'}", {"a": ["p"]}),
        ("[user.id, resource.a == 'x' ? 'x' : 'other']", "{a: '{body.a}'}", {"a": "x"}),
    ],
)
def test_users_behind_one_address_do_not_pay_for_each_other(
    source: str, resource: str, body: Any
) -> None:
    calls = [(f"u{n}", "192.0.2.1", body) for n in range(4)]
    assert all(answers(source, resource, calls))


def test_lists_of_recipients_are_no_bucket_that_strangers_share() -> None:
    calls = [(f"u{n}", f"192.0.2.{n}", {"to": [f"a{n}@x", f"b{n}@x"]}) for n in range(4)]
    assert all(answers("resource.to", "{to: '{body.to}'}", calls))


def test_a_template_joins_what_is_counted_as_one() -> None:
    """And what the key asks of it is what was written."""
    calls = [("u1", "192.0.2.1", {"a": a}) for a in ("7", "07", "７", "+7", 7)]
    template = "{a: 'Acct-{body.a}'}"
    assert answers("resource.a", template, calls) == [True, True, False, False, False]
    asks = "resource.a == 'Acct-07' ? 'one' : user.id"
    assert answers(asks, template, calls) == [True, True, True, False, False]

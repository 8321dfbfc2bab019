"""Conditions in which one value stands in the place of another, for `bench.differences`.

Values of the call in lists of the caller, empty texts, ids of another issuer's callers, numbers
and booleans in lists, lists compared as a whole, what all roles are asked at once, and texts in
their order.  Few words are drawn, so that calls agree with what conditions ask.
"""

from __future__ import annotations

import random
from typing import Any

from bench.difference_cases import AFFIXED_ROLES, NAMES, ROLES, TEAMS, World
from gateway.access.simulation import FixedClock, SimulatedRequest, person
from gateway.model import CredentialKind, Principal

WORDS = ("ann", "acme", "x-", "x-ops", "x-1-ext", "a-ext", "cab", "carl", "-ext", "b")
EXTERNAL_IDS = ("auth0|5f7c", "client/7", "auth0|x-1-ext", "ann")
HELD_ROLES = ("x-ops", "x-1-ext", "a-ext", "ann", "acme", "carl", "b")
DRAWN_ROLES = frozenset(
    (*ROLES, *AFFIXED_ROLES, *NAMES, *TEAMS, *HELD_ROLES, *WORDS, "t-ann", "else")
)
_LISTS = ("user.claims.groups", "user.claims.teams")
_SCALARS = (
    "user.claims.tier", "user.claims.other", "request.query['page']", "request.headers['x-zone']",
    "resource.owner", "request.params.x", "user.email", "user.id", "user.session_id",
)  # fmt: skip
_OWNERS = ("{x}", "{query.team}", "t-{x}", "{body.team}", "{headers.x-team}", "acme")


def form(choose: random.Random) -> str:
    """One comparison."""
    one, other = choose.choice(_SCALARS), choose.choice(_SCALARS)
    held, another = choose.sample(_LISTS, 2)
    how = choose.choice(("startsWith", "endsWith", "contains"))
    over = choose.choice(("exists", "all"))
    part, word = choose.choice(("x-", "x", "-ext", "a", "c")), choose.choice(WORDS)
    number, external = choose.choice((2, 3, 4)), choose.choice(EXTERNAL_IDS)
    flag = choose.choice(("true", "false", "null"))
    groups = (
        (f"{one} in {held}", f"{one} in {held}", f"{one} == {other}", f"'{word}' in {held}",
         f"data.names.{over}(n, n in {held})", f"user.claims.tier in {held}"),
        (f"{one} == ''", f"{one} != ''", f"'' in {held}", "has(user.claims.tier)",
         "'page' in request.query", "'x-zone' in request.headers", "user.email != null"),
        (f"{number} in user.claims.levels", "data.n in user.claims.levels",
         f"{flag} in user.claims.levels", "data.flag in user.claims.levels",
         "user.claims.other in user.claims.levels", f"user.claims.other > {number}"),
        (f"{held} == data.g", f"{held} == {another}", f"data.g in {held}", f"data.n in {held}",
         f"data.sets.exists(s, s.of == {held} && s.who == {one})", f"{held} in data.lists"),
        (f"user.roles.{over}(r, r.{how}('{part}'))", f"!user.roles.exists(r, !r.{how}('{part}'))",
         f"user.roles.{over}(r, r == {one})", f"{one} in user.roles",
         f"user.roles.{over}(r, r in data.names || r.{how}('{part}'))",
         f"user.roles.{over}(r, r != '{word}' && r.{how}('{part}'))"),
        (f"{one}.{how}('{part}')", f"{one} < data.first", f"{one} >= data.first",
         f"{one} in data.names", f"{one} == '{word}'", f"resource.owner in data.entries[{one}].of"),
        (f"user.id == 'company:{external}'", "user.id in data.members",
         "user.id.startsWith('company:auth0|')", "user.issuer == 'own'",
         f"user.session_id == 'company:{external}'", f"user.id.{how}('{part}')"),
    )  # fmt: skip
    return choose.choice(choose.choice(groups))


def forms(choose: random.Random) -> str:
    first = form(choose)
    if choose.random() < 0.25:
        first = f"!({first})"
    if choose.random() < 0.5:
        return first
    return f"{first} {choose.choice(('&&', '||'))} {forms(choose)}"


def form_pair(choose: random.Random) -> tuple[World, World]:
    """A configuration, and one whose rule or tables are otherwise."""
    route: World = {"match": {"path": "/a/{x}"}, "upstream": "api", "auth": "required"}
    route |= {"policy": "p", "action": "things:read", "resource": {"owner": choose.choice(_OWNERS)}}
    if choose.random() < 0.4:
        route["issuers"] = choose.choice((["own", "company"], ["company"]))
    old: World = {"routes": [route], "roles": {}, "data": _tables(choose)}
    new = {**old, "data": _tables(choose) if choose.random() < 0.3 else old["data"]}
    first = forms(choose)
    second = choose.choice(
        (first, forms(choose), f"{first} && {form(choose)}", f"{first} || {form(choose)}")
    )
    for made, when in ((old, first), (new, second)):
        made["rules"] = [{"allow": ["*"], "when": when}]
    return old, new


def _tables(choose: random.Random) -> World:
    def some(of: tuple[str, ...]) -> list[str]:
        return [one for one in of if choose.random() < 0.4]

    external = tuple(f"company:{one}" for one in EXTERNAL_IDS)
    return {
        "names": some(("ann", "x-ops", "a-ext", "")),
        "members": some(("ann", "carl", *external)),
        "first": choose.choice(("carl", "b", "x-")),
        "n": choose.choice((2, 3)),
        "flag": choose.random() < 0.5,
        "g": some(("ann", "acme")),
        "lists": [some(("ann", "acme")), some(("b",))],
        "sets": [{"who": one, "of": some(("ann", "acme"))} for one in ("ann", "b")],
        "entries": {one: {"of": some(("acme", "x-ops"))} for one in ("ann", "x-ops", "carl")},
    }


def form_question(choose: random.Random) -> SimulatedRequest:
    def word() -> str:
        return choose.choice((*WORDS, "t-ann", "else"))

    def text() -> str:
        return "" if choose.random() < 0.2 else choose.choice((*WORDS, "t-ann", "else"))

    common = word()
    near = [common, common, text(), text(), word()]
    query = [f"{name}={choose.choice(near)}" for name in ("page", "team") if choose.random() < 0.7]
    headers = [
        (name, choose.choice(near)) for name in ("X-Zone", "X-Team") if choose.random() < 0.7
    ]
    body = {"team": _value(choose, near)} if choose.random() < 0.7 else {}
    now = 1_800_000_000.0
    held = [role for role in {*HELD_ROLES, common} if role and choose.random() < 0.2]
    who = person(
        choose.choice([one for one in near if one]), held, now=now,
        email=choose.choice((None, *(one for one in near if one))),
        session_id=choose.choice([one for one in near if one]),
        claims={
            name: _value(choose, near)
            for name in ("tier", "other", "groups", "teams", "levels")
            if choose.random() < 0.75
        },
    )  # fmt: skip
    kind = choose.choice((CredentialKind.BEARER, CredentialKind.BEARER, CredentialKind.API_KEY))
    if kind is CredentialKind.BEARER:
        _give_token(choose, who)
    url = f"/a/{choose.choice([one for one in near if one])}"
    return SimulatedRequest(
        "GET", url + ("?" + "&".join(query) if query else ""), who, headers, "10.0.0.7", body,
        FixedClock(now), kind,
    )  # fmt: skip


def _value(choose: random.Random, near: list[str]) -> Any:
    """Of a claim, or of the body."""
    items: list[Any] = [*near, "ann", "acme", 2, 3, True, None, ["ann"], ["ann", "acme"]]
    some = [one for one in items if choose.random() < 0.3]
    whole = choose.choice((["ann", "acme"], ["ann"], ["b"], [], {"ann": True}))
    return choose.choice((some, some, some, whole, *near, 3, 2.5, True, None))


def _give_token(choose: random.Random, who: Principal) -> None:
    who.audience = ()
    if choose.random() < 0.5:
        return
    who.issuer = "company"
    subject = choose.choice((*EXTERNAL_IDS, who.subject))
    who.subject, who.session_id = f"company:{subject}", f"company:{choose.choice(EXTERNAL_IDS)}"
    who.scopes = None

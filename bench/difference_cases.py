"""Configurations and calls that `bench.differences` makes up.

A configuration is a `World`: routes, rules, roles and tables (networks and times among them), drawn
by the given generator, so that a seed tells the whole pair.
"""

from __future__ import annotations

import copy
import random
from dataclasses import replace
from typing import Any

import yaml

from gateway.access.simulation import FixedClock, SimulatedRequest, person
from gateway.access.snapshot import Snapshot
from gateway.config.compile import Sources, compile_snapshot
from gateway.model import CredentialKind, Principal, Reason

World = dict[str, Any]


class Odd(random.Random):
    """Draws what is rare, too: names that only begin alike, methods that few know, conditions over
    all of a list, routes that answer by themselves.  A plain generator draws without it, so that
    its seeds go on meaning what they meant."""


NAMES = ("ann", "bob", "carl", "dora")
TEAMS = ("acme", "tiny", "7")
ROLES = ("viewer", "lead", "frozen", "guest")
AFFIXED_ROLES = ("x-ops", "xtra", "acme-ext", "ext-acme", "leader", "review")
METHODS = ("GET", "POST", "PUT", "HEAD", "PURGE", "PROPFIND", "MKCOL", "POKE", "LOCK")
METHODS_ASKED = ("GET", "GET", "POST", "PUT", "HEAD")
LISTED_METHODS = ("GET", "MKCOL", "PURGE")
BLOCKS = (
    "10.0.0.0/8",
    "10.0.0.0/9",
    "10.1.2.0/24",
    "192.168.0.0/16",
    "2001:db8::/32",
    "10.0.0.7/32",
)
ADDRESSES = (
    "10.1.2.3",
    "10.200.0.1",
    "10.0.0.7",
    "192.168.7.7",
    "203.0.113.9",
    "2001:db8::9",
    "fe80::1",
)
PUBLIC_URL = "https://gate.example"
ISSUERS = ("company", "ci")
SCOPES = ("things:read", "tools:call")
RESOURCE_PATHS = ("/a", "/mcp")
PATTERNS = ("/a/{x}", "/a/{x:int}", "/a/{x}/{y}", "/a/7", "/a/{rest:path}", "/b/{x}")
ACTIONS = ("things:read", "things:write", "other:read")
RESOURCES = ("{x}", "{query.team}", "{headers.x-team}", "{body.team}", "t-{x}", "acme")
TIMES = tuple(1_800_000_000 + hours * 3_600 for hours in range(0, 24 * 9, 5))


def odd_atom(choose: random.Random) -> str:
    part = choose.choice(("x-", "x", "-ext", "ext", "le", "view", "acme"))
    how = choose.choice(("startsWith", "endsWith", "contains"))
    method, other = choose.choice(METHODS), choose.choice(METHODS)
    role, of = choose.choice((*ROLES, *AFFIXED_ROLES)), choose.choice(("user.roles", "listed"))
    number = choose.choice((0, 0.25, 0.5, 1, 1.25, 2))
    over = choose.choice(("exists", "all"))
    atom_of_list = {
        "user.roles": "r in user.roles", "listed": "r in user.claims.groups",
    }[of]  # fmt: skip
    return choose.choice(
        (
            f"user.roles.{over}(r, r.{how}('{part}'))",
            f"user.roles.exists(r, r.{how}('{part}') && r != '{role}')",
            f"user.roles.{over}(r, r.{how}('{part}') || r == '{role}')",
            f"request.method == '{method}'", f"request.method != '{method}'",
            f"request.method in ['{method}', '{other}']", "request.method in data.methods",
            f"request.method.startsWith('{choose.choice(('P', 'PRO', 'M', 'G'))}')",
            "user.id in data.callers[request.method]",
            f"data.needed.{over}(r, {atom_of_list})",
            f"user.claims.level >= {number}", f"user.claims.level < {number}",
            f"user.id.{how}('{choose.choice(('a', 'an', 'b'))}')",
            f"resource.owner.{how}('{part}')", f"user.email.{how}('{part}')",
            f"request.query['page'].{how}('{choose.randrange(3)}')",
            "user.id >= data.limits.first", f"user.claims.tier.{how}('{part}')",
        )
    )  # fmt: skip


def atom(choose: random.Random) -> str:
    """One comparison, of every form that conditions have."""
    if isinstance(choose, Odd) and choose.random() < 0.6:
        return odd_atom(choose)
    name, team, role = (choose.choice(one) for one in (NAMES, TEAMS, ROLES))
    number, hour = choose.randrange(4), choose.choice((8, 12, 17))
    return choose.choice(
        (
            "resource.owner == user.id", "user.id == resource.owner", "user != null",
            f"user.id == '{name}'", f"resource.owner == '{team}'", "user.email_verified",
            f"user.email.endsWith('@{team}.example')", f"'{role}' in user.roles",
            f"has_role('{role}')", f"user.roles.exists(r, r == '{role}')",
            "has_role(resource.owner)", f"user.claims.tier == '{team}'", "has(user.claims.tier)",
            f"user.claims.level >= {number}", f"'{team}' in user.claims.groups",
            f"request.query['page'] == '{number}'", f"request.headers['x-zone'] != '{team}'",
            f"request.headers['x-zone'].startsWith('{team[:2]}')", "'page' in request.query",
            f"request.method == '{choose.choice(('GET', 'POST'))}'",
            f"in_cidr(client.ip, '{choose.choice(BLOCKS)}')", "client.ip == '10.0.0.7'",
            "data.office.exists(n, in_cidr(client.ip, n))",
            "in_cidr(client.ip, data.sites[resource.owner].block)",
            "user.id in data.teams[resource.owner].members",
            "user.id in data.teams[resource.owner].admins",
            "data.teams[resource.owner].plan == 'gold'", "has(data.teams[resource.owner].closed)",
            "resource.owner in data.teams", f"user.id in data.teams.{TEAMS[0]}.members",
            "data.limits.level <= user.claims.level", "data.users[user.id].team == resource.owner",
            "data.users[user.id].roles.exists(r, r in user.roles)",
            f"now.getHours() < {hour}", f"now.getDayOfWeek() == {number}",
            "now < timestamp('2027-01-18T00:00:00Z')", "now >= timestamp(data.limits.until)",
            f"now - user.auth_time < duration('{number + 1}h')", "has_scope('things:read')",
            f"user.email.matches('{name}.*')", f"user.issuer == '{choose.choice(ISSUERS)}'",
            "user.issuer == 'own'", f"'{choose.choice(SCOPES)}' in user.scopes",
            f"user.id == '{choose.choice(ISSUERS)}:{name}'",
        )
    )  # fmt: skip


def condition(choose: random.Random) -> str:
    first = atom(choose)
    if choose.random() < 0.3:
        first = f"!({first})"
    if choose.random() < 0.55:
        return first
    return f"{first} {choose.choice(('&&', '||'))} {condition(choose)}"


def rule(choose: random.Random) -> World:
    effect = "deny" if choose.random() < 0.25 else "allow"
    made: World = {effect: choose.choice((["*"], ["things:*"], ["things:read"]))}
    if effect == "allow" and choose.random() < 0.25:
        made = {"allow": "role-permissions"}
    if isinstance(choose, Odd):
        return {effect: ["*"], "when": condition(choose)}
    if choose.random() < 0.8:
        made["when"] = condition(choose)
    if choose.random() < 0.15:
        made["step_up"] = choose.choice(({"max_age": "15m"}, {"max_age": "1h"}, {"amr": ["totp"]}))
    return made


def route(choose: random.Random) -> World:
    pattern = choose.choice(PATTERNS)
    if isinstance(choose, Odd) and choose.random() < 0.6:
        pattern = "/a/{x}"
    made: World = {"match": {"path": pattern}, "upstream": "api"}
    if isinstance(choose, Odd) and choose.random() < 0.2:
        made.pop("upstream")
        made |= choose.choice(
            (
                {"direct_response": {"status": 403}},
                {"direct_response": {"status": 200, "body": "here"}},
                {"redirect": {"to": "/elsewhere"}},
            )
        )
    if choose.random() < (0.2 if isinstance(choose, Odd) else 0.7):
        made["match"]["methods"] = choose.choice((["GET"], ["GET", "POST"], ["POST"]))
    if choose.random() < 0.1:
        made["match"]["host"] = "a.example"
    made["auth"] = choose.choice(("required", "required", "required", "optional", "public"))
    if made["auth"] != "public":
        made |= {"policy": "p", "action": choose.choice(ACTIONS)}
        if choose.random() < 0.25:
            made["issuers"] = choose.choice((["own", "company"], ["company"], ["ci", "company"]))
            if choose.random() < 0.4:
                named = [scope for scope in SCOPES if choose.random() < 0.4]
                made["resource_server"] = {"path": choose.choice(RESOURCE_PATHS), "scopes": named}
        elif choose.random() < 0.15:
            made["accept"] = choose.choice((["bearer"], ["api_key"]))
        owner = choose.choice(RESOURCES if "{x" in pattern else RESOURCES[1:4])
        made["resource"] = {"owner": owner}
    return made


def tables(choose: random.Random) -> World:
    def some(of: tuple[str, ...]) -> list[str]:
        return [one for one in of if choose.random() < 0.5]

    teams: World = {}
    for name in TEAMS:
        if choose.random() < 0.8:
            teams[name] = {
                "members": some(NAMES),
                "admins": some(NAMES),
                "plan": choose.choice(("gold", "free")),
            }
            if choose.random() < 0.2:
                teams[name]["closed"] = True
    sites = {name: {"block": choose.choice(BLOCKS)} for name in TEAMS if choose.random() < 0.7}
    users = {name: {"team": choose.choice(TEAMS), "roles": some(ROLES)} for name in some(NAMES)}
    limits = {
        "level": choose.randrange(4),
        "until": choose.choice(("2027-01-16T00:00:00Z", "2027-01-20T12:00:00Z")),
    }
    return {
        "teams": teams,
        "sites": sites,
        "office": some(BLOCKS),
        "limits": limits,
        "users": users,
    } | (_odd_tables(choose) if isinstance(choose, Odd) else {})


def _odd_tables(choose: random.Random) -> World:
    def some(of: tuple[str, ...]) -> list[str]:
        return [one for one in of if choose.random() < 0.5]

    return {
        "methods": some(LISTED_METHODS),
        "callers": {method: some(NAMES) for method in LISTED_METHODS if choose.random() < 0.7},
        "needed": some(ROLES[:2] + TEAMS),
        "limits": {
            "level": choose.randrange(4),
            "until": "2027-01-16T00:00:00Z",
            "first": choose.choice(("b", "bob", "c")),
        },
    }


def roles(choose: random.Random) -> World:
    made: World = {}
    for name in ROLES:
        if choose.random() < 0.6:
            given = [
                one for one in ("things:read", "things:*", "other:read") if choose.random() < 0.4
            ]
            made[name] = {
                "permissions": given,
                "inherits": [r for r in made if choose.random() < 0.3],
            }
    return made


def world(choose: random.Random) -> World:
    found: World = {"routes": [], "rules": [], "roles": roles(choose), "data": tables(choose)}
    found["routes"] = [route(choose) for _ in range(choose.randint(1, 3))]
    found["rules"] = [rule(choose) for _ in range(choose.randint(1, 3))]
    return found


def edited(choose: random.Random, old: World) -> World:
    """Another world: with one rule, route, role or table otherwise; seldom with more."""
    new = copy.deepcopy(old)
    if isinstance(choose, Odd) and choose.random() < 0.6:
        choose.choice(new["rules"])["when"] = condition(choose)
        return new
    for _ in range(1 if choose.random() < 0.75 else 3):
        what = choose.choice(("rules", "rules", "data", "data", "roles", "routes"))
        if what == "data":
            table = choose.choice(sorted(new["data"]))
            new["data"][table] = tables(choose)[table]
        elif what == "roles":
            new["roles"] = roles(choose)
        else:
            at = choose.randrange(len(new[what]) + 1)
            made = (rule if what == "rules" else route)(choose)
            new[what][at : at + choose.randrange(2)] = [made] if choose.random() < 0.8 else []
    return new


def compiled(made: World) -> Snapshot | None:
    """The configuration; None where routes stand in each other's way."""
    routes = [{"id": f"r{n}", **one} for n, one in enumerate(made["routes"])]
    rules = [{"id": f"rule{n}", **one} for n, one in enumerate(made["rules"])]
    issuers = {name: {"issuer": f"https://{name}.example", "audience": "api"} for name in ISSUERS}
    upstreams = {"api": {"targets": ["http://127.0.0.1:9001"]}}
    files = (
        ("policies/data/tables.yaml", {"version": 1, **made["data"]}),
        ("policies/p.yaml", {"version": 1, "policy": "p", "roles": made["roles"], "rules": rules}),
    )
    found = compile_snapshot(
        Sources(
            (
                "routes.yaml",
                yaml.safe_dump(
                    {"version": 1, "issuers": issuers, "upstreams": upstreams, "routes": routes}
                ),
            ),
            tuple((name, yaml.safe_dump(held)) for name, held in files),
        )
    )
    return replace(found, public_url=PUBLIC_URL) if isinstance(found, Snapshot) else None


def question(choose: random.Random) -> SimulatedRequest:
    words = (*TEAMS, *NAMES, "t-acme", "12", "else")
    x, y = choose.choice(words), choose.choice(words)
    path = choose.choice((f"/a/{x}", f"/a/{x}", f"/a/{x}/{y}", f"/b/{x}", f"/a/{x}/{y}/z"))
    query = [f"team={choose.choice(words)}"] * (choose.random() < 0.6)
    query += [f"page={choose.randrange(4)}"] * (choose.random() < 0.6)
    headers = [("X-Team", choose.choice(words))] * (choose.random() < 0.6)
    headers += [("X-Zone", choose.choice((*words, "acre")))] * (choose.random() < 0.6)
    if choose.random() < 0.2:
        headers.append(("Host", "a.example"))
    now = float(choose.choice(TIMES))
    who: Principal | Reason = Reason.NO_CREDENTIAL
    if choose.random() < 0.9:
        team = choose.choice(words)
        claims: World = {}
        if choose.random() < 0.7:
            claims["tier"] = choose.choice((*TEAMS, "x", 7, None, True))
        if choose.random() < 0.7:
            claims["level"] = choose.choice((0, 1, 1.5, 2, 3, 9, "3"))
        if choose.random() < 0.7:
            claims["groups"] = [one for one in TEAMS if choose.random() < 0.5]
        who = person(
            choose.choice((*NAMES, *TEAMS, "zoe")),
            [role for role in (*ROLES, "acme", "else") if choose.random() < 0.3]
            + _odd_roles(choose),
            now=now,
            email=choose.choice((None, f"{choose.choice(NAMES)}@{team}.example", "z@z.example")),
            email_verified=choose.random() < 0.5,
            auth_time=now - choose.choice((0, 1_000, 5_000, 9_000, 90_000)),
            amr=choose.choice((("pwd",), ("pwd", "totp"))),
            scopes=choose.choice((None, None, None, ("things:read",), ("other:*",), ("*",))),
            claims=claims,
        )
        if choose.random() < 0.1:
            who.auth_time = None
    kind = choose.choice((CredentialKind.BEARER, CredentialKind.BEARER, CredentialKind.API_KEY))
    if isinstance(who, Principal) and kind is CredentialKind.BEARER:
        _give_token(choose, who)
    url = path + ("?" + "&".join(query) if query else "")
    body = {"team": choose.choice(words)} if choose.random() < 0.6 else {}
    method = choose.choice(METHODS if isinstance(choose, Odd) else METHODS_ASKED)
    return SimulatedRequest(
        method, url, who, headers,
        choose.choice(ADDRESSES), body, FixedClock(now), kind,
    )  # fmt: skip


def _odd_roles(choose: random.Random) -> list[str]:
    if not isinstance(choose, Odd):
        return []
    return [role for role in AFFIXED_ROLES if choose.random() < 0.2]


def _give_token(choose: random.Random, who: Principal) -> None:
    """One of ours, or of another issuer: for the gateway, for resources, or for both."""
    who.audience = ()
    if choose.random() < 0.6:
        return
    who.issuer = choose.choice(ISSUERS)
    who.subject = f"{who.issuer}:{who.subject}"
    who.session_id = f"{who.issuer}:{who.session_id}"
    who.scopes = None
    who.granted_scopes = tuple(one for one in SCOPES if choose.random() < 0.5)
    named = [one for one in RESOURCE_PATHS if choose.random() < 0.5]
    who.resource_only = bool(named) and choose.random() < 0.5
    # At a host that a route names it is a resource of its own.
    who.audience = tuple(
        origin + path for path in named for origin in (PUBLIC_URL, "https://a.example")
    )

"""`python -m bench.differences`: what `gateway diff` tells, against deciding both ways.

Pairs of configurations are made up (routes, policies, roles, tables, networks, times), the
second an edit of the first, and `gateway diff` is asked once for each.  Then calls are made
up, and both configurations decide each.  Its lines are read as a machine reads them, from
`--json`: a call whose answer differs must be told, and a call that is told as certain must
differ.  Exits 1 with every disagreement.
"""

from __future__ import annotations

import copy
import ipaddress
import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Annotated, Any

import typer
import yaml
from rich.console import Console

from gateway.access.authorizer import evaluation_context
from gateway.access.conditions.conditions import Condition, ConditionCompiler
from gateway.access.conditions.context import EvaluationContext
from gateway.access.conditions.functions import has_scope
from gateway.access.routing.route_table import Match
from gateway.access.simulation import (
    FixedClock,
    SimulatedRequest,
    SimulatedResult,
    person,
    simulate,
)
from gateway.access.snapshot import Snapshot
from gateway.cli.policy_diff import change_data
from gateway.config.compile import Sources, compile_snapshot
from gateway.model import Call, CredentialKind, Principal, Reason
from gateway.review.diff import Report, compare
from gateway.review.shapes import Shapes

console = Console()
World = dict[str, Any]
NAMES = ("ann", "bob", "carl", "dora")
TEAMS = ("acme", "tiny", "7")
ROLES = ("viewer", "lead", "frozen", "guest")
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
PATTERNS = ("/a/{x}", "/a/{x:int}", "/a/{x}/{y}", "/a/7", "/a/{rest:path}", "/b/{x}")
ACTIONS = ("things:read", "things:write", "other:read")
RESOURCES = ("{x}", "{query.team}", "{headers.x-team}", "{body.team}", "t-{x}", "acme")
TIMES = tuple(1_800_000_000 + hours * 3_600 for hours in range(0, 24 * 9, 5))


@dataclass(slots=True)
class Tally:
    worlds: int = 0
    calls: int = 0
    gains: int = 0
    losses: int = 0
    inexact: int = 0
    """Pairs of which not every kind of call was tried, as diff says."""
    wrong: list[str] = field(default_factory=list)


def atom(choose: random.Random) -> str:
    """One comparison, of every form that conditions have."""
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
            f"user.email.matches('{name}.*')",
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
    if choose.random() < 0.8:
        made["when"] = condition(choose)
    if choose.random() < 0.15:
        made["step_up"] = choose.choice(({"max_age": "15m"}, {"max_age": "1h"}, {"amr": ["totp"]}))
    return made


def route(choose: random.Random) -> World:
    pattern = choose.choice(PATTERNS)
    made: World = {"match": {"path": pattern}, "upstream": "api"}
    if choose.random() < 0.7:
        made["match"]["methods"] = choose.choice((["GET"], ["GET", "POST"], ["POST"]))
    if choose.random() < 0.1:
        made["match"]["host"] = "a.example"
    made["auth"] = choose.choice(("required", "required", "required", "optional", "public"))
    if made["auth"] != "public":
        made |= {"policy": "p", "action": choose.choice(ACTIONS)}
        if choose.random() < 0.1:
            made["accept"] = ["bearer"]
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
    upstreams = {"api": {"targets": ["http://127.0.0.1:9001"]}}
    files = (
        ("policies/data/tables.yaml", {"version": 1, **made["data"]}),
        ("policies/p.yaml", {"version": 1, "policy": "p", "roles": made["roles"], "rules": rules}),
    )
    found = compile_snapshot(
        Sources(
            (
                "routes.yaml",
                yaml.safe_dump({"version": 1, "upstreams": upstreams, "routes": routes}),
            ),
            tuple((name, yaml.safe_dump(held)) for name, held in files),
        )
    )
    return found if isinstance(found, Snapshot) else None


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
            [role for role in (*ROLES, "acme", "else") if choose.random() < 0.3],
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
    url = path + ("?" + "&".join(query) if query else "")
    body = {"team": choose.choice(words)} if choose.random() < 0.6 else {}
    return SimulatedRequest(
        choose.choice(("GET", "GET", "POST", "PUT", "HEAD")), url, who, headers,
        choose.choice(ADDRESSES), body, FixedClock(now),
        choose.choice((CredentialKind.BEARER, CredentialKind.BEARER, CredentialKind.API_KEY)),
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Seen:
    """What one side's policy may read of a call, and the conditions it asks."""

    context: EvaluationContext
    asks: tuple[str, ...]


class Reader:
    """Reads what `gateway diff --json` tells, call by call."""

    def __init__(self, old: Snapshot, new: Snapshot, report: Report) -> None:
        self.sides = (old, new)
        self._shapes = Shapes(old, new)
        self.inexact = bool(report.inexact)
        self.lines = [change_data(change) for change in report.changes]
        self._conditions: dict[str, Condition] = {}

    def told(
        self, asked: SimulatedRequest, answers: tuple[SimulatedResult, SimulatedResult]
    ) -> Iterator[Mapping[str, Any]]:
        """The lines that speak of this call."""
        call = answers[0].call
        assert call is not None
        routes = [r for one in answers if (r := one.decision.route) is not None]
        if isinstance(asked.caller, Principal) and not any(asked.kind in r.accept for r in routes):
            # What no route accepts is as good as no credential.
            asked = replace(asked, caller=Reason.NO_CREDENTIAL)
        for line in self.lines:
            if call.method not in line["methods"] or not self._of_path(line, call):
                continue
            if self._of_caller(line, asked) and self._of_call(line, asked, call):
                yield line

    def _of_path(self, line: Mapping[str, Any], call: Call) -> bool:
        for shape in self._shapes.all:
            if (shape.host, shape.pattern) == (line["host"], line["path"]):
                found = self._shapes.find(shape, call.host, call.method, call.segments)
                if found is None:
                    return False
                if line["such_as"] is None:
                    return True
                such = tuple(line["such_as"][1:].split("/"))
                return found == self._shapes.find(
                    shape, self._shapes.host_of(shape), call.method, such
                )
        return False

    def _of_caller(self, line: Mapping[str, Any], asked: SimulatedRequest) -> bool:
        who = asked.caller
        if line["signed_in"] is not None and line["signed_in"] is not isinstance(who, Principal):
            return False
        if not isinstance(who, Principal):
            # Roles are those of who is signed in.
            return not line["owner_of"]
        if line["with"] and asked.kind not in line["with"]:
            return False
        if line["roles"] and not any(set(one) <= who.role_set for one in line["roles"]):
            return False
        for one in line["sign_in"]:
            age, *methods = one["asked"].split()
            met = all(method in who.amr for method in methods)
            if age != "None":
                known = who.auth_time is not None and who.auth_time <= asked.clock.now() + 5
                met &= known and asked.clock.now() - (who.auth_time or 0) <= float(age)
            if met is not one["met"]:
                return False
        return not line["scopes"] or (
            who.scopes is not None
            and any(all(has_scope(who, action) for action in one) for one in line["scopes"])
        )

    def _of_call(self, line: Mapping[str, Any], asked: SimulatedRequest, call: Call) -> bool:
        if line["from"]:
            address = ipaddress.ip_address(asked.client_ip)
            blocks = map(ipaddress.ip_network, line["from"])
            if not any(address.version == b.version and address in b for b in blocks):
                return False
        seen = [self._seen(side, asked, call) for side in self.sides]
        for one in line["conditions"]:
            now, was = self._outcomes(one["when"], seen)
            if ("is" in one and not _is(now, one["is"])) or (
                "was" in one and not _is(was, one["was"])
            ):
                return False
        shape = next(
            s for s in self._shapes.all if (s.host, s.pattern) == (line["host"], line["path"])
        )
        params = {s.text: call.segments[at] for at, s in enumerate(shape.segments)
                  if at < len(call.segments)}  # fmt: skip
        if shape.segments[-1].kind == "path":
            params[shape.segments[-1].text] = "/".join(call.segments[len(shape.segments) - 1 :])
        if any(
            params.get(name) != getattr(asked.caller, "subject", None) for name in line["owner_of"]
        ):
            return False
        return not line["values"] or any(
            all(self._valued(name, value, asked, call, params) for name, value in row.items())
            for row in line["values"]
        )

    def _valued(
        self, name: str, value: Any, asked: SimulatedRequest, call: Call, params: Any
    ) -> bool:
        who = asked.caller
        if name == "client.ip":
            network = ipaddress.ip_network(value)
            address = ipaddress.ip_address(asked.client_ip)
            return address.version == network.version and address in network
        if name.startswith("{"):
            return bool(params.get(name[1:-1]) == value)
        if name.startswith("user.claims."):
            claims = getattr(who, "claims", {})
            key = name.removeprefix("user.claims.")
            return key in claims and bool(claims[key] == value)
        if name == "user.id":
            return bool(getattr(who, "subject", None) == value)
        if name == "user.email":
            return bool(getattr(who, "email", None) == value)
        if name.startswith("body."):
            return bool(call.body.get(name[5:]) == value)
        if name.startswith("request.query"):
            return f"{name[15:-2]}={value}" in call.query.split("&")
        if name.startswith("request.headers"):
            return (name[17:-2], str(value).encode()) in [
                (key.decode().lower(), held) for key, held in call.headers
            ]
        raise AssertionError(name)

    def _seen(self, side: Snapshot, asked: SimulatedRequest, call: Call) -> _Seen | None:
        match = side.routes.match(call.host, call.method, call.segments)
        if not isinstance(match, Match) or match.route.policy is None:
            return None
        who = asked.caller if isinstance(asked.caller, Principal) else None
        context = evaluation_context(call, match, who, asked.clock.now)
        rules = match.route.policy.rules_for(match.route.action).rules
        asks = tuple(rule.condition.source for rule in rules if rule.condition is not None)
        return _Seen(context, asks) if isinstance(context, EvaluationContext) else None

    def _outcomes(self, source: str, seen: list[_Seen | None]) -> tuple[Any, Any]:
        """What a condition gives by the new configuration, and by the old one."""
        if source not in self._conditions:
            tables_ = {**_data(self.sides[0]), **_data(self.sides[1])}
            made = ConditionCompiler(tables_).compile(source)
            assert isinstance(made, Condition), (source, made)
            self._conditions[source] = made
        # A side whose rules do not ask it has not read what it is about.
        old, new = (
            self._conditions[source].evaluate(one.context)
            if one is not None and any(source in text for text in one.asks)
            else None
            for one in seen
        )
        return (old if new is None else new), (new if old is None else old)


def _data(side: Snapshot) -> Mapping[str, Any]:
    return next((p.data for p in side.policies.values() if p.data), {})


def _is(outcome: Any, said: bool | str) -> bool:
    if isinstance(said, bool):
        return (outcome is True) is said
    return {
        "false": outcome is False,
        "failed": isinstance(outcome, str),
        "judged": not isinstance(outcome, str),
        "not false": outcome is not False,
    }[said]


def check(seed: int, calls: int, tally: Tally) -> None:
    """One pair of configurations, and made-up calls of them."""
    choose = random.Random(seed)
    made = world(choose)
    changed = edited(choose, made)
    old, new = compiled(made), compiled(changed)
    if old is None or new is None:
        return
    report = compare(old, new)
    tally.worlds += 1
    tally.inexact += bool(report.inexact)
    reader = Reader(old, new, report)
    for number in range(calls):
        asked = question(choose)
        before, after = (simulate(asked, side).decision.allowed for side in (old, new))
        tally.calls += 1
        tally.gains += after and not before
        tally.losses += before and not after
        about = f"seed {seed}, call {number}: {asked.method} {asked.url} {asked.client_ip}"
        tally.wrong += [f"{about} {text}\n{asked}" for text in disagreements(reader, asked)]


def disagreements(reader: Reader, asked: SimulatedRequest) -> Iterator[str]:
    """Where what diff tells of a call is not what the two configurations decide."""
    answers = simulate(asked, reader.sides[0]), simulate(asked, reader.sides[1])
    before, after = (answer.decision.allowed for answer in answers)
    told = list(reader.told(asked, answers))
    kind = "gains" if after else "loses"
    silent = not any(line["change"] == kind for line in told)
    if before is not after and silent and not reader.inexact:
        yield f"{kind} and is not told"
    for line in told:
        if line["certain"] and (said := _untrue(reader, line, asked)):
            yield f"is told and {said}: {line}"


def _untrue(reader: Reader, line: Mapping[str, Any], asked: SimulatedRequest) -> str:
    """What is wrong with a line that speaks of a call; empty where it is true.

    The line names the smallest sets of roles and of scopes; with more of them access may be
    had already, be kept, or be taken away again.  So it is asked again with each of these
    alone, as long as the line still speaks of the call.
    """
    tried = [asked]
    if isinstance(asked.caller, Principal):
        tried = [
            replace(asked, caller=_with(asked.caller, roles, scopes))
            for roles in line["roles"] or [[]]
            for scopes in line["scopes"] or [None]
            if set(roles) <= asked.caller.role_set
        ]
    for one in tried:
        answers = simulate(one, reader.sides[0]), simulate(one, reader.sides[1])
        before, after = (answer.decision.allowed for answer in answers)
        good = after is not before and after is (line["change"] == "gains")
        if not good and any(told is line for told in reader.told(one, answers)):
            return f"is {before} → {after}"
    return ""


def _with(who: Principal, roles: list[str], scopes: Any) -> Principal:
    return replace(who, roles=tuple(roles), role_set=frozenset(roles), scopes=scopes)


def main(
    cases: Annotated[int, typer.Option(min=1, help="Calls that are decided.")] = 10_000,
    calls: Annotated[int, typer.Option(min=1, help="Calls of each pair.")] = 25,
    seed: Annotated[int, typer.Option(help="The first pair.")] = 1,
) -> None:
    """Compare what diff tells with what both configurations decide."""
    tally = Tally()
    while tally.calls < cases:
        check(seed, calls, tally)
        seed += 1
    for text in tally.wrong[:20]:
        console.print(text, markup=False)
    console.print(
        f"{tally.calls:,} calls of {tally.worlds:,} pairs: {tally.gains:,} gain, "
        f"{tally.losses:,} lose, {tally.inexact:,} pairs not tried whole, "
        f"{len(tally.wrong)} disagreements"
    )
    raise typer.Exit(1 if tally.wrong else 0)


if __name__ == "__main__":
    typer.run(main)

"""`python -m bench.differences`: what `gateway diff` tells, against deciding both ways.

Pairs of configurations are made up (`bench.difference_cases`), the second an edit of the first,
and `gateway diff` is asked once for each.  Then calls are made up, and both configurations decide
each.  Its lines are read as a machine reads them, from
`--json`: a call whose answer differs must be told, and a call that is told as certain must
differ.  Exits 1 with every disagreement.
"""

from __future__ import annotations

import ipaddress
import random
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import Annotated, Any
from urllib.parse import urlsplit

import typer
from rich.console import Console

from bench.difference_cases import Odd, compiled, edited, question, world
from bench.difference_forms import DRAWN_ROLES, form_pair, form_question
from gateway.access.conditions.conditions import Condition, ConditionCompiler
from gateway.access.conditions.context import EvaluationContext
from gateway.access.conditions.functions import has_scope
from gateway.access.evaluation import evaluation_context
from gateway.access.routing.route_table import Match
from gateway.access.routing.routes import Auth, Route
from gateway.access.simulation import SimulatedRequest, SimulatedResult, simulate
from gateway.access.snapshot import Snapshot
from gateway.cli.policy_diff import change_data
from gateway.model import OWN_ISSUER, Call, Principal, Reason
from gateway.review.affixes import Affix, met_by
from gateway.review.atoms import atom_of
from gateway.review.diff import Report, compare
from gateway.review.outcomes import reached
from gateway.review.parts import taken_apart
from gateway.review.shapes import Shapes

console = Console()


@dataclass(slots=True)
class Tally:
    worlds: int = 0
    calls: int = 0
    gains: int = 0
    losses: int = 0
    inexact: int = 0
    """Pairs of which not every kind of call was tried, as diff says."""
    wrong: list[str] = field(default_factory=list)


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
        self._affixes = frozenset(chain.from_iterable(map(_role_affixes, self.sides)))

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
            if self._shapes.method_for(call.method) not in line["methods"] or not self._of_path(
                line, call
            ):
                continue
            if self._of_caller(line, asked, routes) and self._of_call(line, asked, call):
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

    def _of_caller(
        self, line: Mapping[str, Any], asked: SimulatedRequest, routes: Sequence[Route]
    ) -> bool:
        who = asked.caller
        if line["signed_in"] is not None and line["signed_in"] is not isinstance(who, Principal):
            return False
        if not isinstance(who, Principal):
            # Roles are those of who is signed in.
            return not line["owner_of"]
        if line["with"] and not any(_is_shown(one, asked, who, routes) for one in line["with"]):
            return False
        if line["roles"] and not any(self._has(who, one) for one in line["roles"]):
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

    def _has(self, who: Principal, told: Sequence[str]) -> bool:
        """Whether who calls has these roles; of one that was made up, to each part of a condition
        that asks how roles begin, end or are filled, one that is like it."""
        return all(
            role in who.role_set
            or (role not in DRAWN_ROLES and all(self._alike(role, who, a) for a in self._affixes))
            for role in told
        )

    @staticmethod
    def _alike(role: str, who: Principal, asked: frozenset[Affix]) -> bool:
        return any(met_by(role, asked) == met_by(one, asked) for one in who.roles)

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
        if name in ("user.email", "user.session_id"):
            return bool(getattr(who, name.removeprefix("user."), None) == value)
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


def _role_affixes(side: Snapshot) -> Iterator[frozenset[Affix]]:
    for policy in side.policies.values():
        for rule in policy.rules:
            if rule.condition is not None:
                for part in taken_apart(rule.condition).atoms():
                    survey = atom_of(part).survey
                    if survey is not None and survey.any_role:
                        yield frozenset(survey.role_affixes)


_UNREADABLE = Reason.AMBIGUOUS_QUERY, Reason.AMBIGUOUS_HEADER, Reason.BODY_MALFORMED
_TOKEN = re.compile(r"a token of (\S+?)(?: for (.+?))?(?: with the scope (.+))?")
_ASKED_SCOPE = re.compile(r"(?:has_scope\()?'([^']+)'(?: in user\.scopes|\))")


def _is_shown(told: str, asked: SimulatedRequest, who: Principal, routes: Sequence[Route]) -> bool:
    """Whether what the caller shows is what the line speaks of: of a token, as far as these routes
    ask whose it is, for what, and with which scopes."""
    token = _TOKEN.fullmatch(told)
    if token is None:
        return who.issuer == OWN_ISSUER and asked.kind == told
    issuer, places, scopes = token.groups()
    servers = [one.resource_server for one in routes if one.resource_server is not None]
    paths = {urlsplit(one).path for one in who.audience or ()} & {one.path for one in servers}
    named = paths if who.resource_only else {"the gateway", *paths}
    asked_for = {scope for server in servers for scope in server.scopes}
    for route in routes:
        for rule in route.policy.rules_for(route.action).rules if route.policy else ():
            if rule.condition is not None:
                asked_for |= set(_ASKED_SCOPE.findall(rule.condition.source))
    return (
        who.issuer == issuer
        and named == set((places or "the gateway").split(" and "))
        and asked_for & set(who.granted_scopes) == set((scopes or "").split())
    )


def _may_take(route: Route, who: Principal) -> bool:
    """Whether it is a route for tokens of this issuer, and for resources where they are."""
    for_it = route.resource_server is not None or not who.resource_only
    return who.issuer in route.issuers and for_it


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


def check(seed: int, calls: int, tally: Tally, *, odd: bool = False, forms: bool = False) -> None:
    """One pair of configurations, and made-up calls of them.

    `odd`: what is rare; `forms`: conditions of `bench.difference_forms`.
    """
    choose = (Odd if odd else random.Random)(seed)
    if forms:
        made, changed = form_pair(choose)
    else:
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
        asked = (form_question if forms else question)(choose)
        before, after = (reached(simulate(asked, side).decision) for side in (old, new))
        tally.calls += 1
        tally.gains += after > before
        tally.losses += before > after
        about = f"seed {seed}, call {number}: {asked.method} {asked.url} {asked.client_ip}"
        tally.wrong += [f"{about} {text}\n{asked}" for text in disagreements(reader, asked)]


def disagreements(reader: Reader, asked: SimulatedRequest) -> Iterator[str]:
    """Where what diff tells of a call is not what the two configurations decide."""
    answers = simulate(asked, reader.sides[0]), simulate(asked, reader.sides[1])
    if any(one.decision.refusal in _UNREADABLE for one in answers):
        # What could be read in two ways is no value that a line could speak of.
        return
    routes = [r for one in answers if (r := one.decision.route) is not None]
    who = asked.caller
    if isinstance(who, Principal) and not any(_may_take(one, who) for one in routes):
        if any(one.auth is not Auth.PUBLIC for one in routes):
            # A token that neither takes is a bad credential, of which diff does not speak.
            return
        asked = replace(asked, caller=Reason.NO_CREDENTIAL)
    before, after = (reached(answer.decision) for answer in answers)
    told = list(reader.told(asked, answers))
    kind = "gains" if after > before else "loses"
    silent = not any(line["change"] == kind for line in told)
    if before != after and silent and not reader.inexact:
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
        if any(answer.decision.refusal in _UNREADABLE for answer in answers):
            continue
        before, after = (reached(answer.decision) for answer in answers)
        good = after != before and (after > before) is (line["change"] == "gains")
        if not good and any(told is line for told in reader.told(one, answers)):
            return f"is {before} → {after}"
    return ""


def _with(who: Principal, roles: list[str], scopes: Any) -> Principal:
    return replace(
        who,
        roles=tuple(roles),
        scopes=scopes if scopes is None else tuple(scopes),
    )


def main(
    cases: Annotated[int, typer.Option(min=1, help="Calls that are decided.")] = 10_000,
    calls: Annotated[int, typer.Option(min=1, help="Calls of each pair.")] = 25,
    seed: Annotated[int, typer.Option(help="The first pair.")] = 1,
    forms: Annotated[bool, typer.Option(help="Only what stands in another's place.")] = False,
) -> None:
    """Compare what diff tells with what both configurations decide."""
    tally = Tally()
    while tally.calls < cases:
        check(seed, calls, tally, odd=seed % 2 == 0, forms=forms or seed % 4 == 3)
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

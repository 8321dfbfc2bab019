"""The smallest change that would turn an answer around, found by trying each single one.

Every trial is a whole request to `Authorizer.decide`, so what is shown is what would happen.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain

from gateway.access.authorizer import Decision
from gateway.access.policies import Policy
from gateway.access.routing.routes import Route
from gateway.access.simulation import SimulatedRequest, SimulatedResult, person, simulate
from gateway.access.snapshot import Snapshot
from gateway.model import Principal, Reason, SourceLocation
from gateway.review.edits import Edit, chain_of, data_edits, role_edits, spellings

_ROLE_LITERAL = re.compile(r"""(?:'([^']+)'|"([^"]+)")\s+in\s+user\.roles""")
_MOST = 5
_MOST_EDITS = 3
_METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")


@dataclass(frozen=True, slots=True)
class Counterfactual:
    change: str
    """What would have to be different, to be read after "allowed if" or "denied if"."""
    rule: str | None
    location: SourceLocation | None
    """Of the rule that would decide; of an edit, the line to edit."""
    chain: tuple[str, ...] = ()
    """How a role comes to what it is about, each step with its line."""


def find_counterfactuals(
    request: SimulatedRequest, result: SimulatedResult, snapshot: Snapshot
) -> list[Counterfactual]:
    """Single changes that turn `answer` around: words that are misspelt, then of the call and
    its caller the most ordinary first, five at most, then of roles and data, three at most."""
    decision = result.decision
    counterfactuals = _edits(spellings(decision, snapshot), request, decision)
    trials = _trials(request, decision, snapshot)
    counterfactuals += _changes(trials, decision, snapshot)
    data = data_edits(decision, result.call, request.clock, snapshot)
    counterfactuals += _edits(chain(role_edits(decision, snapshot), data), request, decision)
    return counterfactuals


def _changes(
    trials: Iterable[tuple[str, SimulatedRequest]], decision: Decision, snapshot: Snapshot
) -> list[Counterfactual]:
    counterfactuals: list[Counterfactual] = []
    seen: set[str] = set()
    for change, trial in trials:
        if change in seen:
            continue
        seen.add(change)
        other = simulate(trial, snapshot).decision
        if other.allowed is not decision.allowed:
            location = other.location if other.location and other.location.line else None
            counterfactuals.append(
                Counterfactual(change, other.rule, location, _chain(trial, other))
            )
            if len(counterfactuals) == _MOST:
                break
    return counterfactuals


def _edits(
    edits: Iterable[Edit], request: SimulatedRequest, decision: Decision
) -> list[Counterfactual]:
    counterfactuals: list[Counterfactual] = []
    seen: set[str] = set()
    for edit in edits:
        if edit.change in seen:
            continue
        seen.add(edit.change)
        other = simulate(request, edit.world).decision
        if other.allowed is not decision.allowed:
            counterfactuals.append(
                Counterfactual(edit.change, other.rule, edit.location, edit.chain)
            )
            if len(counterfactuals) == _MOST_EDITS:
                break
    return counterfactuals


def _chain(trial: SimulatedRequest, decision: Decision) -> tuple[str, ...]:
    """How the last role of the caller comes to the permission that allows, if it is by that."""
    route, caller = decision.route, trial.caller
    if not decision.allowed or not isinstance(caller, Principal) or not caller.roles:
        return ()
    if route is None or route.policy is None:
        return ()
    rules = {rule.id: rule for rule in route.policy.rules}
    rule = rules.get(decision.rule or "")
    if rule is None or not rule.role_permissions:
        return ()
    return chain_of(route.policy.roles, caller.roles[-1], route.action)


def mentioned_roles(policies: Iterable[Policy]) -> list[str]:
    """Every role that one of the policies defines or names in a condition."""
    roles: set[str] = set()
    for policy in policies:
        roles.update(policy.roles.roles)
        roles.update(mentioned_in_conditions(policy))
    return sorted(roles)


def mentioned_in_conditions(policy: Policy) -> Iterator[str]:
    """Roles that a condition asks for by name."""
    for rule in policy.rules:
        if rule.condition is None:
            continue
        for one, two in _ROLE_LITERAL.findall(rule.condition.source):
            yield one or two
        for call in rule.condition.expression.calls:
            if call.name == "has_role" and call.literals and call.literals[0]:
                yield call.literals[0]


def _trials(
    request: SimulatedRequest, decision: Decision, snapshot: Snapshot
) -> Iterator[tuple[str, SimulatedRequest]]:
    caller = request.caller
    if isinstance(caller, Principal):
        yield from _other_callers(request, caller, decision, snapshot)
        yield "nobody were signed in", _asked(request, Reason.NO_CREDENTIAL)
    else:
        yield from _signed_in(request, caller, decision, snapshot)
    yield from _other_requests(request, decision, snapshot)


def _signed_in(
    request: SimulatedRequest, caller: Reason, decision: Decision, snapshot: Snapshot
) -> Iterator[tuple[str, SimulatedRequest]]:
    """With a caller where there is none, or whose credential is refused."""
    now = request.clock.now()
    came = (
        "a good credential came" if caller is not Reason.NO_CREDENTIAL else "anyone were signed in"
    )
    yield came, _asked(request, person("someone", now=now))
    for name, value in _owners(request, decision, snapshot):
        yield (
            f'the caller were "{value}" (user.id = {name})',
            _asked(request, person(value, now=now)),
        )
    for role in _roles(decision):
        yield (
            f"somebody with the role {role} were signed in",
            _asked(request, person("someone", [role], now=now)),
        )


def _other_callers(
    request: SimulatedRequest, caller: Principal, decision: Decision, snapshot: Snapshot
) -> Iterator[tuple[str, SimulatedRequest]]:
    now = request.clock.now()

    def other(**changes: object) -> SimulatedRequest:
        return _asked(request, dataclasses.replace(caller, **changes))  # type: ignore[arg-type]

    for name, value in _owners(request, decision, snapshot):
        if value != caller.subject:
            yield f'the caller were "{value}" (user.id = {name})', other(subject=value)
    held = caller.held_roles
    for role in caller.roles if held is None else held:
        left = tuple(one for one in caller.roles if one != role)
        account = None if held is None else tuple(one for one in held if one != role)
        yield f"the caller had not the role {role}", other(roles=left, held_roles=account)
    for role in _roles(decision):
        if role not in caller.roles:
            account = None if held is None else (*held, role)
            roles = (*caller.roles, role)
            yield f"the caller had the role {role}", other(roles=roles, held_roles=account)
    if any(value == caller.subject for _, value in _owners(request, decision, snapshot)):
        yield "the caller were somebody else", other(subject="somebody-else")
    verified = "were not" if caller.email_verified else "were"
    yield (
        f"the caller's address {verified} verified",
        other(
            email_verified=not caller.email_verified, email=caller.email or "someone@example.com"
        ),
    )
    yield "the sign-in were fresh", other(auth_time=int(now))
    route = decision.route
    for method in sorted(_asked_amr(route)):
        if method not in caller.amr:
            yield (
                f"the caller had signed in with {method}",
                other(amr=(*caller.amr, method), auth_time=int(now)),
            )
    if caller.scopes is not None:
        yield "the credential were not limited to scopes", other(scopes=None)


def _other_requests(
    request: SimulatedRequest, decision: Decision, snapshot: Snapshot
) -> Iterator[tuple[str, SimulatedRequest]]:
    methods = decision.allow or _METHODS
    for method in methods:
        if method != request.method.upper() and method != "HEAD":
            yield f"the method were {method}", dataclasses.replace(request, method=method)
    path, mark, query = request.url.partition("?")
    other = path.rstrip("/") if path.endswith("/") else path + "/"
    if other and "://" not in path:
        change = "without the final /" if path.endswith("/") else "with a final /"
        yield f"the path were {other} ({change})", dataclasses.replace(
            request, url=other + mark + query
        )  # fmt: skip
    for block in sorted(_blocks(decision.route)):
        yield f"it came from {block}", dataclasses.replace(
            request, client_ip=block.partition("/")[0]
        )  # fmt: skip


def _roles(decision: Decision) -> list[str]:
    route = decision.route
    return mentioned_roles([route.policy]) if route is not None and route.policy else []


def _asked(request: SimulatedRequest, caller: Principal | Reason) -> SimulatedRequest:
    return dataclasses.replace(request, caller=caller)


def _owners(
    request: SimulatedRequest, decision: Decision, snapshot: Snapshot
) -> list[tuple[str, str]]:
    """What in the resource and the path could be the id of a caller: its name and its value."""
    route = decision.route
    if route is None or route.policy is None:
        return []
    read: set[str] = set()
    for rule in route.policy.rules_for(route.action).rules:
        if rule.condition is None:
            continue
        if "id" in rule.condition.reads.user:
            read |= {f"resource.{name}" for name in rule.condition.reads.resource}
            read |= {f"request.params.{name}" for name in rule.condition.reads.params}
    values: dict[str, str] = {f"request.params.{n}": v for n, v in decision.params.items()}
    answered = simulate(request, snapshot)
    if answered.call is not None:
        body = answered.call.body if isinstance(answered.call.body, dict) else {}
        resource = route.resource_of({"params": decision.params, "body": body})
        values |= {f"resource.{n}": v for n, v in resource.items() if isinstance(v, str)}
    return [(name, values[name]) for name in sorted(read) if name in values]


def _asked_amr(route: Route | None) -> set[str]:
    if route is None or route.policy is None:
        return set()
    rules = route.policy.rules_for(route.action).rules
    return {method for rule in rules if rule.step_up for method in rule.step_up.amr}


def _blocks(route: Route | None) -> set[str]:
    """The address blocks that the conditions of the route's policy name."""
    if route is None or route.policy is None:
        return set()
    return {
        call.literals[-1]
        for rule in route.policy.rules_for(route.action).rules
        if rule.condition is not None
        for call in rule.condition.expression.calls
        if call.name == "in_cidr" and call.literals and call.literals[-1]
    }

"""Definitions that let somebody in, or say who somebody is, and that no route tells of.

Law: whatever of them may give access that was not there is told as `MAY GAIN`: whom it concerns
say tokens and accounts, which nobody has here.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gateway.access.attributes import Attribute, SetBy
from gateway.access.issuers import ClaimReader, Issuer, RequiredClaim
from gateway.access.policies import Effect, Rule
from gateway.access.providers import AccountRule, Provider
from gateway.access.routing.routes import Route
from gateway.access.snapshot import Snapshot
from gateway.model import SourceLocation

_MOST_NAMED = 4
Moved = tuple[bool, bool]
"""Whether somebody may gain by it, and whether somebody may lose."""
_EITHER: Moved = (True, True)


@dataclass(frozen=True, slots=True)
class DefinitionChange:
    """What a definition may give to some callers, or take from them."""

    name: str
    """`issuers.company`, `attributes.department`, `require_factor`."""
    gains: bool
    who: str
    fields: tuple[str, ...]
    """What of it has changed so; empty: that it is there, or no more."""
    routes: tuple[str, ...] = ()
    """Of which it decides; empty: whatever their account opens."""
    location: SourceLocation | None = None

    def __str__(self) -> str:
        verb = "MAY GAIN" if self.gains else "MAY LOSE"
        what = "what their account opens"
        if self.routes:
            named = ", ".join(self.routes[:_MOST_NAMED])
            rest = len(self.routes) - _MOST_NAMED
            what = f"{named} and {rest} more routes" if rest > 0 else f"the routes {named}"
            what = what if len(self.routes) > 1 else f"the route {named}"
        place = f" ({self.location})" if self.location is not None and self.location.line else ""
        fields = f": {', '.join(f'`{one}`' for one in self.fields)}" if self.fields else ""
        return f"{self.who} {verb} {what}{place} by `{self.name}`{fields}"


def definition_changes(old: Snapshot, new: Snapshot) -> list[DefinitionChange]:
    return [
        *_of_issuers(old, new),
        *_of_providers(old, new),
        *_of_attributes(old, new),
        *_of_factor_rule(old, new),
    ]


def form_changes(old: Snapshot, new: Snapshot) -> Iterator[tuple[Route, DefinitionChange]]:
    """Of routes that take bodies, or texts of what else came, which were refused for their form."""
    before = {route.id: route for route in old.routes}
    for route in new.routes:
        was = before.get(route.id)
        if was is None:
            continue
        body, now = was.body_values, route.body_values
        if body is not None and (now is None or now.takes_what_refuses(body)):
            yield route, _form_change(route, "sends a field of the body in another form")
        texts, others = was.text_values, route.text_values
        if texts is not None and (others is None or others.takes_what_refuses(texts)):
            what = "writes a value of the path, the query or a header in another way"
            yield route, _form_change(route, what)


def _form_change(route: Route, what: str) -> DefinitionChange:
    name = f"routes.{route.id}.resource"
    return DefinitionChange(name, True, f"whoever {what}", (), (route.id,), route.location)


def _told(
    name: str,
    who: str,
    moved: Mapping[str, Moved],
    routes: Sequence[str] = (),
    location: SourceLocation | None = None,
) -> Iterator[DefinitionChange]:
    for at, gains in ((0, True), (1, False)):
        fields = tuple(field for field, directions in moved.items() if directions[at])
        if fields:
            yield DefinitionChange(name, gains, who, fields, tuple(routes), location)


def _of_issuers(old: Snapshot, new: Snapshot) -> Iterator[DefinitionChange]:
    for name, after in new.issuers.items():
        before = old.issuers.get(name)
        routes = [route for route in new.routes if name in route.issuers]
        if before is None or before == after or not routes:
            continue
        moved = _issuer_moves(before, after)
        if "roles" not in moved or not any(map(_reads_roles, routes)):
            moved.pop("roles", None)
        elif None in (before.roles, after.roles) and all(map(_only_by_roles, routes)):
            moved["roles"] = (before.roles is None, after.roles is None)
        if not any(_reads(route, "email", "email_verified") for route in routes):
            moved.pop("email", None)
            moved.pop("email_verified", None)
        who = f"whoever has a token of {name}"
        ids = [route.id for route in routes]
        yield from _told(f"issuers.{name}", who, moved, ids, after.location)


def _issuer_moves(before: Issuer, after: Issuer) -> dict[str, Moved]:
    """Each field of a definition that differs, and what somebody may gain or lose by it."""
    found = {
        "issuer": _either(before.issuer, after.issuer),
        "audience": _among(before.audience, after.audience),
        "audience_claim": _either(before.audience_claim.text, after.audience_claim.text),
        "token": _either(before.use, after.use),
        "algorithms": _among(before.algorithms, after.algorithms),
        "typ": _among(before.typ, after.typ),
        "subject": _either(before.subject.text, after.subject.text),
        "roles": _either(_text(before.roles), _text(after.roles)),
        "email": _either(_text(before.email), _text(after.email)),
        "email_verified": _either(_text(before.email_verified), _text(after.email_verified)),
        "require": (
            not _asks_for(after.require, before.require),
            not _asks_for(before.require, after.require),
        ),
        "leeway": _more(before.leeway_s, after.leeway_s),
        "max_life": _more(before.max_life_s, after.max_life_s),
        "discovery": _either(before.discovery, after.discovery),
        "jwks_uri": _either(before.jwks_uri, after.jwks_uri),
        "ca": _either(before.ca, after.ca),
        "max_stale": _more(before.max_stale_s, after.max_stale_s),
        "introspection": _introspected(before, after),
        "backchannel_logout": _more(after.backchannel_logout, before.backchannel_logout),
        "events": _more(after.events, before.events),
        "event_audience": _either(before.event_audience, after.event_audience),
    }
    return {name: moved for name, moved in found.items() if any(moved)}


def _introspected(before: Issuer, after: Issuer) -> Moved:
    one, other = before.introspection, after.introspection
    if one is None or other is None:
        return _either(one, other)
    longer = _more(one.cache_s, other.cache_s)
    return _EITHER if one.endpoint != other.endpoint else longer


def _of_providers(old: Snapshot, new: Snapshot) -> Iterator[DefinitionChange]:
    for name in dict.fromkeys((*new.providers, *old.providers)):
        before, after = old.providers.get(name), new.providers.get(name)
        who = f"whoever signs in by {name}"
        if before is not None and after is not None:
            moved = _provider_moves(before, after)
            yield from _told(f"providers.{name}", who, moved, location=after.location)
            continue
        there = after or before
        assert there is not None
        yield DefinitionChange(
            f"providers.{name}", after is not None, who, (), location=there.location
        )


def _provider_moves(before: Provider, after: Provider) -> dict[str, Moved]:
    def created(one: Provider) -> bool:
        return one.accounts is AccountRule.CREATE

    found = _issuer_moves(before.issuer, after.issuer)
    found.pop("audience", None)  # it is our `client_id`
    found |= {
        "type": _either(before.kind, after.kind),
        "client_id": _either(before.client_id, after.client_id),
        "accounts": _more(created(before), created(after)),
        "trust_email": _more(before.trust_email, after.trust_email),
        "trust_mfa": _more(before.trust_mfa, after.trust_mfa),
        "domains": _within(before.domains, after.domains),
        "attributes": _either(_read_by(before), _read_by(after)),
        "userinfo": _either(before.userinfo, after.userinfo),
        "origins": _among(before.origins, after.origins),
    }
    return {name: moved for name, moved in found.items() if any(moved)}


def _of_attributes(old: Snapshot, new: Snapshot) -> Iterator[DefinitionChange]:
    for name, after in new.attributes.items():
        before = old.attributes.get(name)
        reads = _reads_attribute
        if before is None:
            # Nobody could ask for it by its name: what a route asks now, its own lines tell.
            if not any(_reads_claim(route, after) for route in old.routes):
                continue
            reads = _reads_claim
        routes = [route.id for route in new.routes if reads(route, after)]
        if before == after or not routes:
            continue
        moved = {"claim": _EITHER} if before is None else _attribute_moves(before, after)
        setters = " or ".join(sorted(after.set_by))
        who = f"whoever has `{name}` (set by {setters})"
        yield from _told(f"attributes.{name}", who, moved, routes, after.location)


def _attribute_moves(before: Attribute, after: Attribute) -> dict[str, Moved]:
    free = after.set_by != frozenset((SetBy.OPERATOR,))
    values = _within(before.values, after.values) if free else (False, False)
    found = {
        "set_by": _among(before.set_by, after.set_by),
        "values": values,
        "type": _either(before.type, after.type),
        "claim": _either((before.claim, before.in_token), (after.claim, after.in_token)),
    }
    return {name: moved for name, moved in found.items() if any(moved)}


def _of_factor_rule(old: Snapshot, new: Snapshot) -> Iterator[DefinitionChange]:
    before, after = old.factor_rule, new.factor_rule
    for gains, asked, now in ((True, before, after), (False, after, before)):
        left = set() if now.everyone else asked.roles - now.roles
        if asked.everyone and not now.everyone:
            freed = (
                "everyone" if not now.roles else f"everyone but {' or '.join(sorted(now.roles))}"
            )
        elif left:
            freed = " or ".join(sorted(left))
        else:
            continue
        who = f"{freed} without a second factor"
        yield DefinitionChange("require_factor", gains, who, ())
    if (before.everyone or before.roles) and (after.everyone or after.roles):
        moved = {"within": _more(before.within_s, after.within_s)}
        yield from _told("require_factor", "who has no second factor yet", moved)


# What a difference may do


def _either(before: Any, after: Any) -> Moved:
    return _EITHER if before != after else (False, False)


def _among(before: Collection[Any], after: Collection[Any]) -> Moved:
    """Each more may be somebody more."""
    return bool(set(after) - set(before)), bool(set(before) - set(after))


def _within(before: Collection[str], after: Collection[str]) -> Moved:
    """The same where none means any."""
    if not before or not after:
        return bool(before) and not after, bool(after) and not before
    return _among(before, after)


def _more(before: float | None, after: float | None) -> Moved:
    """Of what lets more in, the larger it is; None is what is ours, which bounds it."""
    endless = float("inf")
    was, now = (endless if one is None else one for one in (before, after))
    return now > was, now < was


def _asks_for(asking: Iterable[RequiredClaim], wanted: Iterable[RequiredClaim]) -> bool:
    """Whether what meets all of `asking` meets all of `wanted`."""

    def is_met(one: RequiredClaim) -> bool:
        kept = {(type(value), value) for value in one.values}
        return any(
            other.path.keys == one.path.keys and {(type(v), v) for v in other.values} <= kept
            for other in asking
        )

    asking = list(asking)
    return all(map(is_met, wanted))


def _text(reader: ClaimReader | None) -> str | None:
    return None if reader is None else reader.text


def _read_by(provider: Provider) -> dict[str, str]:
    return {attribute.name: reader.text for attribute, reader in provider.attributes}


# What routes ask


def _rules(route: Route) -> Sequence[Rule]:
    return () if route.policy is None else route.policy.rules_for(route.action).rules


def _any_path(route: Route, found: Callable[[tuple[str, ...]], bool]) -> bool:
    return any(
        path.root == "user" and found(path.keys)
        for rule in _rules(route)
        if rule.condition is not None
        for path in rule.condition.expression.paths
    )


def _reads(route: Route, *fields: str) -> bool:
    return _any_path(route, lambda keys: keys[:1] != () and keys[0] in fields)


def _reads_attribute(route: Route, attribute: Attribute) -> bool:
    named = ("attributes", attribute.name)
    return _any_path(route, lambda keys: keys[:2] == named) or _reads_claim(route, attribute)


def _reads_claim(route: Route, attribute: Attribute) -> bool:
    """Whether it reads it as what it is in a token."""
    read = ((attribute.claim,), ("attributes",), ())
    return _any_path(route, lambda keys: keys[:1] == ("claims",) and keys[1:2] in read)


def _reads_roles(route: Route) -> bool:
    calls = (
        call.name == "has_role"
        for rule in _rules(route)
        if rule.condition is not None
        for call in rule.condition.expression.calls
    )
    return (
        _reads(route, "roles") or any(rule.role_permissions for rule in _rules(route)) or any(calls)
    )


def _only_by_roles(route: Route) -> bool:
    """Whether nobody passes for want of a role: no rule denies, and no condition is about what is
    not so."""
    return all(
        rule.effect is Effect.ALLOW
        and (rule.condition is None or not _is_of_absence(rule.condition.source))
        for rule in _rules(route)
    )


def _is_of_absence(source: str) -> bool:
    signs = ("!", "?", "all(", "size(", "exists_one(", "false")
    return any(sign in source for sign in signs) or ("user.roles" in source and "==" in source)

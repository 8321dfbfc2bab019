"""What two routes ask of a call: each probe with the inputs that settle it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Hashable, Iterator, Sequence

from gateway.access.attributes import in_tenant
from gateway.access.conditions.context import EvaluationContext
from gateway.access.evaluation import evaluation_context
from gateway.access.policies import Policy
from gateway.access.readings import bypasses_route
from gateway.access.routing.route_table import Match
from gateway.access.routing.routes import Route, SegmentKind
from gateway.access.step_up import StepUp
from gateway.identity.issuers.external_ids import is_external_id
from gateway.model import OWN_ISSUER, OWN_ISSUERS, Principal, Reason
from gateway.review.atoms import Atom
from gateway.review.calls import (
    MOMENT,
    OWN_TOKEN,
    CallMaker,
    Presented,
    Source,
    Values,
    reading_of,
    source_of,
)
from gateway.review.methods import METHOD
from gateway.review.other_letters import outcome_in_any
from gateway.review.outcomes import FAILED, BeforeAfter, outcome_of
from gateway.review.questions import Probe, World, compared_by
from gateway.review.shapes import Pair, Shape, Shapes, fresh, good_segment
from gateway.review.sides import Side
from gateway.review.surveys import Survey, TableStep
from gateway.review.values import TABLE_INPUTS, Choice, is_good, presented

_CALLER_INPUTS = ("user.", *TABLE_INPUTS, "age", "amr", "roles", "scopes", "kind")
_IDS = ("user.id", "user.session_id")
_EMAILS = frozenset(("user.email", "claim:email"))
_OF_CALLERS = ("permits", "step-up", "kind", "scopes")


class Probes:
    """Everything that the two routes of a pair ask, and what calls of it are made of."""

    def __init__(
        self, sides: Sequence[Side], shapes: Shapes, shape: Shape, method: str, pair: Pair
    ) -> None:
        self._sides = sides
        self._shapes = shapes
        self._shape = shape
        self._method = method
        self._pair = pair
        self._good: dict[tuple[str, str], bool] = {}
        self._known: dict[int, tuple[Values, EvaluationContext | None]] = {}
        routes = [side.route for side in sides if side.route is not None]
        named = frozenset[str]().union(*(route.issuers for route in routes))
        self._issuers = sorted(named - OWN_ISSUERS)
        """Of others, whose tokens one of the routes takes."""
        self._scope_inputs = frozenset(("scopes", "kind") if self._issuers else ("scopes",))
        self._credentials_asked = self._credentials(routes)
        self.maker = CallMaker(shape, method, shapes.host_of(shape), dict(pair.values))
        self._all = list(self._questions())

    def presented(self) -> list[Presented]:
        """Everything that a caller may show."""
        return [choice.value for choice in self._credentials_asked]

    def of(self, *, signed: bool) -> list[Probe]:
        """The probes of calls of somebody who is signed in, or of nobody."""
        if signed:
            return self._all
        return [
            dataclasses.replace(one, inputs=_without_caller(one.inputs))
            for one in self._all
            if not one.key.startswith(_OF_CALLERS)
        ]

    def world(self, *, signed: bool) -> World:
        return World(
            {"signed": signed},
            self._made_up,
            self._is_good,
            self._role_names(),
            self._does,
            self._rewritten_texts(),
            frozenset({*self._scopes(), *(s.route.action for s in self._sides if s.route)}),
            self._credentials_asked,
            frozenset(f"{issuer}:someone" for issuer in self._issuers),
            self._is_possible,
            self._has_capitals(),
        )

    def _questions(self) -> Iterator[Probe]:
        for side in self._sides:
            if side.route is not None and side.policy is not None:
                yield from self._parts(side, side.route, side.policy)
                yield from self._guards(side, side.policy)
        routes = [side.route for side in self._sides if side.route is not None]
        if self._asks_for_credentials(routes):
            yield Probe("kind", frozenset(("kind",)), lambda values: values.get("kind"))
        if len({route.action for route in routes}) > 1 or self._scopes():
            yield Probe("scopes", self._scope_inputs, lambda values: values.get("scopes"))
        if self._shape.open:
            yield from self._signs(routes)
        if any(route.rewrite is not None for route in routes):
            inputs = frozenset(f"seg:{at}" for at in self._shape.open)
            yield Probe("target", inputs, self._targets)

    def _has_capitals(self) -> bool:
        letters = {one.key.partition(" ")[2] for one in self._all if one.key.startswith("letters ")}
        asked = [one for one in self._all if one.survey and one.key.partition(" ")[2] in letters]
        affixes = [met for one in asked if one.survey for met in one.survey.affixes.values()]
        texts = {*compared_by(asked, {}).places, *(text for met in affixes for _, text in met)}
        return any(text != text.lower() for text in texts)

    def _signs(self, routes: Sequence[Route]) -> Iterator[Probe]:
        """What in a path only some routes take."""
        inputs = {f"seg:{at}" for at in self._shape.open}
        if len({route.allow_encoded_slash for route in routes}) > 1:
            rest = self._shape.segments[-1].kind is SegmentKind.REST
            slash = frozenset(inputs | ({"slash"} if rest else set()))
            yield Probe("slash", slash, lambda values: self._holds("encoded_slash", values))
        if len({route.takes_files for route in routes}) > 1:
            yield Probe("files", frozenset(inputs), lambda v: self._holds("files_only", v))

    def _holds(self, sign: str, values: Values) -> bool:
        return bool(getattr(reading_of(self.maker.segments(values)), sign, False))

    def _surveys(self) -> list[Survey]:
        return [atom.survey for side in self._sides for atom in side.atoms if atom.survey]

    def _scopes(self) -> set[str]:
        """The actions, and the scopes, that conditions ask a credential's for."""
        return {one for survey in self._surveys() for one in survey.scopes | survey.granted}

    def _asks_for_credentials(self, routes: Sequence[Route]) -> bool:
        """Whether what a caller shows matters, or an access token of ours is not taken."""
        return len({route.accept for route in routes}) > 1 or any(
            OWN_TOKEN.kind not in route.accept
            or route.issuers != OWN_ISSUERS
            or route.resource_server is not None
            for route in routes
        )

    def _credentials(self, routes: Sequence[Route]) -> list[Choice]:
        servers = [one.resource_server for one in routes if one.resource_server is not None]
        granted = self._scopes().union(*(server.scopes for server in servers))
        return presented(self._issuers, (server.path for server in servers), granted)

    def _is_possible(self, values: Values) -> bool:
        """Whether who presents another issuer's token has an id, and a session, that begin with
        its name, as nobody else's do, and is limited to no actions, as keys of ours are."""
        if not self._issuers or not values["signed"]:
            return True
        shown: Presented = values.get("kind", OWN_TOKEN)
        if shown.issuer != OWN_ISSUER and values.get("scopes") is not None:
            return False
        ids = (values.get(name) for name in _IDS)
        return all(self._issuer_of(one) == shown.issuer for one in ids if isinstance(one, str))

    def _issuer_of(self, id_: str) -> str:
        """Whose caller or session is named so."""
        issuer, colon, _ = id_.partition(":")
        return issuer if colon and issuer in self._issuers else OWN_ISSUER

    def _parts(self, side: Side, route: Route, policy: Policy) -> Iterator[Probe]:
        seen: set[str] = set()
        for atom in side.atoms:
            if atom.survey is None or atom.source in seen:
                continue
            seen.add(atom.source)
            inputs, sources, wrapped = self._reads(atom, route)
            yield Probe(
                f"text {side.number} {atom.source}",
                inputs,
                _evaluation_of(self._facts, side, atom),
                atom.survey,
                policy.data,
                side.number,
                sources,
                wrapped,
            )
            if atom.source in side.in_other_letters:
                answer = _in_other_letters(self._facts, side, atom, inputs)
                yield Probe(f"letters {side.number} {atom.source}", inputs, answer)

    def _reads(
        self, atom: Atom, route: Route
    ) -> tuple[
        frozenset[str], dict[TableStep, Source | None], dict[str, frozenset[tuple[str, str]]]
    ]:
        assert atom.survey is not None
        inputs: set[str] = set()
        sources: dict[TableStep, Source | None] = {}
        wrapped: dict[str, frozenset[tuple[str, str]]] = {}
        for path in atom.survey.paths:
            source = source_of(path, route, self._shape)
            assert not isinstance(source, bool), "such a part is assumed"
            if path == METHOD:
                source = Source("", self._method)
            sources[path] = source
            if source is not None and source.name:
                inputs.add(source.name)
                around = frozenset(((source.before, source.after),))
                wrapped[source.name] = wrapped.get(source.name, frozenset()) | around
        if atom.survey.roles:
            inputs.add("roles")
        if atom.survey.scopes:
            inputs |= self._scope_inputs
        if atom.survey.granted:
            inputs |= {"kind", "scopes"}
        if self._issuers and not inputs.isdisjoint(_IDS):
            inputs.add("kind")
        return frozenset(inputs - {"signed"}), sources, wrapped

    def _guards(self, side: Side, policy: Policy) -> Iterator[Probe]:
        """What rules ask besides their conditions."""
        assert side.route is not None
        action, book = side.route.action, policy.roles
        rules = policy.rules_for(action).rules
        if any(rule.role_permissions for rule in rules):
            yield Probe(
                f"permits {side.number}",
                frozenset(("roles",)),
                lambda values: book.permits(_names(values), action),
            )
        for step_up in {rule.step_up for rule in rules if rule.step_up is not None}:
            inputs = {"age"} if step_up.max_age_s is not None else set()
            inputs |= {"amr"} if step_up.amr else set()
            yield Probe(step_up_key(step_up), frozenset(inputs), _meeting(self.maker, step_up))

    def _targets(self, values: Values) -> Hashable:
        """Whether what each side would send to its upstream is another's path."""
        call, _ = self.maker.make({**values, "signed": False})
        own_targets: list[bool] = []
        for side in self._sides:
            match = side.snapshot.routes.match(call.host, call.method, call.segments)
            if not isinstance(match, Match) or match.route.rewrite is None:
                own_targets.append(True)
                continue
            sent = match.route.upstream_target(call, match.params)
            own_targets.append(
                not isinstance(sent, Reason)
                and not bypasses_route(sent, call, match.route, side.snapshot.routes)
            )
        return (
            own_targets[0]
            if own_targets[0] == own_targets[1]
            else BeforeAfter(own_targets[0], own_targets[1])
        )

    def _facts(self, side: Side, values: Values) -> EvaluationContext | None:
        known = self._known.get(side.number)
        if known is None or known[0] is not values:
            known = self._known[side.number] = values, self._facts_of(side, values)
        return known[1]

    def _facts_of(self, side: Side, values: Values) -> EvaluationContext | None:
        call, caller = self.maker.make(values)
        match = side.snapshot.routes.match(call.host, call.method, call.segments)
        if not isinstance(match, Match) or match.route.policy is None:
            return None
        principal = caller if isinstance(caller, Principal) else None
        if principal is not None and match.route.tenant is not None:
            principal = in_tenant(principal, match.params[match.route.tenant])
        now = float(values.get("now", MOMENT))
        context = evaluation_context(call, match, principal, lambda: now)
        return context if isinstance(context, EvaluationContext) else None

    # What calls are made of

    def _made_up(self, name: str) -> Sequence[Choice]:
        kind, _, at = name.partition(":")
        if kind == "seg":
            first = dict(self._pair.values)[int(at)]
            segment = self._shape.segments[int(at)]
            more = [fresh(segment, number) for number in range(20, 20 + len(self._shape.open))]
            texts = [first, *(one for one in more if self._is_good(name, one))]
            return [Choice(text) for text in texts]
        if name == "host":
            return [Choice(self._shapes.host_of(self._shape))]
        if name == "user.email":
            return [Choice("someone@example.com")]
        return [Choice(f"any-{name.replace('.', '-').replace(':', '-')}")]

    def _is_good(self, name: str, text: str) -> bool:
        kind, _, at = name.partition(":")
        if name in _IDS and self._issuer_of(text) != OWN_ISSUER:
            return is_external_id(text.partition(":")[2])
        if kind not in ("seg", "host"):
            return is_good(name, text)
        key = (name, text)
        if key not in self._good:
            self._good[key] = self._finds_the_pair(kind, at, text)
        return self._good[key]

    def _finds_the_pair(self, kind: str, at: str, text: str) -> bool:
        if kind == "seg":
            segment = self._shape.segments[int(at)]
            parts = text.split("/") if segment.kind is SegmentKind.REST else [text]
            sides = (self._pair.old, self._pair.new)
            files = any(one is not None and one.takes_files for one in sides)
            if not all(good_segment(part, files=files) for part in parts[:-1] or parts):
                return False
            if parts[-1] and not good_segment(parts[-1], files=files):
                return False
            if not all(segment.takes(part) for part in parts[:1]):
                return False
            segments, host = self.maker.segments({f"seg:{at}": text}), None
        else:
            if not is_good("host", text):
                return False
            segments, host = self.maker.segments({}), text
        host = host or self._shapes.host_of(self._shape)
        routes = self._shapes.find(self._shape, host, self._method, segments)
        return routes is not None and routes == (self._pair.old, self._pair.new)

    def _role_names(self) -> set[str]:
        books = [side.policy.roles for side in self._sides if side.policy is not None]
        return {name for book in books for name in book.roles}

    def _does(self, role: str, named: Collection[str]) -> frozenset[Hashable]:
        effects: set[Hashable] = {("is", role)} if role in named else set()
        for side in self._sides:
            if side.policy is None or side.route is None:
                continue
            book = side.policy.roles
            if book.permits((role,), side.route.action):
                effects.add(("permits", side.number))
            effects |= {("holds", side.number, one) for one in book.expand((role,)) & set(named)}
        return frozenset(effects)

    def _rewritten_texts(self) -> dict[str, frozenset[str]]:
        """Where a rewrite leads may be another's path: parts of all paths are tried."""
        if not any(s.route is not None and s.route.rewrite is not None for s in self._sides):
            return {}
        texts: set[str] = set()
        for side in self._sides:
            for route in side.snapshot.routes if side.route is not None else ():
                parts = [
                    s.text if s.kind is SegmentKind.LITERAL else fresh(s) for s in route.segments
                ]
                for start in range(len(parts)):
                    texts |= {
                        "/".join(parts[start:end]) for end in range(start + 1, len(parts) + 1)
                    }
        return {f"seg:{at}": frozenset(texts) for at in self._shape.open}


def step_up_key(step_up: StepUp) -> str:
    return " ".join(("step-up", str(step_up.max_age_s), *step_up.amr))


def _without_caller(inputs: frozenset[str]) -> frozenset[str]:
    return frozenset(name for name in inputs if not name.startswith(_CALLER_INPUTS))


def _names(values: Values) -> tuple[str, ...]:
    return tuple(sorted(min(alike) for alike in values.get("roles", ())))


def _evaluation_of(
    context: Callable[[Side, Values], EvaluationContext | None], side: Side, atom: Atom
) -> Callable[[Values], Hashable]:
    def judge(values: Values) -> Hashable:
        evaluation = context(side, values)
        return FAILED if evaluation is None else outcome_of(atom.condition.evaluate(evaluation))

    return judge


def _in_other_letters(
    context: Callable[[Side, Values], EvaluationContext | None],
    side: Side,
    atom: Atom,
    inputs: Collection[str],
) -> Callable[[Values], Hashable]:
    # Whoever has no address in it may have one in any letters.
    is_known = not _EMAILS.isdisjoint(inputs)

    def judge(values: Values) -> Hashable:
        evaluation = context(side, values)
        if evaluation is None:
            return FAILED
        rules = side.in_other_letters[atom.source]
        return outcome_of(outcome_in_any(rules, atom.condition, evaluation, is_known=is_known))

    return judge


def _meeting(maker: CallMaker, step_up: StepUp) -> Callable[[Values], Hashable]:
    def met(values: Values) -> bool:
        _, caller = maker.make(values)
        now = float(values.get("now", MOMENT))
        return step_up.met(caller if isinstance(caller, Principal) else None, now)

    return met

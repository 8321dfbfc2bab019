"""Two routes that take the same calls, asked of every kind of call that they can tell apart."""

from __future__ import annotations

from collections.abc import Collection, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

from gateway.access.authorizer import Authorizer, Decision
from gateway.access.conditions.conditions import Condition, Outcome
from gateway.access.simulation import FixedAuthenticator, FixedClock, NoLimits, run_sync
from gateway.access.snapshot import Snapshot
from gateway.review.atoms import Atom
from gateway.review.call_kinds import CallKind, ProbeGroup, Solver, combined, groups_of
from gateway.review.calls import MOMENT, ORIGINS, Roles, Source, Values, source_of
from gateway.review.outcomes import FAILED, FALSE, TRUE, BeforeAfter, outcome_of, reached
from gateway.review.parts import joined
from gateway.review.probes import Probes
from gateway.review.questions import Probe, World
from gateway.review.shapes import Pair, Shape, Shapes
from gateway.review.sides import Side, meaning_of, side_of

MAX_ASSUMED = 4
"""Parts of which every combination of outcomes is tried; of more, all alike and each alone."""
OLD, NEW = 0, 1


@dataclass(frozen=True, slots=True)
class Axis:
    """One thing in which calls differ."""

    kind: str
    """`signed`, `roles`, `kind`, `scopes`, `slash`, `files`, `address`, `step-up`, `text` (a part
    of a condition), `letters` (the same in other letters), `condition` (a whole one), `assumed` (a
    part whose outcome cannot be found) or `target`."""
    text: str = ""
    """The part of the condition, or the step-up."""
    group: int = 0
    owner: str | None = None
    """The parameter that it compares with the caller's id."""
    side: int | None = None
    """Of a part that means another thing on each side: which of them is meant."""
    assumed: bool = False
    """Whether its outcomes cannot be found."""


@dataclass(slots=True)
class Point:
    """One kind of call, and both answers to it."""

    vector: tuple[Hashable, ...]
    kinds: tuple[CallKind, ...]
    before: Decision
    after: Decision

    @property
    def came_to(self) -> tuple[int, int]:
        """How far the call came before, and comes after."""
        return reached(self.before), reached(self.after)


class Comparison:
    """Everything that one pair of routes can answer differently."""

    def __init__(
        self,
        sides: tuple[Snapshot, Snapshot],
        shapes: Shapes,
        shape: Shape,
        method: str,
        pair: Pair,
    ) -> None:
        self.shape = shape
        self.pair = pair
        self.axes: list[Axis] = []
        self.points: list[Point] = []
        self.signed_groups: list[ProbeGroup] = []
        self.anonymous_groups: list[ProbeGroup] = []
        self.role_sets: dict[tuple[Hashable, ...], set[Roles]] = {}
        """The sets of roles for each value of the axis `roles`."""
        self.whole = True
        self.decisions = 0
        routes = (pair.old, pair.new)
        self._sides = [side_of(n, sides[n], routes[n], shape) for n in (OLD, NEW)]
        self._probes = Probes(self._sides, shapes, shape, method, pair)
        self.presented = self._probes.presented()
        self._of_roles: list[Probe] = []
        self._solve()

    def _solve(self) -> None:
        for signed in (True, False):
            probes = self._probes.of(signed=signed)
            world = self._probes.world(signed=signed)
            groups = groups_of(probes)
            for group in groups:
                Solver(group, world).solve()
                self.whole &= group.whole
            if signed:
                self.signed_groups = groups
                self._solve_roles(probes, world)
                self.axes = self._all_axes(groups)
            else:
                self.anonymous_groups = groups
            self._ask_all(groups, signed)

    def _solve_roles(self, probes: Sequence[Probe], world: World) -> None:
        """Which roles give which answers, where nothing but roles is asked for."""
        self._of_roles = [one for one in probes if one.inputs == {"roles"}]
        group = ProbeGroup(self._of_roles, ["roles"])
        if self._of_roles:
            Solver(group, world).solve()
        self.whole &= group.whole
        self.role_sets = {kind.answers: kind.roles for kind in group.kinds}

    def _all_axes(self, groups: Sequence[ProbeGroup]) -> list[Axis]:
        axes: dict[tuple[str, str], Axis] = {("signed", ""): Axis("signed")}
        for index, group in enumerate(groups):
            if any(one.inputs == {"roles"} for one in group.probes):
                axes["roles", ""] = Axis("roles", group=index)
            if group.inputs == ["client.ip"]:
                axes["address", ""] = Axis("address", group=index)
            for one in group.probes:
                kind, _, rest = one.key.partition(" ")
                if kind in ("text", "letters"):
                    text = rest.partition(" ")[2]
                    if group.inputs == ["client.ip"] or one.inputs == {"roles"}:
                        continue
                    if kind == "text":
                        axes[kind, text] = Axis(kind, text, index, self._owner(text))
                    elif group.tells_apart(one.key, f"text {rest}"):
                        axes[kind, text] = Axis(kind, text, index)
                elif kind in ("step-up", "kind", "scopes", "slash", "files", "target"):
                    axes[kind, rest] = Axis(kind, rest, index)
        for key, source, side in self._assumed():
            axes["assumed", key] = Axis("assumed", source, side=side, assumed=True)
        for source in dict.fromkeys(one for side in self._sides for one in side.parts):
            parts = [part for side in self._sides if (part := side.parts.get(source)) is not None]
            if parts[0].kind != "atom":
                atoms = [atom.source for atom in parts[0].atoms()]
                axes["condition", source] = Axis(
                    "condition",
                    source,
                    side=None if source in self._sides[NEW].parts else self._side_of(atoms),
                    assumed=any(map(self._is_assumed, atoms)),
                )
        return list(axes.values())

    def _owner(self, text: str) -> str | None:
        """The parameter that is compared with the caller's id, where that is all of it."""
        left, equals, right = (part.strip() for part in text.partition("=="))
        other = {left: right, right: left}.get("user.id")
        if not equals or other is None:
            return None
        for side in self._sides:
            for atom in side.atoms:
                if atom.source == text and atom.survey and side.route is not None:
                    for path in atom.survey.paths:
                        source = source_of(path, side.route, self.shape)
                        if isinstance(source, Source) and source.name.startswith("seg:"):
                            return self.shape.segments[int(source.name[4:])].text
        return None

    def _is_assumed(self, source: str) -> bool:
        atoms = [atom for side in self._sides for atom in side.atoms if atom.source == source]
        return any(atom.survey is None for atom in atoms)

    def _side_of(self, sources: Collection[str]) -> int | None:
        """OLD where what the old side asked gives another answer by what the new one reads."""
        atoms = (one for one in self._sides[OLD].atoms if one.source in sources)
        return None if all(map(self._means_the_same, atoms)) else OLD

    def _assumed(self) -> list[tuple[str, str, int | None]]:
        """The parts that are assumed: a key, the text, and the side where they differ."""
        assumed: dict[str, tuple[str, str, int | None]] = {}
        texts = [[a for a in side.atoms if a.survey is None] for side in self._sides]
        for side, atoms in zip(self._sides, texts, strict=True):
            for atom in atoms:
                alike = self._means_the_same(atom)
                key = atom.source if alike else f"{side.number} {atom.source}"
                assumed[key] = (key, atom.source, None if alike else side.number)
        return list(assumed.values())

    def _means_the_same(self, atom: Atom) -> bool:
        """Whether the part gives the same on both sides, whatever it gives."""
        keys = [
            meaning_of(atom, side, self.shape) for side in self._sides if side.route is not None
        ]
        return all(key == keys[0] for key in keys)

    def _ask_all(self, groups: Sequence[ProbeGroup], signed: bool) -> None:
        total = 1
        for group in groups:
            total *= len(group.kinds)
        assumed = self._assumed()
        outcomes = list(_assumptions(len(assumed)))
        points = 0
        for kinds in combined(groups):
            values: dict[str, Any] = {"signed": signed}
            for kind in kinds:
                values |= kind.values
            for given in outcomes:
                self._assume(assumed, given)
                before, after = (self._ask(side, values) for side in self._sides)
                vector = self._vector(groups, kinds, values, given)
                self.points.append(Point(vector, kinds, before, after))
                points += 1
        if points < total * len(outcomes) or len(outcomes) < 3 ** len(assumed):
            self.whole = False

    def _assume(
        self, assumed: Sequence[tuple[str, str, int | None]], given: Sequence[Outcome]
    ) -> None:
        for (_, source, number), outcome in zip(assumed, given, strict=True):
            for side in self._sides:
                if number in (None, side.number):
                    side.outcomes[source] = outcome

    def _ask(self, side: Side, values: Values) -> Decision:
        self.decisions += 1
        call, caller = self._probes.maker.make(values)
        clock = FixedClock(float(values.get("now", MOMENT)))
        return run_sync(
            Authorizer(FixedAuthenticator(caller), NoLimits(), clock=clock, origins=ORIGINS),
            call,
            side.snapshot,
        )

    def _vector(
        self,
        groups: Sequence[ProbeGroup],
        kinds: Sequence[CallKind],
        values: Values,
        given: Sequence[Outcome],
    ) -> tuple[Hashable, ...]:
        answers: dict[str, Hashable] = {}
        for group, kind in zip(groups, kinds, strict=True):
            answers |= {one.key: a for one, a in zip(group.probes, kind.answers, strict=True)}
        assumed = {key: o for (key, _, _), o in zip(self._assumed(), given, strict=True)}
        vector: list[Hashable] = []
        for axis in self.axes:
            if axis.kind == "signed":
                vector.append(values["signed"])
            elif axis.kind == "roles":
                vector.append(tuple(answers.get(one.key) for one in self._of_roles))
            elif axis.kind == "address":
                vector.append(values.get("client.ip"))
            elif axis.kind in ("text", "letters"):
                before, after = (answers.get(f"{axis.kind} {n} {axis.text}") for n in (OLD, NEW))
                here = [o for o in (before, after) if o is not None]
                vector.append(here[0] if len(set(here)) == 1 else BeforeAfter(before, after))
            elif axis.kind == "condition":
                vector.append(self._whole(axis.text, answers))
            elif axis.kind == "assumed":
                key = axis.text if axis.side is None else f"{axis.side} {axis.text}"
                vector.append(outcome_of(assumed[key]))
            elif axis.kind == "step-up":
                vector.append(answers.get(f"step-up {axis.text}", False))
            else:
                vector.append(answers.get(axis.kind))
        return tuple(vector)

    def _whole(self, source: str, answers: Mapping[str, Hashable]) -> Hashable:
        """What a whole condition gives; nothing where the sides differ, for then its parts
        say why."""
        outcomes: set[str] = set()
        for side in self._sides:
            part = side.parts.get(source)
            if part is None:
                continue

            def of_atom(atom: Condition, side: Side = side) -> Outcome:
                if atom.source in side.outcomes:
                    return side.outcomes[atom.source]
                given = answers.get(f"text {side.number} {atom.source}", FAILED)
                return {TRUE: True, FALSE: False}.get(str(given), FAILED)

            outcomes.add(outcome_of(joined(part, of_atom)))
        return outcomes.pop() if len(outcomes) == 1 else None


def _assumptions(count: int) -> Iterator[tuple[Outcome, ...]]:
    each: tuple[Outcome, ...] = (True, False, FAILED)
    if count <= MAX_ASSUMED:
        yield from product(each, repeat=count)
        return
    for value in each:
        yield (value,) * count
        for at in range(count):
            for other in each:
                if other != value:
                    yield tuple(other if i == at else value for i in range(count))

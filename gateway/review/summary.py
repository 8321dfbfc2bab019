"""What a comparison found, in the fewest changes that describe it."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Sequence
from itertools import chain, product
from typing import Any

from gateway.access.authorizer import Decision
from gateway.model import Reason, SourceLocation
from gateway.review.boxes import Box, Vector, cover
from gateway.review.call_kinds import CallKind
from gateway.review.calls import Roles
from gateway.review.changes import AccessChange, Valued, Where
from gateway.review.comparison import Axis, Comparison, Point
from gateway.review.networks import Network
from gateway.review.outcomes import (
    TRUTHS,
    WORDS,
    BeforeAfter,
    one_sided_word,
    outcome_word,
)
from gateway.review.questions import MAX_KEPT
from gateway.review.values import Choice

MAX_ROWS = 1_000
"""Named values that one change keeps."""
MAX_SHOWN = 3
"""Paths that stand for those that are meant."""
_COSTS = {"signed": 0.4, "roles": 0.5, "step-up": 0.7, "address": 0.8,
          "letters": 1.2, "condition": 1.5}  # fmt: skip
"""What it costs a reader to read this: who it is, less than a part of a condition."""
_NEVER_VALUES = ("roles", "now", "age")


def changes_of(comparison: Comparison, *, alone: bool) -> list[AccessChange]:
    """`alone`: every path of the shape is meant."""
    changes: list[AccessChange] = []
    for gains in (False, True):
        came_to = ((point, *point.came_to) for point in comparison.points)
        inside = [p for p, was, now in came_to if was != now and (now > was) is gains]
        inside.sort(key=lambda point: min(map(len, _roles(comparison, point))))
        if inside:
            summaries = _fewest(comparison, inside, gains, alone=alone)
            changes += [one.change() for one in summaries]
    return list(dict.fromkeys(changes))


def _fewest(
    comparison: Comparison, inside: Sequence[Point], gains: bool, *, alone: bool
) -> list[_Summary]:
    """By the parts of conditions; by whole conditions where that takes fewer lines."""
    alternatives: list[list[_Summary]] = []
    for whole in (False, True):
        conditions = [at for at, axis in enumerate(comparison.axes) if axis.kind == "condition"]
        if whole:
            # What differs between the sides is described by its parts.
            silent = [
                at for at in conditions if any(p.vector[at] is None for p in comparison.points)
            ]
        else:
            silent = conditions
        if whole and len(silent) == len(conditions):
            break

        def seen(point: Point, besides: Sequence[int] = tuple(silent)) -> Vector:
            return tuple(None if at in besides else v for at, v in enumerate(point.vector))

        inside_vectors = {seen(point): None for point in inside}
        outside = {seen(point): None for point in comparison.points}
        costs = [0.5 if axis.owner else _COSTS.get(axis.kind, 1.0) for axis in comparison.axes]
        boxes = cover(
            list(inside_vectors), [one for one in outside if one not in inside_vectors], costs
        )
        seen_on = [
            {point.vector[at] for point in comparison.points} for at in range(len(comparison.axes))
        ]
        boxes = [part for box in boxes for part in _parted(box, seen_on, gains)]
        summaries = [_Summary(comparison, box, inside, gains, alone=alone) for box in boxes]
        alternatives.append(_without_repeated([one for one in summaries if one.points]))
    return min(alternatives, key=len)


def _without_repeated(summaries: Sequence[_Summary]) -> list[_Summary]:
    """Without those that another, of a broader class of callers, says already."""
    kept: list[_Summary] = []
    for one in sorted(summaries, key=lambda s: sum(a is not None for a in s.box.allowed)):
        if not any(_repeats(other, one) for other in kept):
            kept.append(one)
    return [one for one in summaries if one in kept]


def _roles(comparison: Comparison, point: Point) -> set[Roles]:
    """The sets of roles with which a call is of this kind."""
    for axis, value in zip(comparison.axes, point.vector, strict=True):
        if axis.kind == "roles" and isinstance(value, tuple):
            return comparison.role_sets.get(value, {frozenset()})
    return {frozenset()}


def _parted(box: Box, seen: Sequence[set[Hashable]], gains: bool) -> Iterator[Box]:
    """A box in which a part of a condition has changed for some calls and not for others is
    described as two, where one word about what it gives does not fit both."""
    for at, allowed in enumerate(box.allowed):
        changed = frozenset(v for v in allowed or () if isinstance(v, BeforeAfter))
        if allowed is None or not changed or changed == allowed:
            continue
        if one_sided_word(allowed, seen[at], gains) is not None:
            continue
        for values in (changed, allowed - changed):
            inner = (*box.allowed[:at], values, *box.allowed[at + 1 :])
            yield from _parted(Box(inner, box.seed), seen, gains)
        return
    yield box


class _Summary:
    def __init__(
        self, comparison: Comparison, box: Box, inside: Sequence[Point], gains: bool, *, alone: bool
    ) -> None:
        self.comparison = comparison
        self.box = box
        self.gains = gains
        self.alone = alone
        self.points = [point for point in inside if box.holds(point.vector)]
        self.roles = self._smallest()

    def _axes(self, kind: str) -> Iterator[tuple[int, Axis, frozenset[Hashable]]]:
        """The axes of a kind (empty: of any) on which the box says something."""
        for at, (axis, allowed) in enumerate(
            zip(self.comparison.axes, self.box.allowed, strict=True)
        ):
            if kind in ("", axis.kind) and allowed is not None:
                yield at, axis, allowed

    def _smallest(self) -> tuple[Roles, ...]:
        for _ in self._axes("roles"):
            # Who is not signed in has no roles, which says nothing of who is.
            signed = [point for point in self.points if point.vector[0] is True]
            return _minimal(chain.from_iterable(_roles(self.comparison, p) for p in signed))
        return ()

    def change(self) -> AccessChange:
        before, after = self.points[0].before, self.points[0].after
        rule, location = _blamed(before, after)
        blocks, addresses = self._addresses()
        where, owner_of, values = self._where()
        shape = self.comparison.shape
        return AccessChange(
            methods=(),
            any_method=False,
            host=shape.host,
            pattern=shape.pattern,
            gains=self.gains,
            certain=self.comparison.whole
            and not any(axis.assumed for _, axis, _ in self._axes("")),
            signed=self._signed(),
            roles=self.roles if any(self.roles) else (),
            unless=self._unless(),
            owner_of=owner_of,
            sign_in=tuple(
                sorted(
                    ((axis.text, True in allowed) for _, axis, allowed in self._axes("step-up")),
                    key=lambda one: not one[1],
                )
            ),
            with_=self._presented(),
            scopes=self._scopes(),
            blocks=blocks,
            addresses=addresses,
            where=where,
            values=values,
            such_as=self._such_as(),
            before=str(before.reason),
            after=str(after.reason),
            rule=rule,
            location=location,
        )

    def _presented(self) -> tuple[str, ...]:
        """What the callers show, where it is not whatever they may."""
        every = self.comparison.presented
        asked = [allowed for _, _, allowed in self._axes("kind") if not allowed >= set(every)]
        return tuple(str(one) for one in every if any(one in allowed for allowed in asked))

    def _signed(self) -> bool | None:
        for _, _, allowed in self._axes("signed"):
            return next(iter(allowed)) is True
        signed = {point.vector[0] for point in self.points}
        return None if len(signed) == 2 else next(iter(signed)) is True

    def _unless(self) -> tuple[Roles, ...]:
        """Of who loses: the roles with which they keep it."""
        if self.gains:
            return ()
        for at, _, _ in self._axes("roles"):
            allowed = (*self.box.allowed[:at], None, *self.box.allowed[at + 1 :])
            wider = Box(allowed, self.box.seed)
            keep = [
                roles
                for point in self.comparison.points
                for roles in _roles(self.comparison, point)
                if 0 not in point.came_to and wider.holds(point.vector)
            ]
            mine = self._smallest()
            return _minimal(r for r in keep if r and not any(r <= one for one in mine))
        return ()

    def _scopes(self) -> tuple[tuple[str, ...], ...]:
        for _, _, allowed in self._axes("scopes"):
            if None in allowed:
                return ()
            named: list[tuple[str, ...]] = sorted(one for one in allowed if isinstance(one, tuple))
            return tuple(
                one for one in named
                if not any(set(other) < set(one) for other in named)
                and (one != ("*",) or len(named) == 1)
            )  # fmt: skip
        return ()

    def _addresses(self) -> tuple[tuple[Network, ...], str]:
        """Where the call comes from, as blocks and in words; empty: from anywhere."""
        groups = (*self.comparison.signed_groups, *self.comparison.anonymous_groups)
        for _, _, allowed in self._axes("address"):
            networks: set[Network] = set()
            for group in groups:
                if group.cells is None or group.inputs != ["client.ip"]:
                    continue
                for kind in group.kinds:
                    if kind.values["client.ip"] in allowed:
                        texts = (sample["client.ip"].value for sample in kind.samples)
                        networks |= {group.cells.cell(text) for text in texts}
                cells = group.cells
            return tuple(cells.blocks(networks)), cells.describe(networks)
        return (), ""

    def _where(self) -> tuple[tuple[Where, ...], tuple[str, ...], Valued | None]:
        where: list[Where] = []
        owner_of: list[str] = []
        changed: list[tuple[int, Axis, frozenset[Hashable]]] = []
        for at, axis, allowed in (*self._axes("text"), *self._axes("letters")):
            letters = axis.kind == "letters"
            moved = [value for value in allowed if isinstance(value, BeforeAfter)]
            if moved and len(moved) < len(allowed):
                seen = {point.vector[at] for point in self.comparison.points}
                word = one_sided_word(allowed, seen, self.gains)
                now, before = (word, None) if self.gains else (None, word)
                where.append(Where(axis.text, now, before, letters))
                continue
            if moved:
                changed.append((at, axis, allowed))
                continue
            outcome = self._outcome_of_axis(at, allowed)
            others = {point.vector[at] for point in self.comparison.points} - allowed
            # Of whom it has changed for is said elsewhere: here it was and is the same.
            still = any(isinstance(v, BeforeAfter) and v.after in WORDS[outcome] for v in others)
            if axis.owner is not None and outcome == "true" and not still:
                owner_of.append(axis.owner)
            else:
                where.append(Where(axis.text, outcome, outcome if still else None, letters))
        for kind in ("condition", "assumed"):
            for at, axis, allowed in self._axes(kind):
                outcome = self._outcome_of_axis(at, allowed)
                was = kind == "condition" and axis.side is not None
                where.append(Where(axis.text, *((None, outcome) if was else (outcome, None))))
        for kind, held in (("slash", "an encoded slash"), ("files", "`;`, `%5C` or `%25`")):
            for _, _, allowed in self._axes(kind):
                outcome = "true" if True in allowed else "not true"
                where.append(Where(f"the path holds {held}", outcome))
        values, untold = self._values(changed)
        for _, axis, allowed in untold:
            moved = [value for value in allowed if isinstance(value, BeforeAfter)]
            befores, afters = {one.before for one in moved}, {one.after for one in moved}
            gives, gave = (outcome_word(one, one, TRUTHS) for one in (afters, befores))
            where.append(Where(axis.text, gives, gave, axis.kind == "letters"))
        return tuple(where), tuple(dict.fromkeys(owner_of)), values

    def _outcome_of_axis(self, at: int, allowed: frozenset[Hashable]) -> str:
        outcomes = {point.vector[at] for point in self.points}
        seen = {point.vector[at] for point in self.comparison.points}
        # What it gives on one side alone is no less something that it gives.
        seen |= {v for one in seen if isinstance(one, BeforeAfter) for v in (one.before, one.after)}
        return outcome_word(outcomes, allowed, seen)

    def _values(
        self, changed: Sequence[tuple[int, Axis, frozenset[Hashable]]]
    ) -> tuple[Valued | None, list[tuple[int, Axis, frozenset[Hashable]]]]:
        """The named values with which those parts have changed; and the parts that these do
        not describe."""
        by_group: dict[int, list[tuple[int, Axis, frozenset[Hashable]]]] = {}
        for one in changed:
            by_group.setdefault(one[1].group, []).append(one)
        untold: list[tuple[int, Axis, frozenset[Hashable]]] = []
        valued: Valued | None = None
        for index, axes in by_group.items():
            names = self._inputs(index, [axis.text for _, axis, _ in axes])
            rows, whole = self._rows(index, names)
            named = [
                at for at, name in enumerate(names)
                if name not in _NEVER_VALUES and all(row[at].named for row in rows)
            ]  # fmt: skip
            if valued is not None or not named:
                untold += axes
                continue
            if len(named) < len(names) or not whole:
                untold += axes
            cut = dict.fromkeys(
                values for row in rows for values in product(*(_alike(row[at]) for at in named))
            )
            kept = tuple(sorted(cut, key=repr))[:MAX_ROWS]
            valued = Valued(tuple(self._named(names[at]) for at in named), kept)
        return valued, untold

    def _inputs(self, index: int, texts: Sequence[str]) -> list[str]:
        group = self.comparison.signed_groups[index]
        inputs = {
            name
            for one in group.probes
            if one.key.partition(" ")[2].partition(" ")[2] in texts
            for name in one.inputs
        }
        return sorted(inputs, key=lambda name: (name != "user.id", name))

    def _rows(self, index: int, names: Sequence[str]) -> tuple[list[tuple[Choice, ...]], bool]:
        """The choices of those inputs in every call that the box holds."""
        rows: dict[tuple[str, ...], tuple[Choice, ...]] = {}
        kinds: dict[int, CallKind] = {}
        for point in self.points:
            if point.vector[0] is True:
                kinds[id(point.kinds[index])] = point.kinds[index]
        whole = True
        for kind in kinds.values():
            whole &= len(kind.samples) < MAX_KEPT
            for sample in kind.samples:
                row = tuple(sample.get(name, Choice(None)) for name in names)
                rows[tuple(repr(choice.value) for choice in row)] = row
        return list(rows.values()), whole

    def _named(self, name: str) -> str:
        kind, _, key = name.partition(":")
        if kind == "seg":
            return "{" + self.comparison.shape.segments[int(key)].text + "}"
        words = {"query": 'request.query["{}"]', "header": 'request.headers["{}"]',
                 "claim": "user.claims.{}", "attributes": "user.attributes.{}",
                 "tenants": "user.tenants.{}", "body": "body.{}",
                 "host": "request.host"}  # fmt: skip
        return words.get(kind, name).format(key)

    def _such_as(self) -> str:
        """Paths that are meant, where not all of the pattern are."""
        paths = [] if self.alone else [dict(self.comparison.pair.values)]
        for _, axis, _ in self._axes("target"):
            # Of what a rewrite makes, some is another route's.
            names = [f"seg:{at}" for at in self.comparison.shape.open]
            rows, _ = self._rows(axis.group, names)
            at = self.comparison.shape.open
            paths = [dict(zip(at, (one.value for one in row), strict=True)) for row in rows]
        segments = [self.comparison.shape.filled(path) for path in paths[:MAX_SHOWN]]
        return ", ".join("/" + "/".join(one) for one in segments)


def _repeats(broad: _Summary, narrow: _Summary) -> bool:
    """Whether whoever has more roles than `broad` names is all that `narrow` says."""
    for at, axis in enumerate(broad.comparison.axes):
        left, right = broad.box.allowed[at], narrow.box.allowed[at]
        if axis.kind != "roles" and left is not None and (right is None or not right <= left):
            return False
    if not {p.vector[0] for p in narrow.points} <= {p.vector[0] for p in broad.points}:
        # The roles of a box may leave out who is not signed in.
        return False
    anybody: tuple[Roles, ...] = (frozenset(),)
    return all(any(a <= b for a in broad.roles or anybody) for b in narrow.roles or anybody)


def _minimal(sets: Iterable[Roles]) -> tuple[Roles, ...]:
    every = set(sets)
    smallest = [one for one in every if not any(other < one for other in every)]
    return tuple(sorted(smallest, key=lambda roles: sorted(map(sorted, roles))))


def _blamed(before: Decision, after: Decision) -> tuple[str | None, SourceLocation | None]:
    # Who loses because no rule allows any more is shown the one that did.
    silent = after.reason == Reason.NO_RULE and after.rule is None
    blamed = before if silent or after.location is None else after
    return blamed.rule, blamed.location


def _alike(choice: Choice) -> tuple[Any, ...]:
    return choice.alike or (choice.value,)

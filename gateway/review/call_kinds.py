"""Every kind of call that two routes can tell apart, each by one call that stands for it.

What is asked of a call (the parts of conditions, permissions, sign-ins) falls into groups
that share no input.  Each group is tried with every value its inputs need; calls that give
the same answers to it are one kind.  The kinds of all groups are then combined.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import product
from math import prod
from typing import Any

from gateway.review import values as choosing
from gateway.review.calls import ABSENT, Roles, Values
from gateway.review.networks import Cells
from gateway.review.other_letters import in_other_letters
from gateway.review.questions import MAX_KEPT, MAX_TRIED, Probe, World, compared_by
from gateway.review.role_sets import RoleSets
from gateway.review.values import Choice, ComparedValues, Wanted

_IDS = ("user.id", "user.session_id")
MAX_POINTS = 20_000
"""Kinds of calls that are asked of both sides."""


@dataclass(slots=True)
class CallKind:
    """Calls that a group cannot tell apart."""

    answers: tuple[Hashable, ...]
    samples: list[dict[str, Choice]]
    roles: set[Roles] = field(default_factory=set)
    """The sets of roles in them, where roles are asked for."""

    @property
    def values(self) -> dict[str, Any]:
        return {name: choice.value for name, choice in self.samples[0].items()}


@dataclass(slots=True)
class ProbeGroup:
    probes: list[Probe]
    inputs: list[str]
    kinds: list[CallKind] = field(default_factory=list)
    cells: Cells | None = None
    """Where addresses are compared: the parts into which the networks cut them."""
    whole: bool = True
    """Whether every combination was tried."""

    def tells_apart(self, *keys: str) -> bool:
        """Whether these questions, as far as they are of it, ever have different answers."""
        asked = [at for at, probe in enumerate(self.probes) if probe.key in keys]
        return any(len({kind.answers[at] for at in asked}) > 1 for kind in self.kinds)


def _lists_of(probe: Probe) -> set[str]:
    """The inputs that it asks whether they hold another."""
    paths = () if probe.survey is None else probe.survey.lists
    sources = (probe.sources.get(path) for path in paths)
    return {source.name for source in sources if source is not None}


def groups_of(probes: Iterable[Probe]) -> list[ProbeGroup]:
    """The questions by the inputs that they share."""
    groups: list[ProbeGroup] = []
    for one in probes:
        shared = [group for group in groups if one.inputs & set(group.inputs)]
        merged = ProbeGroup([one], sorted(one.inputs))
        for group in shared:
            groups.remove(group)
            merged.probes = group.probes + merged.probes
            merged.inputs = sorted({*merged.inputs, *group.inputs})
        groups.append(merged)
    return groups


class Solver:
    """Finds the kinds of one group."""

    def __init__(self, group: ProbeGroup, world: World) -> None:
        self._group = group
        self._world = world
        self._tried = 0
        self._found: dict[tuple[Hashable, ...], CallKind] = {}
        self._surveyed = [one for one in group.probes if one.survey is not None]
        self._wanted = {name: self._wants(name) for name in group.inputs}

    def solve(self) -> None:
        group = self._group
        self._fill({}, self._order())
        group.kinds = list(self._found.values())
        if self._tried >= MAX_TRIED:
            group.whole = False

    def _order(self) -> list[str]:
        """What is presented first, as it says which ids there may be; then keys of tables: what
        else is compared depends on the entry that they name."""
        keys = [name for name in self._group.inputs if name == "kind"]
        for one in self._surveyed:
            assert one.survey is not None
            for steps in one.survey.tables:
                sources = [one.sources.get(step) for step in steps if isinstance(step, tuple)]
                keys += [s.name for s in sources if s is not None and s.name in self._group.inputs]
        keys = [name for name in dict.fromkeys(keys) if not self._listing(name)]
        rest = [name for name in self._group.inputs if name not in keys]
        return [*keys, *sorted(rest, key=self._turn)]

    def _turn(self, name: str) -> tuple[int, ...]:
        """What may be the least first; what is read as a part of a text before what is all of
        one; what may be anything, and hold the others, after them."""
        last = {"now": 1, "age": 2, "client.ip": 3, "roles": 4}
        around = max((len("".join(one)) for one in self._wanted[name].wrapped), default=0)
        anything = name.startswith(choosing.ANYTHING)
        bound = 0 if name.startswith(("seg:", "host")) else 2 if anything else 1
        return last.get(name, 0), bool(self._listing(name)), -around, bound

    def _wants(self, name: str) -> Wanted:
        wanted = Wanted()
        if name in _IDS:
            wanted.begins = frozenset(one.partition(":")[0] + ":" for one in self._world.ids)
        if self._asks("slash", name):
            wanted.affixes.add(("contains", "/"))
        for one in self._surveyed:
            assert one.survey is not None
            wanted.wrapped |= one.wrapped.get(name, frozenset())
            # What one input is asked to begin with, another may be that is compared with it.
            wanted.affixes |= one.survey.role_affixes.union(*one.survey.affixes.values())
            wanted.every |= one.survey.every
        wanted.letters = any(
            name in one.inputs and one.key.startswith("letters ") for one in self._group.probes
        )
        wanted.capitals = wanted.letters and self._world.has_capitals
        if wanted.letters:
            wanted.affixes |= {(how, in_other_letters(text)) for how, text in wanted.affixes}
        return wanted

    def _listing(self, name: str) -> list[Probe]:
        """The parts that ask what it holds, or what that holds with which it is compared."""
        names = {name}
        for one in self._surveyed:
            if name in one.inputs and not _lists_of(one) and name.startswith(choosing.ANYTHING):
                names |= {other for other in one.inputs if other.startswith(choosing.ANYTHING)}
        return [one for one in self._surveyed if not names.isdisjoint(_lists_of(one))]

    def _held(self, name: str, fixed: Values) -> ComparedValues | None:
        asking = self._listing(name)
        if not asking:
            return None
        read = frozenset[str]().union(*(one.inputs for one in asking))
        values = {one: value for one, value in fixed.items() if one in read}
        return compared_by(asking, values)

    def _asks(self, sign: str, name: str) -> bool:
        """Whether it is asked of this part of the path that it holds such a sign."""
        return name.startswith("seg:") and any(one.key == sign for one in self._group.probes)

    def _fill(self, chosen: dict[str, Choice], left: list[str]) -> None:
        if self._tried >= MAX_TRIED:
            return
        if not left:
            self._keep(chosen)
            return
        name, *rest = left
        fixed = {one: choice.value for one, choice in chosen.items()}
        for choice in self._choices(name, fixed):
            if self._world.is_possible({**self._world.ordinary, **fixed, name: choice.value}):
                self._fill({**chosen, name: choice}, rest)

    def _keep(self, chosen: dict[str, Choice]) -> None:
        self._tried += 1
        filled = {**self._world.ordinary, **{name: one.value for name, one in chosen.items()}}
        answers = tuple(one.answer(filled) for one in self._group.probes)
        kind = self._found.setdefault(answers, CallKind(answers, []))
        if "roles" in chosen:
            kind.roles.update(chosen["roles"].alike)
        if len(kind.samples) < MAX_KEPT or len(chosen) == 1:
            kind.samples.append(chosen)

    def _choices(self, name: str, fixed: Values) -> list[Choice]:
        surveys = [one.survey for one in self._surveyed if one.survey is not None]
        # Parts of the path that are yet to come may not be whatever is compared with them.
        ordinary = {
            one: self._world.made_up(one)[0].value
            for one in self._group.inputs
            if one not in fixed and one != name and one.startswith(("seg:", "host"))
        }
        values_compared = compared_by(self._surveyed, fixed, ordinary)
        for text in self._world.extra.get(name, ()):
            values_compared.add(text, "extra", text)
        if not set(_IDS).isdisjoint(self._group.inputs):
            for text in self._world.ids:
                values_compared.add(text, "extra", text)
        if name == "user.email_verified":
            return [Choice(True), Choice(False)]
        if name == "client.ip":
            choices, cells = choosing.addresses(values_compared)
            self._group.cells = self._group.cells or cells
            return choices
        if name == "now":
            return choosing.times(values_compared, surveys)
        if name == "age":
            compared = {age for survey in surveys for age in survey.ages_s}
            return choosing.ages({*compared, *self._ages()})
        if name == "roles":
            sets_of = RoleSets(self._surveyed, self._world)
            choices = [Choice(sets[0], sets) for sets in sets_of.smallest(fixed)]
            self._group.whole &= sets_of.whole
            return choices
        if name in ("kind", "scopes", "amr", "slash"):
            return self._plain(name)
        made_up, wanted = list(self._world.made_up(name)), self._wanted[name]
        texts = choosing.texts(name, values_compared, wanted, self._world.is_good)
        if name.startswith(choosing.ANYTHING):
            wanted.listed = self._held(name, fixed)
            texts = choosing.spread(name, values_compared, wanted, [*made_up, *texts])
        self._group.whole &= wanted.whole
        if name.startswith(choosing.ANYTHING):
            return texts
        if self._asks("files", name):
            # Where a reader cuts at the sign, it still begins and ends as it does.
            cut = {f"{one.value};{one.value}" for one in (*made_up, *texts) if ";" not in one.value}
            texts += [Choice(text) for text in sorted(cut) if self._world.is_good(name, text)]
        absent = name.startswith(("query:", "header:")) or name in (
            "user.email", "user.session_id",
        )  # fmt: skip
        return [*made_up, *texts, *([Choice(ABSENT)] if absent else [])]

    def _ages(self) -> Iterator[float]:
        for one in self._group.probes:
            if one.key.startswith("step-up ") and one.key.split()[1] != "None":
                yield float(one.key.split()[1])

    def _plain(self, name: str) -> list[Choice]:
        if name == "kind":
            return list(self._world.presented)
        if name == "scopes":
            return choosing.scopes(self._world.actions)
        if name == "slash":
            return [Choice(False), Choice(True)]
        methods = sorted(
            {word for one in self._group.probes if one.key.startswith("step-up ")
             for word in one.key.split()[2:]}
        )  # fmt: skip
        subsets = product(*(((), (method,)) for method in methods))
        return [Choice(sum(chosen, ())) for chosen in subsets]


def combined(groups: Sequence[ProbeGroup]) -> Iterator[tuple[CallKind, ...]]:
    """Every combination of the kinds of all groups; not more than MAX_POINTS."""
    if prod(len(group.kinds) for group in groups) <= MAX_POINTS:
        yield from product(*(group.kinds for group in groups))
        return
    # Too many: each kind with the first of the others, and any two.
    first = tuple(group.kinds[0] for group in groups)
    count = 0
    for one, group in enumerate(groups):
        for other in range(one + 1, len(groups)):
            for left, right in product(group.kinds, groups[other].kinds):
                point = list(first)
                point[one], point[other] = left, right
                yield tuple(point)
                count += 1
                if count >= MAX_POINTS:
                    return

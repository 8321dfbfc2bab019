"""Every kind of call that two routes can tell apart, each by one call that stands for it.

What is asked of a call (the parts of conditions, permissions, sign-ins) falls into groups
that share no input.  Each group is tried with every value its inputs need; calls that give
the same answers to it are one kind.  The kinds of all groups are then combined.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from math import prod
from typing import Any

from gateway.review import values as choosing
from gateway.review.affixes import Affix, affixed, met_by
from gateway.review.atoms import Survey, TableStep
from gateway.review.calls import ABSENT, Roles, Source, Values
from gateway.review.networks import Cells
from gateway.review.values import Choice, ComparedValues, Wanted

MAX_TRIED = 40_000
"""Calls that are made up for one group of questions."""
MAX_POINTS = 20_000
"""Kinds of calls that are asked of both sides."""
ANOTHER_ROLE = "another-role"
"""One that nobody names; `x-another-role` is one of which only the beginning is asked for."""
MAX_KEPT = 200
"""Calls of one kind that are kept to be shown."""


@dataclass(frozen=True, slots=True)
class Probe:
    """One question to a call, and the inputs that settle it."""

    key: str
    """`text 0 user.id == 'ann'` (of the side 0), `permits 1`, `step-up 900 totp`, `kind`, …"""
    inputs: frozenset[str]
    answer: Callable[[Values], Hashable]
    survey: Survey | None = None
    """Of a part of a condition: what it compares."""
    data: Mapping[str, Any] = field(default_factory=dict)
    side: int = 0
    sources: Mapping[TableStep, Source | None] = field(default_factory=dict)
    """Where each path that it reads comes from."""
    wrapped: Mapping[str, frozenset[tuple[str, str]]] = field(default_factory=dict)


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


@dataclass(frozen=True, slots=True)
class World:
    """What is the same for all groups of one pair of routes."""

    ordinary: Mapping[str, Any]
    """The values of inputs that nobody compares."""
    made_up: Callable[[str], Sequence[Choice]]
    """Values of an input that no configuration names, the ordinary one first."""
    is_good: Callable[[str, str], bool]
    """Whether an input may have a text."""
    roles: Collection[str]
    """Every role that a policy defines."""
    does: Callable[[str, Collection[str]], frozenset[Hashable]]
    """What a role does, where conditions ask for some roles by name."""
    extra: Mapping[str, frozenset[str]] = field(default_factory=dict)
    """Texts that an input is to be tried with besides."""
    actions: frozenset[str] = frozenset()
    presented: Sequence[Choice] = ()
    """What a caller may show, where that is asked for."""
    ids: frozenset[str] = frozenset()
    """A caller of each foreign issuer: what their id is compared with may be it."""
    is_possible: Callable[[Values], bool] = lambda _: True


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
        """Keys of tables first: what else is compared depends on the entry that they name."""
        keys: list[str] = []
        for one in self._surveyed:
            assert one.survey is not None
            for steps in one.survey.tables:
                sources = [one.sources.get(step) for step in steps if isinstance(step, tuple)]
                keys += [s.name for s in sources if s is not None and s.name in self._group.inputs]
        last = {"now": 1, "age": 2, "client.ip": 3, "roles": 4}
        rest = [name for name in self._group.inputs if name not in keys]
        return [*dict.fromkeys(keys), *sorted(rest, key=lambda name: last.get(name, 0))]

    def _wants(self, name: str) -> Wanted:
        wanted = Wanted()
        if name == "user.id":
            wanted.begins = frozenset(one.partition(":")[0] + ":" for one in self._world.ids)
        if self._asks("slash", name):
            wanted.affixes.add(("contains", "/"))
        for one in self._surveyed:
            assert one.survey is not None
            wanted.wrapped |= one.wrapped.get(name, frozenset())
            for path, asked in one.survey.affixes.items():
                source = one.sources.get(path)
                if source is not None and source.name == name:
                    wanted.affixes |= asked
            listed = (one.sources.get(path) for path in one.survey.lists)
            wanted.listed |= any(s is not None and s.name == name for s in listed)
            wanted.every |= one.survey.every
        return wanted

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
            self._fill({**chosen, name: choice}, rest)

    def _keep(self, chosen: dict[str, Choice]) -> None:
        self._tried += 1
        filled = {**self._world.ordinary, **{name: one.value for name, one in chosen.items()}}
        if not self._world.is_possible(filled):
            return
        answers = tuple(one.answer(filled) for one in self._group.probes)
        kind = self._found.setdefault(answers, CallKind(answers, []))
        if "roles" in chosen:
            kind.roles.update(chosen["roles"].alike)
        if len(kind.samples) < MAX_KEPT or len(chosen) == 1:
            kind.samples.append(chosen)

    def _choices(self, name: str, fixed: Values) -> list[Choice]:
        surveys = [one.survey for one in self._surveyed if one.survey is not None]
        values_compared = self._known(self._surveyed, fixed)
        for text in self._world.extra.get(name, ()):
            values_compared.add(text, "extra", text)
        if "user.id" in self._group.inputs:
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
            return [Choice(sets[0], sets) for sets in self._role_sets(fixed)]
        if name in ("kind", "scopes", "amr", "slash"):
            return self._plain(name)
        made_up = list(self._world.made_up(name))
        texts = choosing.texts(name, values_compared, self._wanted[name], self._world.is_good)
        if name.startswith((*choosing.TABLE_INPUTS, "body:")):
            wanted = self._wanted[name]
            choices = choosing.spread(name, values_compared, wanted, [*made_up, *texts])
            self._group.whole &= wanted.whole
            return choices
        if self._asks("files", name):
            # Where a reader cuts at the sign, it still begins and ends as it does.
            cut = {f"{one.value};{one.value}" for one in (*made_up, *texts) if ";" not in one.value}
            texts += [Choice(text) for text in sorted(cut) if self._world.is_good(name, text)]
        absent = name.startswith(("query:", "header:")) or name in (
            "user.email", "user.session_id",
        )  # fmt: skip
        return [*made_up, *texts, *([Choice(ABSENT)] if absent else [])]

    def _known(self, probes: Sequence[Probe], fixed: Values) -> ComparedValues:
        read = ((o.side, o.survey, o.data, o.sources) for o in probes if o.survey is not None)
        return choosing.known(read, fixed)

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

    def _role_sets(self, fixed: Values) -> list[tuple[Roles, ...]]:
        """For everything that roles can do together, the smallest sets that do it.

        What a set does is all that its roles do: so the sets are built role by role.
        """
        named = self._named_roles()
        places = self._role_places(fixed)
        asked = self._role_affixes()
        made_up = self._made_up_roles({*named, *places}, asked)
        alike: dict[frozenset[Hashable], set[str]] = {}
        for role in {*named, *places, *made_up, *self._world.roles}:
            does = self._world.does(role, named) | _looks(role, asked)
            does |= {("in", places[role])} if role in places else frozenset()
            does |= {("is", role)} if role in made_up and not asked else frozenset()
            if does and choosing.is_role(role):
                alike.setdefault(does, set()).add(role)
        every = self._together(places, alike) if self._asks_for_every() else {}
        states: dict[frozenset[Hashable], set[Roles]] = {frozenset(): {frozenset()}}
        added = [(does, frozenset((frozenset(roles),))) for does, roles in alike.items()]
        for does, held in sorted([*added, *every.items()], key=lambda one: _sort_key(one[1])):
            for done, others in list(states.items()):
                sets = states.setdefault(done | does, set())
                larger = {one | held for one in others}
                sets |= {one for one in larger if not any(other <= one for other in sets)}
                if len(states) > MAX_TRIED or len(sets) > MAX_KEPT:
                    self._group.whole = False
                    return _smallest(states.values())
        return _smallest(states.values())

    def _of_roles(self) -> list[Probe]:
        return [one for one in self._surveyed if one.survey is not None and one.survey.roles]

    def _named_roles(self) -> set[str]:
        """The roles that conditions ask for by name."""
        return {t for one in self._of_roles() if one.survey is not None for t in one.survey.texts}

    def _role_places(self, fixed: Values) -> dict[str, frozenset[tuple[object, ...]]]:
        """The roles that conditions compare with what a table or the call holds, and where each of
        them stands: of those that stand in the same places, one is as good as another."""
        asked = self._of_roles()
        if not any(one.survey is not None and one.survey.any_role for one in asked):
            return {}
        read = frozenset[str]().union(*(one.inputs for one in asked))
        compared = self._known(asked, {n: value for n, value in fixed.items() if n in read})
        return {
            text: frozenset(places)
            for text, places in compared.places.items()
            if choosing.is_role(text)
        }

    def _asks_for_every(self) -> bool:
        return any(one.survey is not None and one.survey.every for one in self._surveyed)

    def _together(
        self,
        places: Mapping[str, frozenset[tuple[object, ...]]],
        alike: Mapping[frozenset[Hashable], set[str]],
    ) -> dict[frozenset[Hashable], Roles]:
        """All the roles that stand in the same places at once, where there are several."""
        together: dict[frozenset[Hashable], Roles] = {}
        for one in set(places.values()):
            members = [role for role in places if places[role] == one]
            if len(members) > 1:
                does = (d for d, roles in alike.items() if not roles.isdisjoint(members))
                done = frozenset[Hashable]().union(*does, ((("every", one)),))
                together[done] = frozenset(frozenset((role,)) for role in members)
        return together

    def _role_affixes(self) -> frozenset[frozenset[Affix]]:
        """What roles are asked to begin, end or be filled with, by the parts that ask it."""
        surveys = (one.survey for one in self._surveyed if one.survey is not None)
        return frozenset(frozenset(one.role_affixes) for one in surveys if one.role_affixes)

    def _made_up_roles(
        self, named: Collection[str], asked: frozenset[frozenset[Affix]]
    ) -> set[str]:
        """Of roles that nobody names, one for each thing that they can be to the conditions."""
        if not any(one.survey is not None and one.survey.any_role for one in self._of_roles()):
            return set()
        taken, besides = {*named, *self._world.roles}, frozenset[Affix]().union(*asked)
        # That it begins with nothing, is asked of none: so there is one of no such name.
        wanted = asked or {frozenset({("startsWith", "")})}
        return {
            role
            for one in wanted
            for role in affixed(one, taken, besides=besides, readable=ANOTHER_ROLE)
        }


def _looks(role: str, asked: Iterable[frozenset[Affix]]) -> frozenset[Hashable]:
    """What a role is to each part that asks how roles begin, end or are filled."""
    return frozenset((one, met_by(role, one)) for one in asked)


def _smallest(states: Iterable[set[Roles]]) -> list[tuple[Roles, ...]]:
    """Of each state the sets that hold none of its others."""
    smallest = []
    for sets in states:
        least = [one for one in sets if not any(other < one for other in sets)]
        smallest.append(tuple(sorted(least, key=_sort_key)))
    return sorted(smallest, key=lambda sets: _sort_key(sets[0]))


def _sort_key(roles: Roles) -> tuple[int, list[list[str]]]:
    return len(roles), sorted(map(sorted, roles))


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

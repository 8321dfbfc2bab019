"""Sets of roles that stand for all that roles can do to the parts of some conditions.

What a set of roles does is all that its roles do: so the sets are built role by role, and of all
that do the same the smallest are kept.
"""

from __future__ import annotations

from collections.abc import Collection, Hashable, Iterable, Mapping, Sequence

from gateway.review import values as choosing
from gateway.review.affixes import Affix, affixed, every_is_made, in_order, met_by
from gateway.review.calls import Roles, Values
from gateway.review.questions import MAX_KEPT, MAX_TRIED, Probe, World, compared_by
from gateway.review.values import ComparedValues

ANOTHER_ROLE = "another-role"
"""One that nobody names; `x-another-role` is one of which only the beginning is asked for."""
Does = frozenset[Hashable]


class RoleSets:
    def __init__(self, probes: Sequence[Probe], world: World) -> None:
        self.whole = True
        """Whether all of them were made."""
        self._world = world
        self._surveys = [one.survey for one in probes if one.survey is not None]
        self._probes = [one for one in probes if one.survey is not None and one.survey.roles]
        # What these give for a set follows from what they give for each role of it.
        self._each = [one for one in self._probes if one.survey is not None and one.survey.by_role]
        self._others = [one for one in self._probes if one not in self._each]

    def smallest(self, fixed: Values) -> list[tuple[Roles, ...]]:
        """For everything that roles can do together, the smallest sets that do it, where other
        inputs have these values."""
        named = _texts(self._others)
        compared = _compared(self._probes, fixed)
        places = {
            text: frozenset(places)
            for text, places in _compared(self._others, fixed).places.items()
        }
        affixes = [frozenset(one.role_affixes) for one in self._surveys if one.role_affixes]
        mixed = frozenset(
            frozenset(one.survey.role_affixes)
            for one in self._others
            if one.survey is not None and one.survey.role_affixes
        )
        every_name = {*named, *_texts(self._each), *self._world.roles, *compared.places}
        made_up = self._made_up(every_name, affixes, compared.ordered)
        alike: dict[Does, set[str]] = {}
        for role in {*every_name, *made_up}:
            does = self._does(role, named, fixed) | _looks(role, mixed)
            does |= {("in", places[role])} if role in places else frozenset()
            does |= {("is", role)} if role in made_up and not (mixed or self._each) else frozenset()
            if does and choosing.is_role(role):
                alike.setdefault(does, set()).add(role)
        every = _together(places, alike) if any(one.every for one in self._surveys) else {}
        states: dict[Does, set[Roles]] = {frozenset(): {frozenset()}}
        added = [(does, frozenset((frozenset(roles),))) for does, roles in alike.items()]
        for does, held in sorted([*added, *every.items()], key=lambda one: _sort_key(one[1])):
            for done, others in list(states.items()):
                sets = states.setdefault(done | does, set())
                larger = {one | held for one in others}
                sets |= {one for one in larger if not any(other <= one for other in sets)}
                if len(states) > MAX_TRIED or len(sets) > MAX_KEPT:
                    self.whole = False
                    return _smallest(states.values())
        return _smallest(states.values())

    def _does(self, role: str, named: Collection[str], fixed: Values) -> Does:
        alone = frozenset((frozenset((role,)),))
        values = {**self._world.ordinary, **fixed, "roles": alone}
        given = frozenset((one.key, one.answer(values)) for one in self._each)
        return self._world.does(role, named) | given

    def _made_up(
        self, taken: Collection[str], asked: Sequence[frozenset[Affix]], ordered: Collection[str]
    ) -> set[str]:
        """Of roles that nobody names, one for each thing that they can be to the conditions."""
        if not any(one.survey is not None and one.survey.any_role for one in self._probes):
            return set()
        besides = frozenset[Affix]().union(*asked)
        # That it begins with nothing, is asked of none: so there is one of no such name.
        wanted = set(asked) or {frozenset({("startsWith", "")})}
        if any(one.each_role for one in self._surveys) or ordered:
            # One role may have to be all of it at once.
            wanted = {besides | {("startsWith", "")}}
        self.whole &= all(every_is_made(one, ordered) for one in wanted)
        made = {
            role
            for one in wanted
            for role in affixed(one, taken, besides=besides, readable=ANOTHER_ROLE)
        }
        return made | set(in_order(besides, ordered, readable=ANOTHER_ROLE))


def _texts(probes: Iterable[Probe]) -> set[str]:
    """The roles that conditions ask for by name."""
    return {text for one in probes if one.survey is not None for text in one.survey.texts}


def _compared(probes: Sequence[Probe], fixed: Values) -> ComparedValues:
    """What roles are compared with of what a table or the call holds, and where each of it stands:
    of those that stand in the same places, one is as good as another."""
    if not any(one.survey is not None and one.survey.any_role for one in probes):
        return ComparedValues()
    read = frozenset[str]().union(*(one.inputs for one in probes))
    return compared_by(probes, {n: value for n, value in fixed.items() if n in read})


def _together(
    places: Mapping[str, frozenset[tuple[object, ...]]], alike: Mapping[Does, set[str]]
) -> dict[Does, Roles]:
    """All the roles that stand in the same places at once, where there are several."""
    together: dict[Does, Roles] = {}
    for one in set(places.values()):
        members = [role for role in places if places[role] == one and choosing.is_role(role)]
        if len(members) > 1:
            does = (d for d, roles in alike.items() if not roles.isdisjoint(members))
            done = frozenset[Hashable]().union(*does, ((("every", one)),))
            together[done] = frozenset(frozenset((role,)) for role in members)
    return together


def _looks(role: str, asked: Iterable[frozenset[Affix]]) -> Does:
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

"""What a path, a query and header fields give for the values that conditions compare them with.

Law: as within a body (`body_values.py`), what a backend makes one of these by trimming, rounding or
converting is refused, and it is refused wherever it came from.  All of it is text: none is a list,
an object or a number.  Of a path so is what is left of it where some backend ends it earlier
(`cut_values.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from gateway.access.conditions.resource_uses import ITEM, Place, ResourceUses, joined
from gateway.access.policies import ResourceField
from gateway.access.routing.cut_values import cuts
from gateway.access.routing.named_values import NamedValues
from gateway.access.routing.naming import NamingRules, named_places
from gateway.model import Reason

_PATH, _QUERY, _HEADERS = "params", "query", "headers"
_Named = tuple[tuple[str, NamedValues], ...]


class TextValues:
    """By where they come from and their name there; none of it is empty in every place."""

    __slots__ = ("_headers", "_path", "_query")

    def __init__(self, named: Mapping[Place, NamedValues]) -> None:
        self._path = _of(_PATH, named)
        self._query = _of(_QUERY, named)
        self._headers = _of(_HEADERS, named)

    def refusal(self, query: Mapping[str, str], headers: Mapping[str, str]) -> Reason | None:
        """Of a call of which this was read."""
        if _any_becomes(self._query, query):
            return Reason.AMBIGUOUS_QUERY
        return Reason.AMBIGUOUS_HEADER if _any_becomes(self._headers, headers) else None

    def refuses_path(
        self, params: Mapping[str, str], sent: str, last_param: Callable[[], str]
    ) -> bool:
        """`sent`: the path as it came; `last_param`: which parameter stands last in it."""
        for name, named in self._path:
            value = params.get(name)
            if value is None:
                continue
            if named.may_become(value):
                return True
            # Nearly every value is of letters and digits, or one of these with `-` between them.
            if value.replace("-", "").isalnum() or named.names(value):
                continue
            for found in cuts(value, is_last=name == last_param(), sent=sent):
                cut = found.strip()  # a blank that stood within says nothing of a caller's text
                if named.names(cut) or named.may_become(cut):
                    return True
        return False

    def takes_what_refuses(self, other: TextValues) -> bool:
        """Whether some call passes here that does not there."""
        for theirs, ours in (
            (other._path, dict(self._path)),
            (other._query, dict(self._query)),
            (other._headers, dict(self._headers)),
        ):
            for name, named in theirs:
                known = ours.get(name)
                if known is None or named.refuses_more(known, texts_alone=True):
                    return True
        return False


def text_values(resource: Sequence[ResourceField], rules: NamingRules) -> TextValues | None:
    """None where no condition names a value of any of it."""
    sources: dict[Place, Place] = {
        (one.name,): (one.template.pieces[0].source, one.template.pieces[0].text)
        for one in resource
        if len(one.template.pieces) == 1
    }
    free = {place for one in rules.allowing for place in one.uses.any_form}
    free_of_call = {place for one in rules.allowing for place in one.call_uses.any_form}
    uses = ResourceUses()
    for one in rules.naming:
        of_call: dict[Place, Place] = {
            # An item is what is looked for in all of them: whether it is there.
            place: place
            for place in named_places(one.call_uses)
            if len(place) == 2 and place[1] is not ITEM
        }
        uses = joined((uses, _moved(one.uses, sources), _moved(one.call_uses, of_call)))
        free |= one.uses.any_form
        free_of_call |= one.call_uses.any_form
    free_of_call |= {sources[place] for place in free if place in sources}
    named = dict(rules.values_of(uses, named_places(uses) - free_of_call))
    found = TextValues(named)
    return found if any(place[0] in (_PATH, _QUERY, _HEADERS) for place in named) else None


def _moved(uses: ResourceUses, to: Mapping[Place, Place]) -> ResourceUses:
    """What is named, by where it comes from."""
    return ResourceUses(
        values={(to[at], kind, value) for at, kind, value in uses.values if at in to},
        tables={(to[at], steps) for at, steps in uses.tables if at in to},
        equals={(to[at], steps) for at, steps in uses.equals if at in to},
        texts={to[at] for at in uses.texts if at in to},
        ordered={to[at] for at in uses.ordered if at in to},
    )


def _of(source: str, named: Mapping[Place, NamedValues]) -> _Named:
    found = [(str(name), values) for (at, name), values in named.items() if at == source]
    return tuple(sorted(found, key=_name))


def _name(one: tuple[str, NamedValues]) -> str:
    return one[0]


def _any_becomes(named: _Named, values: Mapping[str, str]) -> bool:
    for name, one in named:
        value = values.get(name)
        if value is not None and one.may_become(value):
            return True
    return False

"""What the paths of all routes of a table have in common, so that nothing else is looked for."""

from __future__ import annotations

from gateway.access.routing.routes import Route, SegmentKind
from gateway.access.routing.spellings import (
    Spellings,
    folded_path,
    page_name,
    spellings_of,
)
from gateway.access.routing.value_spellings import values_of


class RouteForms:
    """Of all routes that were added."""

    def __init__(self) -> None:
        self.has_other_spellings = False
        """Whether a route names a path in other letters than small ones, with a final slash, or by
        the name of a page."""
        self.kinds: set[SegmentKind] = set()
        """Of the segments of all routes; a literal that is a number or a UUID counts as one."""
        self.most_dots = 0
        """In the last name of a route's path."""
        self.most_segments = 0
        """Of a route that names the end of its path."""
        self.most_places = 0
        """Of any route."""
        self._spelled: tuple[tuple[str, ...], dict[bool, Spellings]] = ((), {})
        """Of the last path, by whether its end is named: several questions are asked of one, one
        after the other."""

    def spellings(self, segments: tuple[str, ...], *, named: bool, most_letters: int) -> Spellings:
        """As `spellings_of`."""
        path, known = self._spelled
        if path is not segments:
            known = {}
            self._spelled = segments, known
        spellings = known.get(named)
        if spellings is None:
            most = self.most_dots, self.most_segments, self.most_places
            spellings = spellings_of(
                segments, *most, names_its_end=named, most_letters=most_letters
            )
            if spellings.paths:
                known[named] = spellings
        return spellings

    def add(self, route: Route) -> None:
        self._spelled = (), {}
        texts = route.texts()
        folded = folded_path(texts)
        self.has_other_spellings |= folded != texts or page_name(texts[-1]) is not None
        self.most_dots = max(self.most_dots, folded[-1].count("."))
        self.most_places = max(self.most_places, len(texts))
        if texts[-1] != "*":
            self.most_segments = max(self.most_segments, len(folded))
        self.kinds.update(segment.kind for segment in route.segments)
        self.kinds.update(SegmentKind.INT for one in folded if values_of(one))

"""The trie in which the patterns of routes stand, and the ways to walk it.

Segment by segment from the left, literal over typed over plain over the rest, with backtracking.
"""

from __future__ import annotations

from gateway.access.routing.routes import (
    INT_SEGMENT,
    UUID_SEGMENT,
    PatternSegment,
    Route,
    SegmentKind,
)
from gateway.access.routing.spellings import folded_letters, is_asset, page_name
from gateway.access.routing.value_spellings import (
    begins_with_number,
    begins_with_uuid,
    number_of,
    uuid_of,
    values_of,
)

# Most leaves and nodes have none of their own: what they share is read at once, however many
# routes there are.
_NO_ROUTES: list[Route] = []
_NO_METHODS: dict[str, Route] = {}
_NO_NODES: dict[str, RouteNode] = {}
_NO_ALIKE: dict[str, list[RouteNode]] = {}


class RouteLeaf:
    """The routes of one pattern, by method."""

    __slots__ = ("allow", "any", "by_method", "guarded", "is_rest")

    def __init__(self, *, is_rest: bool = False) -> None:
        self.is_rest = is_rest
        """It takes whatever stands there, by no name."""
        self.guarded = _NO_ROUTES
        self.by_method = _NO_METHODS
        self.any: Route | None = None
        self.allow: tuple[str, ...] = ()
        """The methods that are told where another one is asked for."""

    def guard(self, route: Route) -> None:
        self.guarded = self.guarded or []
        self.guarded.append(route)

    def routes(self) -> list[Route]:
        routes = list(dict.fromkeys(self.by_method.values()))
        return routes if self.any is None else [*routes, self.any]

    def rival(self, route: Route) -> Route | None:
        """A route of this leaf that takes a method of `route`."""
        if self.any is not None:
            return self.any
        named = route.methods or tuple(self.by_method)
        return next((self.by_method[one] for one in named if one in self.by_method), None)

    def insert(self, route: Route) -> None:
        """Add a route that has no rival here."""
        if not route.methods:
            self.any = route
            return
        self.by_method = self.by_method | dict.fromkeys(route.methods, route)
        allow = set(self.by_method)
        if "GET" in allow:
            allow.add("HEAD")
        self.allow = tuple(sorted(allow))


class RouteNode:
    __slots__ = (
        "below",
        "leaf",
        "literals",
        "number",
        "pages",
        "plain",
        "rest",
        "unfolded",
        "uuid",
        "values",
    )

    def __init__(self) -> None:
        self.literals = _NO_NODES
        self.unfolded = _NO_ALIKE
        """Of the literals those that are not in lower case, by what they are in it."""
        self.pages = _NO_ALIKE
        """Of the literals those that name a page, by the name under which some servers give it."""
        self.values = _NO_ALIKE
        """Of the literals those that are a number or a UUID, by it."""
        self.number: RouteNode | None = None
        self.uuid: RouteNode | None = None
        self.plain: RouteNode | None = None
        self.rest: RouteLeaf | None = None
        self.leaf: RouteLeaf | None = None
        self.below: RouteLeaf | None = None
        """Of a prefix that ends here: its bare name, and that with a slash."""

    def child(self, segment: PatternSegment) -> RouteNode:
        if segment.kind is SegmentKind.LITERAL:
            return self.literals.get(segment.text) or self._literal(segment.text)
        if segment.kind is SegmentKind.INT:
            self.number = self.number or RouteNode()
            return self.number
        if segment.kind is SegmentKind.UUID:
            self.uuid = self.uuid or RouteNode()
            return self.uuid
        self.plain = self.plain or RouteNode()
        return self.plain

    def _literal(self, text: str) -> RouteNode:
        """A new child."""
        new = RouteNode()
        self.literals = self.literals or {}
        self.literals[text] = new
        if (folded := folded_letters(text)) != text:
            self.unfolded = self.unfolded or {}
            self.unfolded.setdefault(folded, []).append(new)
        for value in values_of(folded):
            self.values = self.values or {}
            self.values.setdefault(value, []).append(new)
        if (page := page_name(text)) is not None:
            self.pages = self.pages or {}
            self.pages.setdefault(page, []).append(new)
        return new


def leaves_for(node: RouteNode, route: Route) -> tuple[RouteLeaf, ...]:
    """Where the route belongs: one leaf, and two of a prefix."""
    for segment in route.segments:
        if segment.kind is SegmentKind.REST:
            node.rest = node.rest or RouteLeaf(is_rest=True)
            return (node.rest,)
        node = node.child(segment)
    if route.is_prefix:
        node.rest = node.rest or RouteLeaf(is_rest=True)
        node.below = node.below or RouteLeaf()
        return node.rest, node.below
    node.leaf = node.leaf or RouteLeaf()
    return (node.leaf,)


def walk_folded(
    node: RouteNode,
    segments: tuple[str, ...],
    at: int,
    *,
    pages: bool = False,
    own: RouteLeaf | None = None,
) -> list[RouteLeaf]:
    """Every leaf below `node` that a path so folded may be of, of the most specific kind.

    With `pages` also those of what a server may give for it: of a folder, but for the first of
    all, its page, and of a name the file of that name.

    What some backend takes for a number as a whole is one.  What only begins with one (`7-up`) is
    that of a parameter of any text, too, and where this is the leaf `own`, of nothing else.
    """
    if at == len(segments):
        slash = node.literals.get("")
        leaves = [node.leaf, node.below, None if slash is None else slash.leaf]
        if pages and at:
            leaves += [page.leaf for page in node.pages.get("", ())]
        return [leaf for leaf in leaves if leaf is not None]
    segment = segments[at]
    literals = [*node.unfolded.get(segment, ())]
    if (child := node.literals.get(segment)) is not None:
        literals.append(child)
    for value in values_of(segment) if node.values else ():
        literals += [one for one in node.values.get(value, ()) if one not in literals]
    if pages and at + 1 == len(segments):
        literals += node.pages.get(segment, ())
    found: list[RouteLeaf] = []
    for child in literals:
        found += walk_folded(child, segments, at + 1, pages=pages, own=own)
    if found:
        return found
    whole, beside = _typed(node, segment, is_last=at + 1 == len(segments))
    for child in whole:
        if found := walk_folded(child, segments, at + 1, pages=pages, own=own):
            return found
    if node.plain is not None:
        found = walk_folded(node.plain, segments, at + 1, pages=pages, own=own)
    if beside and (own is None or own.is_rest or own not in found):
        others: list[RouteLeaf] = []
        for child in beside:
            others += walk_folded(child, segments, at + 1, pages=pages, own=own)
        if others:
            return [leaf for leaf in found if not leaf.is_rest] + others
    if found:
        return found
    return [] if node.rest is None else [node.rest]


def guarded(
    guard: RouteNode,
    path: tuple[str, ...],
    leaf: RouteLeaf | None,
    method: str,
    *,
    pages: bool = False,
) -> list[Route]:
    """What a path so folded leads to but by that leaf."""
    takes = leaf is not None and any(not r.methods or method in r.methods for r in leaf.guarded)
    found = walk_folded(guard, path, 0, pages=pages, own=leaf if takes else None)
    return [route for one in found if one is not leaf for route in one.guarded]


def _typed(
    node: RouteNode, segment: str, *, is_last: bool
) -> tuple[list[RouteNode], list[RouteNode]]:
    """The nodes of a number and of a UUID that some backend takes all of the segment for, and those
    of what it only begins with."""
    whole: list[RouteNode] = []
    beside: list[RouteNode] = []
    if (number := node.number) is not None:
        if number_of(segment) is not None:
            whole.append(number)
        elif begins_with_number(segment) and not (is_last and is_asset(segment)):
            beside.append(number)
    if (uuid := node.uuid) is not None:
        if uuid_of(segment) is not None:
            whole.append(uuid)
        elif begins_with_uuid(segment):
            beside.append(uuid)
    return whole, beside


def walk(
    node: RouteNode, segments: tuple[str, ...], at: int, count: int, values: list[str]
) -> RouteLeaf | None:
    """The leaf below `node` for `segments[at:]`, its parameters appended to `values`.

    Each node of the trie is tried at most once for a path, so a hostile path costs no more
    than the table is large, and no deeper than its longest pattern.
    """
    if at == count:
        return node.leaf or node.below
    segment = segments[at]
    child = node.literals.get(segment)
    if child is not None:
        leaf = walk(child, segments, at + 1, count, values)
        if leaf is not None:
            return leaf
    if not segment:
        return node.below
    for child in (
        node.number if node.number is not None and INT_SEGMENT.match(segment) else None,
        node.uuid if node.uuid is not None and UUID_SEGMENT.match(segment) else None,
        node.plain,
    ):
        if child is not None:
            values.append(segment)
            leaf = walk(child, segments, at + 1, count, values)
            if leaf is not None:
                return leaf
            values.pop()
    if node.rest is not None:
        values.append("/".join(segments[at:]))
        return node.rest
    return None

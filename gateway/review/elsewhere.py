"""Where a route that is open to everybody leads to another backend, or to another path of one.

What a backend gives to everybody, nobody here knows: that somebody may gain is all that is said.
"""

from __future__ import annotations

from collections.abc import Iterator

from gateway.access.routing.routes import Auth, PatternSegment, Rewrite, Route, SegmentKind
from gateway.review.changes import AccessChange
from gateway.review.shapes import Pair, Shape


def led_elsewhere(shape: Shape, pair: Pair, *, alone: bool) -> Iterator[AccessChange]:
    """`alone`: every path of the shape is meant."""
    before, after = pair.old, pair.new
    if before is None or after is None or not (_is_open(before) and _is_open(after)):
        return
    if before.upstream is None or after.upstream is None:
        return  # what a route answered by itself is told of as such
    reasons = []
    # A backend that is only called otherwise is the same.
    if before.upstream.name != after.upstream.name and (
        before.upstream.targets != after.upstream.targets
    ):
        names = before.upstream.name, after.upstream.name
        reasons.append(f"it leads to the upstream {names[1]}, not {names[0]}")
    paths = _path(before), _path(after)
    if _taken(before) != _taken(after):
        reasons.append(f"it leads to {paths[1]}, not {paths[0]}")
    if reasons:
        path = "/" + "/".join(shape.filled(dict(pair.values)))
        yield AccessChange(
            methods=(),
            any_method=False,
            host=shape.host,
            pattern=shape.pattern,
            gains=True,
            certain=False,
            signed=None,
            such_as="" if alone else path,
            because=" and ".join(reasons),
            location=after.location,
        )


def _is_open(route: Route) -> bool:
    return route.auth is Auth.PUBLIC or (route.auth is Auth.OPTIONAL and route.policy is None)


def _taken(route: Route) -> tuple[object, ...]:
    """What becomes of the path, whatever its parameters are called."""
    names = {name: str(at) for at, name in enumerate(route.param_names)}
    rewrite = route.rewrite or Rewrite()
    parts = tuple(_unnamed(part, names) for part in rewrite.template)
    kept = () if rewrite.template else (rewrite.strip_segments, rewrite.add_prefix)
    return parts, kept


def _unnamed(part: PatternSegment, names: dict[str, str]) -> tuple[str, str]:
    literal = part.kind is SegmentKind.LITERAL
    return part.kind, part.text if literal else names.get(part.text, part.text)


def _path(route: Route) -> str:
    rewrite = route.rewrite
    if rewrite is None:
        return "the path as it came"
    if rewrite.template:
        parts = (
            part.text if part.kind is SegmentKind.LITERAL else f"{{{part.text}}}"
            for part in rewrite.template
        )
        return "/" + "/".join(parts)
    stripped = "/".join(
        part.text if part.kind is SegmentKind.LITERAL else f"{{{part.text}}}"
        for part in route.segments[: rewrite.strip_segments]
    )
    without = f" without /{stripped}" if rewrite.strip_segments else ""
    return f"{rewrite.add_prefix or ''}/…{without}"

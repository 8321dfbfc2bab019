"""Where a route that is open to everybody leads to another backend, or to another path of one.

What a backend gives to everybody, nobody here knows: that somebody may gain is all that is said.
"""

from __future__ import annotations

from collections.abc import Iterator

from gateway.access.routing.routes import Auth, Route, SegmentKind
from gateway.review.changes import AccessChange
from gateway.review.shapes import Pair, Shape, Shapes


def led_elsewhere(
    shapes: Shapes, shape: Shape, method: str, pair: Pair, *, alone: bool
) -> Iterator[AccessChange]:
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
    led_to = shapes.led_to(shape, method, pair)
    if led_to[0] != led_to[1]:
        paths = _path(before), _path(after)
        # Where the patterns say the same of other parts of the path: what one of it becomes.
        was, now = led_to if paths[0] == paths[1] else paths
        reasons.append(f"it leads to {now}, not {was}")
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

"""The fewest boxes that describe a set of points.

A point has one value on every axis.  A box allows some values on each axis and holds every
point that has them all; it is described by the axes on which it does not allow everything, so
that what no point has costs nothing.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

Vector = tuple[Hashable, ...]


@dataclass(frozen=True, slots=True)
class Box:
    allowed: tuple[frozenset[Hashable] | None, ...]
    """For each axis the values; None where every value is allowed."""
    seed: Vector
    """The point that it was grown from."""

    def holds(self, point: Vector) -> bool:
        return all(
            one is None or value in one for one, value in zip(self.allowed, point, strict=True)
        )


def cover(inside: Sequence[Vector], outside: Sequence[Vector], costs: Sequence[float]) -> list[Box]:
    """Boxes that hold every point of `inside` and none of `outside`.

    Each is as large as it can be; of two that hold as many, the one that is described in fewer
    words is taken.  `costs`: for each axis, what it costs to speak of it.  Points that come
    first are described first.
    """

    def cost(box: Box) -> float:
        return sum(cost for cost, one in zip(costs, box.allowed, strict=True) if one is not None)

    if not inside:
        return []
    axes = range(len(inside[0]))
    values = [{point[at] for point in (*inside, *outside)} for at in axes]
    left = dict.fromkeys(inside)
    boxes: list[Box] = []
    while left:
        seed = next(iter(left))
        # The axes on which a point of `outside` differs from the seed, each set once: while
        # one of them is kept, the point stays outside.
        differing = {sum(1 << at for at in axes if p[at] != seed[at]) for p in outside}
        opened = {_opened(differing, order) for order in _orders(axes)}
        grown = (_grown(seed, outside, one, values) for one in sorted(opened))
        box = max(grown, key=lambda one: (sum(map(one.holds, left)), -cost(one)))
        boxes.append(box)
        left = {point: None for point in left if not box.holds(point)}
    for box in list(boxes):
        others = [one for one in boxes if one is not box]
        if all(any(one.holds(p) for one in others) for p in inside if box.holds(p)):
            boxes.remove(box)
    return boxes


def _orders(axes: range) -> list[list[int]]:
    """Which axis is opened first decides what a box becomes: each gets its turn."""
    return [[*axes[at:], *axes[:at]] for at in axes] + [list(axes)[::-1]]


def _opened(differing: set[int], order: Sequence[int]) -> int:
    """The axes that may be opened altogether, as bits."""
    opened = 0
    for at in order:
        wider = opened | 1 << at
        if not any(mask | wider == wider for mask in differing):
            opened = wider
    return opened


def _grown(
    seed: Vector, outside: Sequence[Vector], opened: int, values: Sequence[set[Hashable]]
) -> Box:
    allowed: list[frozenset[Hashable] | None] = [
        None if opened >> at & 1 else frozenset((one,)) for at, one in enumerate(seed)
    ]
    for at, one in enumerate(allowed):
        if one is None:
            continue
        # Further values of an axis that cannot be opened altogether; a value that no point
        # has together with the others does no harm.
        refused = {point[at] for point in outside if _fits(allowed, point, at)}
        allowed[at] = frozenset(values[at] - refused) | one
    return Box(tuple(allowed), seed)


def _fits(allowed: Sequence[frozenset[Hashable] | None], point: Vector, besides: int) -> bool:
    """Whether the box would hold the point but for its value on one axis."""
    return all(at == besides or one is None or point[at] in one for at, one in enumerate(allowed))

"""Moments that stand for all: one of every kind that the conditions can tell apart."""

from __future__ import annotations

import datetime
from collections.abc import Collection, Iterable, Iterator
from itertools import product

from gateway.review.calls import MOMENT

_DAY_S = 86_400
_CYCLE_DAYS = 28 * 366
"""After 28 years every date has been every day of the week."""
_OF_DAY = {"getHours": 24, "getMinutes": 60, "getSeconds": 60}

_OF_DATE = {
    "getFullYear": lambda day: day.year,
    "getMonth": lambda day: day.month - 1,
    "getDate": lambda day: day.day,
    "getDayOfMonth": lambda day: day.day - 1,
    "getDayOfWeek": lambda day: day.isoweekday() % 7,
    "getDayOfYear": lambda day: day.timetuple().tm_yday - 1,
}


def moments(clock_fields: Collection[tuple[str, int]], compared: Iterable[float]) -> list[float]:
    """Seconds since the epoch.  `clock_fields`: fields of the clock with what they are compared
    with; `compared`: the moments that `now` itself is."""
    edges = sorted({float(int(edge)) for edge in compared} | set(_years(clock_fields)))
    chosen: dict[float, None] = {float(MOMENT): None}
    for edge in edges:
        chosen |= dict.fromkeys((edge - 1, edge, edge + 1))
    of_day = [name for name in _OF_DAY if any(name == field for field, _ in clock_fields)]
    times = list(_times(clock_fields, of_day))
    starts = [float(MOMENT), *(edge + 1 for edge in edges)]
    if edges:
        # Before the first, a whole cycle must have room too.
        starts.append(min(edges) - _CYCLE_DAYS * _DAY_S)
    for start in sorted(starts):
        later = [edge for edge in edges if edge > start]
        for day in _days(clock_fields, start, min(later, default=start + _CYCLE_DAYS * _DAY_S)):
            chosen |= dict.fromkeys(float(day + second) for second in times)
    return list(chosen)


def _years(clock_fields: Collection[tuple[str, int]]) -> Iterator[float]:
    for name, number in clock_fields:
        if name == "getFullYear" and 1971 <= number <= 9000:
            for year in (number, number + 1):
                yield datetime.datetime(year, 1, 1, tzinfo=datetime.UTC).timestamp()


def _times(clock_fields: Collection[tuple[str, int]], names: list[str]) -> Iterator[int]:
    """Seconds of a day, one for every way in which its hours and minutes can compare."""
    choices: list[list[int]] = []
    for name, length in _OF_DAY.items():
        if name not in names:
            choices.append([0])
            continue
        numbers = {number for field, number in clock_fields if field == name}
        near = {0, length - 1, *(n + d for n in numbers for d in (-1, 0, 1))}
        choices.append(sorted(n for n in near if 0 <= n < length))
    for hour, minute, second in product(*choices):
        yield hour * 3600 + minute * 60 + second


def _days(clock_fields: Collection[tuple[str, int]], start: float, end: float) -> Iterator[int]:
    """The beginnings of days between two moments, one of every kind."""
    first = int(start // _DAY_S)
    compared = [(name, number) for name, number in clock_fields if name in _OF_DATE]
    seen: set[tuple[int, ...]] = set()
    for day in range(first, min(int(end // _DAY_S), first + _CYCLE_DAYS) + 1):
        date = datetime.date(1970, 1, 1) + datetime.timedelta(days=day)
        kind = tuple(_sign(_OF_DATE[name](date) - number) for name, number in compared)
        # The first and the last are cut short by what `now` is compared with.
        inner = start < day * _DAY_S and (day + 1) * _DAY_S < end
        if (kind not in seen and inner) or day == first or day == int(end // _DAY_S):
            if inner:
                seen.add(kind)
            yield day * _DAY_S
        elif not compared:
            break


def _sign(number: int) -> int:
    return (number > 0) - (number < 0)

"""What begins, ends or fills a text, and texts that stand for all that do so alike."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from functools import lru_cache
from itertools import chain, combinations, count, product

from gateway.review.other_letters import in_other_letters

Affix = tuple[str, str]
"""`("startsWith", "x-")`; the others are `endsWith` and `contains`."""
Parts = tuple[str, tuple[str, ...], str]
"""A beginning, what fills the text, and an end."""

MOST_FILLED = 8
"""Texts that may fill a value so that every set of them is tried; of more none, each alone, all,
and all but each."""
MAX_MADE_UP = 1_000
"""Texts that are made up for one value."""
LOWEST = "-"
"""What a name may hold and sorts before letters and digits."""
_MARKS = "zqjxkvw7935QZXJKVW"


def met_by(text: str, asked: Iterable[Affix]) -> frozenset[Affix]:
    """Those of `asked` that hold of `text`."""
    return frozenset(
        (how, part)
        for how, part in asked
        if (how == "startsWith" and text.startswith(part))
        or (how == "endsWith" and text.endswith(part))
        or (how == "contains" and part in text)
    )


def affixed(
    asked: Collection[Affix],
    taken: Collection[str] = (),
    *,
    besides: Collection[Affix] = (),
    readable: str = "",
) -> Iterator[str]:
    """Texts with every beginning, end and filling that is asked for, in every combination.

    Whatever begins a text is decided by the longest beginning, as is what ends it; a letter that
    nobody names keeps the parts apart.  `taken`: texts that mean something else and are none of
    these.  `besides`: what the texts are asked for elsewhere, and do not have for that letter.
    `readable`: what stands in its place where that makes no difference.
    """
    if not asked:
        return
    every = {*asked, *besides}
    used = {char for _, text in every for char in text}
    mark = next((char for char in _MARKS if char not in used), "~")
    for begin, chosen, end in _combined(frozenset(asked))[0]:
        plain = _joined(begin, chosen, end, mark)
        for said in _readable((begin, readable, *chosen, end)) if readable else (plain,):
            if said not in taken and met_by(said, every) == met_by(plain, every):
                yield said
                break
        else:
            longer = (_joined(begin, chosen, end, mark * times) for times in count(1))
            yield next(text for text in longer if text not in taken)


def as_affixes_are_written(texts: Collection[str], affixes: Collection[Affix]) -> Iterator[str]:
    """Each text with a beginning and an end that it has in other letters, as those are written."""
    for text in texts:
        there = in_other_letters(text)
        written = text if len(text) == len(there) else there
        met = {
            (how, part)
            for how, part in affixes
            if not met_by(text, {(how, part)}) and met_by(there, {(how, in_other_letters(part))})
        }
        begins, ends = (
            [part for how, part in met if how == one] for one in ("startsWith", "endsWith")
        )
        for begin, end in product(["", *begins], ["", *ends]):
            rest = written[len(in_other_letters(begin)) :]
            if begin or end:
                yield begin + rest[: len(rest) - len(in_other_letters(end))] + end


def in_order(
    asked: Collection[Affix], ordered: Collection[str], *, readable: str = ""
) -> Iterator[str]:
    """Texts that begin, end and are filled so, of which one sorts before all of `ordered`, and
    one right after each of them."""
    if not ordered:
        return
    begins = {("startsWith", text) for text in ordered if text}
    for begin, chosen, end in _combined(frozenset({*asked, *begins}))[0]:
        if begin and not chosen and not end:
            yield begin
        plain = _joined(begin, chosen, end, LOWEST)
        said = _joined(begin, chosen, end, f"{LOWEST}{readable}")
        near = any(plain < text <= said for text in ordered)
        yield plain if near or met_by(said, asked) != met_by(plain, asked) else said


def every_is_made(asked: Collection[Affix], ordered: Collection[str] = ()) -> bool:
    """Whether there are so few that every combination is made."""
    return _combined(frozenset({*asked, *(("startsWith", text) for text in ordered)}))[1]


@lru_cache(64)
def _combined(asked: frozenset[Affix]) -> tuple[list[Parts], bool]:
    """The combinations, and whether these are all."""
    begins, ends, fillings = (
        sorted(text for how, text in asked if how == kind and text)
        for kind in ("startsWith", "endsWith", "contains")
    )
    count_ = (len(begins) + 1) * (len(ends) + 1) * 2 ** len(fillings)
    if len(fillings) <= MOST_FILLED and count_ <= MAX_MADE_UP:
        sizes = range(len(fillings) + 1)
        filled = chain.from_iterable(combinations(fillings, size) for size in sizes)
        parts = product(["", *begins], list(filled), ["", *ends])
        return list(parts), True
    few: list[tuple[str, ...]] = [(), *((one,) for one in fillings), tuple(fillings)]
    few += [tuple(other for other in fillings if other != one) for one in fillings]
    alone: list[Parts] = [("", (), ""), *((begin, (), "") for begin in begins)]
    alone += [("", (), end) for end in ends]
    alone += [("", one, "") for one in few]
    together = product(["", *begins], few, ["", *ends])
    cut = (one for one, _ in zip(together, range(MAX_MADE_UP), strict=False))
    return list(dict.fromkeys((*alone, *cut))), False


def _joined(begin: str, fillings: Iterable[str], end: str, mark: str) -> str:
    return begin + mark + "".join(one + mark for one in fillings) + end


def _readable(parts: Sequence[str]) -> Iterator[str]:
    """The parts with a stroke between any two that would be read as one; and without."""
    text = ""
    for part in filter(None, parts):
        apart = text[-1:].isalnum() and part[0].isalnum()
        text += f"-{part}" if apart else part
    yield text
    yield "".join(parts)

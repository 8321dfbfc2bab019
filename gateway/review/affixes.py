"""What begins, ends or fills a text, and texts that stand for all that do so alike."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from itertools import combinations, count, product

Affix = tuple[str, str]
"""`("startsWith", "x-")`; the others are `endsWith` and `contains`."""

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
    begins = ["", *(text for how, text in asked if how == "startsWith")]
    ends = ["", *(text for how, text in asked if how == "endsWith")]
    fillings = [text for how, text in asked if how == "contains"]
    every = {*asked, *besides}
    used = {char for _, text in every for char in text}
    mark = next((char for char in _MARKS if char not in used), "~")
    for begin, end in product(begins, ends):
        for number in range(len(fillings) + 1):
            for chosen in combinations(fillings, number):
                plain = _joined(begin, chosen, end, mark)
                for said in _readable((begin, readable, *chosen, end)) if readable else (plain,):
                    if said not in taken and met_by(said, every) == met_by(plain, every):
                        yield said
                        break
                else:
                    longer = (_joined(begin, chosen, end, mark * times) for times in count(1))
                    yield next(text for text in longer if text not in taken)


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

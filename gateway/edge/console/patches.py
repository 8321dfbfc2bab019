"""What was changed in a configuration, as `patch -p1` and `git apply` take it.

Law: its cost grows with the files and with nothing else, whatever stands in them.  Lines that stand
once in both texts are matched first, in the longest row that keeps their order; then the same
between each two of them, a few times; what is left is told as taken out and put in.  `difflib`
would find fewer changes, and take minutes where the same lines come again and again.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

CONTEXT_LINES = 3
_ROUNDS = 4

Lines = Sequence[str]


@dataclass(frozen=True, slots=True)
class _Change:
    """Lines `old` to `old_end` were replaced by those from `new` to `new_end`."""

    old: int
    old_end: int
    new: int
    new_end: int


def patch_of(before: Mapping[str, str], after: Mapping[str, str]) -> str:
    """In the unified format; empty where nothing was changed."""
    parts: list[str] = []
    for name, text in after.items():
        old = before.get(name)
        if text == old:
            continue
        old_lines, new_lines = _lines(old or ""), _lines(text)
        changes = list(_changes(old_lines, new_lines))
        if changes:
            parts.append(f"--- {'/dev/null' if old is None else f'a/{name}'}\n+++ b/{name}\n")
        for group in _groups(changes):
            parts += _hunk(group, old_lines, new_lines)
    return "".join(
        line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n" for line in parts
    )


def _lines(text: str) -> Lines:
    """With their ends: `patch` knows no other end of a line."""
    lines = [f"{line}\n" for line in text.split("\n")]
    last = lines.pop()[:-1]
    return [*lines, last] if last else lines


def _changes(old: Lines, new: Lines) -> Iterator[_Change]:
    """In order; none is empty, and between two of them are lines that stayed."""
    at_old = at_new = 0
    for kept_old, kept_new in [*_kept(old, new), (len(old), len(new))]:
        if at_old < kept_old or at_new < kept_new:
            yield _Change(at_old, kept_old, at_new, kept_new)
        at_old, at_new = kept_old + 1, kept_new + 1


def _kept(old: Lines, new: Lines) -> list[tuple[int, int]]:
    """The places of the lines that stayed, in both texts, in order."""
    kept: list[tuple[int, int]] = []
    gaps = [_Change(0, len(old), 0, len(new))]
    for _ in range(_ROUNDS):
        left: list[_Change] = []
        for gap in gaps:
            inner = _without_ends(gap, old, new, kept)
            at_old, at_new = inner.old, inner.new
            once = _once_in_both(inner, old, new)
            for kept_old, kept_new in [*once, (inner.old_end, inner.new_end)]:
                if at_old < kept_old and at_new < kept_new:
                    left.append(_Change(at_old, kept_old, at_new, kept_new))
                at_old, at_new = kept_old + 1, kept_new + 1
            kept += once
        gaps = left
    return sorted(kept)


def _without_ends(gap: _Change, old: Lines, new: Lines, kept: list[tuple[int, int]]) -> _Change:
    """The gap without the lines that are the same at its beginning and at its end, which are
    added to `kept`."""
    at_old, at_new, old_end, new_end = gap.old, gap.new, gap.old_end, gap.new_end
    while at_old < old_end and at_new < new_end and old[at_old] == new[at_new]:
        kept.append((at_old, at_new))
        at_old, at_new = at_old + 1, at_new + 1
    while at_old < old_end and at_new < new_end and old[old_end - 1] == new[new_end - 1]:
        old_end, new_end = old_end - 1, new_end - 1
        kept.append((old_end, new_end))
    return _Change(at_old, old_end, at_new, new_end)


def _once_in_both(gap: _Change, old: Lines, new: Lines) -> list[tuple[int, int]]:
    """The longest row, in the order of both, of lines that stand once in each."""
    old_count = Counter(old[gap.old : gap.old_end])
    new_count = Counter(new[gap.new : gap.new_end])
    place = {new[at]: at for at in range(gap.new, gap.new_end) if new_count[new[at]] == 1}
    pairs = [
        (at, place[old[at]])
        for at in range(gap.old, gap.old_end)
        if old_count[old[at]] == 1 and old[at] in place
    ]
    return _longest_rising(pairs)


def _longest_rising(pairs: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """Of pairs that rise in the first number, the most that rise in the second too."""
    ends: list[int] = []
    """The smallest second number with which a row of this length ends."""
    last: list[int] = []
    """Its place in `pairs`."""
    previous: list[int] = []
    for at, (_, second) in enumerate(pairs):
        length = bisect_left(ends, second)
        previous.append(last[length - 1] if length else -1)
        ends[length : length + 1] = [second]
        last[length : length + 1] = [at]
    row: list[tuple[int, int]] = []
    at = last[-1] if last else -1
    while at >= 0:
        row.append(pairs[at])
        at = previous[at]
    return row[::-1]


def _groups(changes: Sequence[_Change]) -> Iterator[list[_Change]]:
    """Those whose context would touch are told together."""
    group: list[_Change] = []
    for change in changes:
        if group and change.old - group[-1].old_end > 2 * CONTEXT_LINES:
            yield group
            group = []
        group.append(change)
    if group:
        yield group


def _hunk(group: Sequence[_Change], old: Lines, new: Lines) -> Iterator[str]:
    first, last = group[0], group[-1]
    before = min(CONTEXT_LINES, first.old)
    behind = min(CONTEXT_LINES, len(old) - last.old_end)
    of_old = _range(first.old - before, last.old_end + behind)
    of_new = _range(first.new - before, last.new_end + behind)
    yield f"@@ -{of_old} +{of_new} @@\n"
    at = first.old - before
    for change in group:
        yield from (f" {line}" for line in old[at : change.old])
        yield from (f"-{line}" for line in old[change.old : change.old_end])
        yield from (f"+{line}" for line in new[change.new : change.new_end])
        at = change.old_end
    yield from (f" {line}" for line in old[at : at + behind])


def _range(begin: int, end: int) -> str:
    """As `diff -u` writes it: one line without its length, none by the line before it."""
    length = end - begin
    if length == 1:
        return str(begin + 1)
    return f"{begin + 1 if length else begin},{length}"

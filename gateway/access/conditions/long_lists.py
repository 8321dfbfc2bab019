"""What the engine is given for a condition that goes through a long list.

`filter` and `map` build their list anew for each item, and a field of a field is copied each time
it is read: each item costs as much as there are items.  So for long lists there is a second text,
which gives the same: `a.b.filter(x, …)` is the same of a hundred parts of the list, one after
another, and a path in an iteration is a variable that was looked up before.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from gateway.access.conditions.edits import TextEdit, edited
from gateway.access.conditions.engine import cel
from gateway.access.conditions.expressions import KEYWORDS, MACROS, FieldPath, Token, literal

MAX_ITEMS = 1_000
"""How many items a list or map may hold where a condition iterates."""
SHORT_ITEMS = 50
"""Up to so many the text is evaluated as it is."""
PART_ITEMS = 10
"""An object of five fields is copied in 1 µs, and by each item that comes after it in its part."""
_PARTS = MAX_ITEMS // PART_ITEMS
_ANYWHERE = 0
"""A path is the same wherever it stands."""
_CLOSING = {"(": ")", "[": "]", "{": "}"}


class LongLists:
    """One condition for long lists.  Immutable after it is made."""

    __slots__ = ("_names", "_paths", "_program", "_ranges")

    def __init__(
        self, text: str, ranges: Mapping[str, FieldPath], paths: Mapping[str, FieldPath]
    ) -> None:
        self._program = cel.compile(text)
        self._names = frozenset(self._program.variables())
        self._ranges = ranges
        self._paths = paths

    def variables(self, bound: Mapping[str, Any]) -> dict[str, Any] | None:
        """What its text knows beside what is bound; None where the text tells too little, and the
        first one has to be evaluated."""
        known: dict[str, Any] = {}
        try:
            for name, path in self._ranges.items():
                for number, part in enumerate(_parts(_looked_up(path, bound))):
                    known[f"{name}{number}"] = part
            for name, path in self._paths.items():
                value = _looked_up(path, bound)
                if not isinstance(value, _Absent):
                    known[name] = value
        except _Untold:
            return None
        return known

    def execute(self, bound: Mapping[str, Any], known: Mapping[str, Any]) -> Any:
        """What it gives; KeyError where it asks for what is not there, as the engine says it."""
        # The engine copies what is bound, a list whose parts are as well.
        needed = {name: bound[name] for name in bound if name in self._names}
        functions = {name: value for name, value in bound.items() if callable(value)}
        try:
            return self._program.execute({**needed, **functions, **known})
        except RuntimeError as error:
            names = {f"{name}0": path for name, path in self._ranges.items()} | {**self._paths}
            for name, path in names.items():
                if name not in known and f"'{name}'" in str(error):
                    raise KeyError(_looked_up(path, bound).key) from error
            raise


def long_lists(source: str, words: Sequence[Token], edits: Sequence[TextEdit]) -> LongLists | None:
    """The second text of an expression that iterates and to which `edits` are made; None where
    it would be the first."""
    reader = _LongListReader(source, words, edits)
    text = reader.text()
    if not reader.ranges and not reader.paths:
        return None
    try:
        return LongLists(text, reader.ranges, reader.paths)
    except ValueError:
        # What the engine takes once may be too deep for it in brackets.
        return None


def longest(value: Any) -> int:
    """How many items the longest list or map in it has."""
    if isinstance(value, Mapping):
        return max((len(value), *map(longest, value.values())))
    if isinstance(value, list | tuple):
        return max((len(value), *map(longest, value)))
    return 0


class _LongListReader:
    """Walks the words of an expression that has been read without a problem."""

    def __init__(self, source: str, words: Sequence[Token], edits: Sequence[TextEdit]) -> None:
        self.ranges: dict[str, FieldPath] = {}
        self.paths: dict[str, FieldPath] = {}
        self._source = source
        self._words = words
        self._edits = list(edits)
        self._closing = dict(_brackets(words))
        self._variables: list[tuple[int, str]] = []
        self._prefix = "long"
        while any(word.text.startswith(self._prefix) for word in words):
            self._prefix += "_"

    def text(self) -> str:
        self._walk(0, len(self._words))
        return edited(self._source, self._edits)

    def _walk(self, at: int, end: int) -> None:
        while at < end:
            at = self._step(at)

    def _step(self, at: int) -> int:
        """Past the word, or past what begins with it."""
        word, follows = self._words[at], self._sign(at + 1)
        if word.kind != "name" or word.text in KEYWORDS:
            return at + 1
        if self._sign(at - 1) == ".":
            if word.text in MACROS and follows == "(" and not self._within(at):
                self._variables.append((self._closing[at + 1], self._words[at + 2].text))
            return at + 1
        if follows == "(":
            # `has(a.b)` asks for the path itself.
            return self._closing[at + 1] if word.text == "has" else at + 1
        if word.text in self._within(at):
            return at + 1
        return self._path(at)

    def _path(self, at: int) -> int:
        path, end = self._field_path(at)
        if not path.steps:
            return at + 1
        if self._within(at):
            self._edits.append(TextEdit(self._start(at), self._end(end - 1), self._path_name(path)))
            return end
        chain_end = self._chain_end(end)
        if chain_end == end:
            return at + 1
        self._walk(end, chain_end)
        self._take_in_parts(path, at, end, chain_end)
        return chain_end

    def _take_in_parts(self, path: FieldPath, at: int, end: int, chain_end: int) -> None:
        name = f"{self._prefix}_{len(self.ranges)}_"
        self.ranges[name] = path
        start, stop = self._start(at), self._end(chain_end - 1)
        chain = edited(self._source, self._edits, self._end(end - 1), stop)
        self._edits = [one for one in self._edits if not start <= one.start < stop]
        texts = [f"{name}{number}{chain}" for number in range(_PARTS)]
        self._edits.append(TextEdit(start, stop, _joined(texts)))

    def _chain_end(self, at: int) -> int:
        """Past `.filter(…)` and `.map(…)`, one after another."""
        while self._sign(at) == "." and self._sign(at + 1) in ("filter", "map"):
            if self._sign(at + 2) != "(":
                break
            at = self._closing[at + 2] + 1
        return at

    def _field_path(self, at: int) -> tuple[FieldPath, int]:
        """The path that begins there, as far as its keys are texts or paths, and its end."""
        steps: list[str | FieldPath | None] = []
        end = at + 1
        while True:
            if self._sign(end) == "." and self._sign(end + 2) != "(":
                steps.append(self._words[end + 1].text)
                end += 2
                continue
            step = self._key(end + 1, self._closing[end]) if self._sign(end) == "[" else None
            if step is None:
                return FieldPath(self._words[at].text, tuple(steps), _ANYWHERE), end
            steps.append(step)
            end = self._closing[end] + 1

    def _key(self, start: int, end: int) -> str | FieldPath | None:
        word = self._words[start]
        if word.kind == "string":
            return literal(word) if end == start + 1 else None
        if word.kind != "name" or word.text in (*KEYWORDS, *self._within(start)):
            return None
        path, stop = self._field_path(start)
        return path if stop == end and path.steps else None

    def _path_name(self, path: FieldPath) -> str:
        for name, known in self.paths.items():
            if known == path:
                return name
        name = f"{self._prefix}_path_{len(self.paths)}"
        self.paths[name] = path
        return name

    def _within(self, at: int) -> tuple[str, ...]:
        """The variable of the iteration that the word stands in; none in its variable's place."""
        return tuple(name for end, name in self._variables if at < end)

    def _sign(self, at: int) -> str:
        # The word before the first is the last: none ends with the signs that are looked for.
        return self._words[at].text if at < len(self._words) else ""

    def _start(self, at: int) -> int:
        return self._words[at].at

    def _end(self, at: int) -> int:
        return self._words[at].at + len(self._words[at].text)


class _Absent:
    __slots__ = ("key",)

    def __init__(self, key: str) -> None:
        self.key = key


class _Untold(Exception):
    """A key is no text: the engine may find something by it."""


def _looked_up(path: FieldPath, bound: Mapping[str, Any]) -> Any:
    """The value that the path leads to, or an _Absent."""
    value: Any = bound.get(path.root)
    for step in path.steps:
        key = _looked_up(step, bound) if isinstance(step, FieldPath) else step
        if isinstance(key, _Absent):
            return key
        if not isinstance(key, str):
            raise _Untold
        if not isinstance(value, Mapping) or key not in value:
            return _Absent(key)
        value = value[key]
    return value


def _parts(value: Any) -> Iterator[Any]:
    """A list in a hundred parts, and the keys of a map likewise; anything else as the first, by
    which the text fails before it asks for another."""
    if isinstance(value, _Absent):
        return
    if not isinstance(value, list | tuple | Mapping):
        yield value
        return
    items = list(value)
    for start in range(0, MAX_ITEMS, PART_ITEMS):
        part = items[start : start + PART_ITEMS]
        # An iteration over a map is one over its keys.
        yield dict.fromkeys(part, True) if isinstance(value, Mapping) else part


def _joined(texts: list[str]) -> str:
    """Added up, in pairs: what is added to one by one is nested as deep as there are."""
    if len(texts) == 1:
        return texts[0]
    half = len(texts) // 2
    return f"({_joined(texts[:half])} + {_joined(texts[half:])})"


def _brackets(words: Sequence[Token]) -> Iterator[tuple[int, int]]:
    waiting: list[int] = []
    for at, word in enumerate(words):
        if word.kind == "sign" and word.text in _CLOSING:
            waiting.append(at)
        elif word.kind == "sign" and word.text in _CLOSING.values() and waiting:
            yield waiting.pop(), at

"""Renamed words of YAML files, written anew where they stand, and not a byte beside them.

Law: what comes out means what went in, but for the words of the table.  The text is edited by the
positions that the parser gives; then both texts are read, and where the new one says anything
else than the old one with its words renamed, nothing of the file is taken.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from itertools import zip_longest

import yaml

from gateway.access.renames import ANY, Rename
from gateway.config.yaml_reader import Node, Reader
from gateway.model import ConfigProblem, SourceLocation

_MAX_DEPTH = 64
MAX_NODES = 5_000_000
"""Of a file, its aliases unfolded: more is no configuration."""
_AS_WRITTEN = re.compile(r"(?P<before>(?:[&!]\S*\s+)*)(?P<quote>['\"]?)(?P<word>[\w.-]+)(?P=quote)")


@dataclass(frozen=True, slots=True)
class Replacement:
    """One old word, and where it stands."""

    location: SourceLocation
    start: int
    """Of the word, in characters of the text."""
    rename: Rename

    def __str__(self) -> str:
        at = f"{self.location}:{self.location.column}"
        return f"{at}: `{self.rename.old}` is `{self.rename.new}` since {self.rename.version}"


@dataclass(frozen=True, slots=True)
class Migrated:
    """A text with its words renamed; as it was, where there are problems."""

    text: str
    replacements: tuple[Replacement, ...] = ()
    problems: tuple[ConfigProblem, ...] = ()


def migrate_yaml(file: str, text: str, renames: Sequence[Rename]) -> Migrated:
    problems: list[ConfigProblem] = []
    root = Reader(file, problems).document(text) if text.strip() else None
    if root is None or problems:
        return Migrated(text, (), tuple(problems))
    found: dict[int, Replacement] = {}
    for node, rename, siblings in _occurrences(root, renames):
        location = SourceLocation(file, node.start_mark.line + 1, node.start_mark.column + 1)
        start = _start_of_word(text, node)
        if rename.new in siblings:
            told = f"`{rename.old}` and `{rename.new}` stand side by side: take out one of them"
            problems.append(ConfigProblem.at(location, told))
        elif start is None:
            told = f"`{rename.old}` is not written plainly: write `{rename.new}` by hand"
            problems.append(ConfigProblem.at(location, told))
        else:
            found[start] = Replacement(location, start, rename)
    replacements = tuple(found[start] for start in sorted(found))
    edited = with_words(text, replacements)
    if not problems and replacements and not _means_the_same(root, edited, renames):
        told = (
            "an alias (`*name`) has an old word elsewhere too, where it means something else:"
            " write this one out by hand"
        )
        problems.append(ConfigProblem.at(replacements[0].location, told))
    return Migrated(text, (), tuple(problems)) if problems else Migrated(edited, replacements)


def with_words(text: str, replacements: Sequence[Replacement]) -> str:
    """The text with every old word replaced."""
    parts, done = [], 0
    for one in replacements:
        parts += [text[done : one.start], one.rename.new]
        done = one.start + len(one.rename.old)
    return "".join([*parts, text[done:]])


def _occurrences(
    root: Node, renames: Sequence[Rename]
) -> Iterator[tuple[yaml.ScalarNode, Rename, Collection[str]]]:
    """Every old word, with the keys that stand beside it."""
    for rename in renames:
        path = rename.within[:-1] if rename.is_value else rename.within
        for block in _blocks(root, path):
            keys = {key.value for key, _ in block.value if isinstance(key, yaml.ScalarNode)}
            for key, value in block.value:
                if rename.is_value and key.value == rename.within[-1] and _is(value, rename.old):
                    yield value, rename, ()
                elif not rename.is_value and _is(key, rename.old):
                    yield key, rename, keys


def _is(node: Node, word: str) -> bool:
    return isinstance(node, yaml.ScalarNode) and node.value == word


def _blocks(node: Node, path: Sequence[str]) -> Iterator[yaml.MappingNode]:
    """The blocks to which a path leads."""
    if not path:
        if isinstance(node, yaml.MappingNode):
            yield node
        return
    if isinstance(node, yaml.SequenceNode) and path[0] == ANY:
        for item in node.value:
            yield from _blocks(item, path[1:])
    elif isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            if path[0] == ANY or _is(key, path[0]):
                yield from _blocks(value, path[1:])


def _start_of_word(text: str, node: yaml.ScalarNode) -> int | None:
    """Where the word begins; None where it is not written as it is: with escapes, in a block."""
    # libyaml does not count a byte order mark.
    shift = 1 if text.startswith("\ufeff") else 0
    start, end = node.start_mark.index + shift, node.end_mark.index + shift
    match = _AS_WRITTEN.fullmatch(text[start:end])
    if match is None or match["word"] != node.value:
        return None
    return start + match.start("word")


def _means_the_same(root: Node, edited: str, renames: Sequence[Rename]) -> bool:
    again = Reader("", []).document(edited)
    if again is None:
        return False
    pairs = zip_longest(_said(root, renames, ()), _said(again, (), ()))
    return all(ours == theirs and count < MAX_NODES for count, (ours, theirs) in enumerate(pairs))


def _said(
    node: Node, renames: Sequence[Rename], path: tuple[str, ...]
) -> Iterator[tuple[object, ...]]:
    """What a node says, its words renamed, one part after the other."""
    if len(path) > _MAX_DEPTH:
        yield ("too deep", id(node))
    elif isinstance(node, yaml.ScalarNode):
        words = {one.old: one.new for one in renames if one.is_value and _leads(one.within, path)}
        yield node.tag, node.style, words.get(node.value, node.value)
    elif isinstance(node, yaml.SequenceNode):
        yield node.tag, len(node.value)
        for item in node.value:
            yield from _said(item, renames, (*path, ANY))
    else:
        keys = {
            one.old: one.new for one in renames if not one.is_value and _leads(one.within, path)
        }
        yield node.tag, len(node.value)
        for key, value in node.value:
            if isinstance(key, yaml.ScalarNode):
                yield key.tag, key.style, keys.get(key.value, key.value)
            else:
                yield from _said(key, (), path)
            yield from _said(value, renames, (*path, str(key.value)))


def _leads(pattern: Sequence[str], path: Sequence[str]) -> bool:
    return len(pattern) == len(path) and all(
        wanted in (ANY, name) for wanted, name in zip(pattern, path, strict=True)
    )

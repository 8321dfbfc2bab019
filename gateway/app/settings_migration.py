"""Renamed settings in a file of `NAME=value` lines: the names alone, and no value touched."""

from __future__ import annotations

import io
from collections.abc import Sequence

from dotenv.parser import parse_stream

from gateway.access.renames import Rename
from gateway.config.migration import Migrated, Replacement, with_words
from gateway.model import ConfigProblem, SourceLocation


def migrate_settings(file: str, text: str, renames: Sequence[Rename]) -> Migrated:
    """`text` with the line ends that the file has."""
    bindings = list(parse_stream(io.StringIO(text, newline="")))
    given = {binding.key for binding in bindings}
    if "".join(binding.original.string for binding in bindings) != text:
        told = "cannot be read line by line: rename its settings by hand"
        return Migrated(text, (), (ConfigProblem(file, 1, 1, told),))
    by_name = {one.old: one for one in renames}
    replacements, problems, start = [], [], 0
    for binding in bindings:
        original = binding.original.string
        rename = None if binding.error else by_name.get(binding.key or "")
        if rename is not None:
            at = start + original.index(rename.old)
            line = text.count("\n", 0, at) + 1
            location = SourceLocation(file, line, at - text.rfind("\n", 0, at))
            replacements.append(Replacement(location, at, rename))
            if rename.new in given:
                told = f"`{rename.old}` and `{rename.new}` are both set: take out one of them"
                problems.append(ConfigProblem.at(location, told))
        start += len(original)
    if problems:
        return Migrated(text, (), tuple(problems))
    return Migrated(with_words(text, replacements), tuple(replacements))

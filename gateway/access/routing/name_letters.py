"""What is left of a name where a backend makes another of it: its letters and digits.

Law: two names of which the same is left are one.  `camelCase` of lodash, camelcase-keys and humps
make `ownerId` of `owner_id`, ` owner id`, `$owner-id` and `ówner.id`, each of some of them.
"""

from __future__ import annotations

import re
from collections.abc import Collection

from gateway.access.routing.plain_letters import PLAIN_LETTERS


def letters_of(name: str) -> str:
    """In lower case, without marks."""
    if not name.isascii():
        name = name.translate(PLAIN_LETTERS)
    if not name.isalnum():
        # What else there is in a name is nearly always these.
        name = name.replace("_", "").replace("-", "")
        if not name.isalnum():
            name = name.translate(_SIGNS) if name.isascii() else _SIGNS_APART.sub("", name)
    return name.lower()


def letters_of_each(names: Collection[str]) -> list[str]:
    """The same of names without NUL: of those beyond ASCII all at once, in a third of the time."""
    joined = "\0".join(names)
    if joined.isascii():
        return list(map(letters_of, names))
    return _SIGNS_BETWEEN.sub("", joined.translate(PLAIN_LETTERS)).lower().split("\0")


def letters_in_steps(path: str) -> str:
    """The same of each step of `a.b`."""
    return ".".join(map(letters_of, path.split("."))) if "." in path else letters_of(path)


def steps_of_each(paths: Collection[str]) -> list[str]:
    """The same of paths without NUL, all at once."""
    joined = plain("\0".join(paths))
    return _SIGNS_BETWEEN_STEPS.sub("", joined).lower().split("\0")


def plain(text: str) -> str:
    """A text in lower case, with its signs beyond ASCII and its marks taken away."""
    return text.lower() if text.isascii() else text.translate(PLAIN_LETTERS)


_SIGNS = str.maketrans("", "", "".join(c for c in map(chr, range(128)) if not c.isalnum()))
# Of a text beyond ASCII a table is asked for each letter, which takes several times as long.
_SIGNS_BETWEEN = re.compile(r"[\x01-/:-@\[-`{-\x7f]+")
_SIGNS_BETWEEN_STEPS = re.compile(r"[\x01-\-/:-@\[-`{-\x7f]+")
_SIGNS_APART = re.compile(r"[\x00-/:-@\[-`{-\x7f]+")

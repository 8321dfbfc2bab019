"""What is left of a name where a backend makes another of it: its letters and digits.

Law: two names of which the same is left are one.  `camelCase` of lodash, camelcase-keys and humps
make `ownerId` of `owner_id`, ` owner id`, `$owner-id` and `ówner.id`, each of some of them.
"""

from __future__ import annotations

import re

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


def letters_in_steps(path: str) -> str:
    """The same of each step of `a.b`."""
    return ".".join(map(letters_of, path.split("."))) if "." in path else letters_of(path)


def plain(text: str) -> str:
    """A text in lower case, with its signs beyond ASCII and its marks taken away."""
    return text.lower() if text.isascii() else text.translate(PLAIN_LETTERS)


_SIGNS = str.maketrans("", "", "".join(c for c in map(chr, range(128)) if not c.isalnum()))
# Of a text beyond ASCII a table is asked for each letter, which takes several times as long.
_SIGNS_APART = re.compile(r"[\x00-/:-@\[-`{-\x7f]+")

"""What backends have of a value of the path that they end before its end.

To Rails `/x/ann.json` is `/x/ann` in a format, to nearly everybody `/x/ann/` is `/x/ann`; and who
makes a query of a path (`/x.php?id=$1`), or reads a decoded one as a target again, ends it where
that is parted.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from unicodedata import normalize

ENCODED_DOT = "%2e"

_PARTED = re.compile("[&?#]")


def cuts(value: str, *, is_last: bool, sent: str) -> Iterator[str]:
    """What is left of a value where it is cut.  `is_last`: it stands last in the path, which came
    as `sent`."""
    # A full-width dot is one to whoever folds widths.
    bare = before_query(value if value.isascii() else normalize("NFKC", value))
    if is_last:
        bare = bare.rstrip("/ ") or bare
    if bare != value:
        yield bare
    if is_last and "." in bare:
        head, slash, name = bare.rpartition("/")
        yield f"{head}{slash}{without_ending(name, is_encoded=False)}"
        if ENCODED_DOT in sent.lower():
            yield f"{head}{slash}{without_ending(name, is_encoded=True)}"


def before_query(value: str) -> str:
    return _PARTED.split(value, maxsplit=1)[0]


def without_ending(name: str, *, is_encoded: bool) -> str:
    """`is_encoded`: a dot came so, and not one ending is taken off but all.  A name that begins
    with a dot has no ending there; a version or an IPv4 address has none at all."""
    bare = name.lstrip(".")
    hidden = name[: len(name) - len(bare)]
    if is_encoded:
        return hidden + bare.partition(".")[0]
    stem, dot, ending = bare.rpartition(".")
    if not dot or ("." in stem and stem[-1].isdigit() and ending[:1].isdigit()):
        return name
    return hidden + stem.rstrip(".")

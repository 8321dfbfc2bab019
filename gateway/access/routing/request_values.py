"""Query parameters and headers that a policy reads: once and decodable, or not at all.

Two readers of one repeated or broken parameter may take two different values, so a policy
would decide on one and the backend act on the other.  Law: what was read reaches the backend, under
that name alone, and nothing beside it that a backend may take for it.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from itertools import accumulate
from urllib.parse import unquote_to_bytes

from gateway.access.field_names import folded, folded_text
from gateway.access.routing.name_letters import plain
from gateway.model import RawHeaders

# What `Connection` names in every handshake; the gateway says it to the backend itself.
_HANDSHAKE = b"upgrade"


WITHOUT_BODY = frozenset(("GET", "HEAD", "DELETE", "OPTIONS"))
"""Methods whose body has no meaning (RFC 9110 section 9.3).  Laravel, Rack and ASP.NET MVC take a
parameter from the form or the JSON in it all the same, over that of the query."""


PARAMETERS_MAX = 1_000
"""Of a query that a policy reads.  Express and PHP drop those behind the thousandth."""

_NAMES_MAX = 1_000
"""Letters of names, and signs between them, in what need be no query, as a path is: to compare one
takes 0.4 µs."""


def has_body(headers: RawHeaders) -> bool:
    """Whether the fields of a call announce a body."""
    for name, value in headers:
        lower = name.lower()
        if lower == b"transfer-encoding" or (lower == b"content-length" and value.strip(b"0")):
            return True
    return False


class QueryParameters:
    """The query parameters of some names, as a policy may read them."""

    __slots__ = ("_apart", "_cuts", "_folded", "_parts", "_wholes", "_wrapped", "names")

    def __init__(
        self, names: Collection[str], *, apart: Collection[str] = (), wrapped: bool = False
    ) -> None:
        """`apart` are names that stand for themselves, though they may be taken for one of
        `names`.  `wrapped`: `x[team]` counts as `team`, whatever the `x` is."""
        self.names = frozenset(names)
        self._apart = frozenset(apart)
        self._wrapped = wrapped
        self._folded = {_query_folded(plain(name)): name for name in self.names}
        self._parts = {
            parts: name for name in self.names for parts in _in_parts(_bare(plain(name)))
        }
        self._cuts = tuple(map(_after_parts, {name.count("[") for name in self._parts}))
        wholes: dict[str, set[str]] = {}
        for name in self.names:
            for parts in _in_parts(_bare(plain(name))):
                for whole in accumulate(parts.split("[")[:-1], "{}[{}".format):
                    wholes.setdefault(whole, set()).add(name)
        self._wholes = wholes

    def read(self, query: str) -> dict[str, str] | None:
        """Those that are there; None when one is ambiguous.

        `query` is as it came.  A name of the same letters and digits, whatever their case, marks
        (`é`) and the signs between, before and behind them (`teamId`, `[team]id` and ` team_id!`
        for `team_id`), or with a bracket or a dot and anything behind it (`team_id(1i)` too) counts
        as the same one, because some backends take it so, and `;` is refused, because some take it
        for `&`.
        """
        values: dict[str, str] = {}
        if not query:
            return values
        if ";" in query or query.count("&") >= PARAMETERS_MAX:
            return None
        pairs = [pair for pair in query.split("&") if pair] or [""]
        names = _names_decoded([pair.partition("=")[0] for pair in pairs])
        if names is None:
            return None
        for pair, name, asked in zip(pairs, names, self._asked(names), strict=True):
            if asked is None:
                continue
            value = _form_decoded(pair.partition("=")[2])
            if value is None or name in values or name not in self.names:
                return None
            values[name] = value
        return None if self._wholes and values and self._replaced(values, names) else values

    def said(self, query: str) -> dict[str, str] | None:
        """As `read`, where the place to read them from is another, and they are nothing that a
        query need not say: what some backends read in another way is ambiguous only where some
        of them may find one of these in it."""
        if query.isascii() and "%" not in query:
            # Whatever is dropped of a name or put into it, its letters stand in their order.
            letters = query.lower().translate(_QUERY_FOLDED)
            if not any(name in letters for name in self._folded):
                return {}
        letters = plain("".join(_names_guessed([query])))
        if not self._may_be_asked(letters) and (
            "(" not in letters or not self._may_be_asked(_IN_PARENTHESES.sub("", letters))
        ):
            return {}
        pairs = query.replace(";", "&").split("&")
        guessed = _names_guessed([pair.partition("=")[0] for pair in pairs])
        if len(guessed) + sum(map(len, guessed)) > _NAMES_MAX:
            return None
        values = self.read(query)
        if values is None:
            found = self._asked(guessed)
            return {} if found.count(None) == len(found) else None
        return values

    def _asked(self, names: list[str]) -> list[str | None]:
        """Which of `self.names` each counts as."""
        joined = plain(_BETWEEN.join(names))
        asked = self._counted_as(joined)
        if "(" in joined:
            # Rails makes a date of `on(1i)`, `on(2i)` and `on(3i)`.
            parts = self._counted_as(_BEHIND_PARENTHESIS.sub("", joined))
            asked = [one or other for one, other in zip(asked, parts, strict=True)]
        if self._apart:
            pairs = zip(names, asked, strict=True)
            return [None if name in self._apart else one for name, one in pairs]
        return asked

    def _counted_as(self, joined: str) -> list[str | None]:
        if not self._may_be_asked(joined):
            return [None] * (joined.count(_BETWEEN) + 1)
        if not _PARTED.search(joined):
            return self._as_they_stand(joined)
        # PHP drops spaces before a name and what stands behind its brackets.  `qs`, which many
        # servers in JavaScript read queries with, takes `[team]` for `team`, and Rack 2 any number
        # of brackets.  Spring takes `!team` where there is no `team`, and `'` in brackets for none.
        bare = _bare(joined)
        found = [self._as_they_stand(bare)]
        ways = _in_parts(bare)
        if self._wrapped:
            ways += tuple([_FIRST_PART.sub("", parts) for parts in ways])
        for parts in ways:
            cuts = (cut.sub(r"\1", parts).split(_BETWEEN) for cut in self._cuts)
            found += [list(map(self._parts.get, one)) for one in cuts]
        return [next(filter(None, one), None) for one in zip(*found, strict=True)]

    def _may_be_asked(self, joined: str) -> bool:
        """Whatever is dropped of a name or put into it, its letters stand in their order."""
        letters = _query_folded(joined)
        return any(name in letters for name in self._folded)

    def _replaced(self, values: Collection[str], names: list[str]) -> bool:
        """Whether a whole stands beside a part of it that was read, which PHP keeps the last of."""
        for parts in _in_parts(_bare(plain(_BETWEEN.join(names)))):
            for whole in map(self._wholes.get, parts.split(_BETWEEN)):
                if whole is not None and not whole.isdisjoint(values):
                    return True
        return False

    def _as_they_stand(self, joined: str) -> list[str | None]:
        return list(map(self._folded.get, _query_folded(joined).split(_BETWEEN)))


def query_parameter(query: str, name: str) -> str | None:
    """The one value of a parameter; None where it is not there, or could be read in two ways."""
    values = QueryParameters((name,)).read(query)
    return None if values is None else values.get(name)


class HeaderFields:
    """The header fields of some names (lower case), as a policy may read them."""

    __slots__ = ("_folded", "names")

    def __init__(self, names: Collection[str]) -> None:
        self.names = frozenset(names)
        self._folded = {folded_text(name): name for name in self.names}

    def read(self, headers: RawHeaders) -> dict[str, str] | None:
        """Those that are there; None when one is ambiguous.

        A name that is the same once folded counts as the same one, and one that `Connection`
        names is refused: it would be taken away on its way (RFC 9110 section 7.6.1).
        """
        values: dict[str, str] = {}
        for raw_name, raw_value in headers:
            known = folded(raw_name)
            name = self._folded.get(known)
            if name is None:
                if known == b"connection" and _names_one(raw_value, self._folded):
                    return None
                continue
            if name in values or raw_name.lower() != name.encode("latin-1"):
                return None
            try:
                value = raw_value.decode("utf-8")
            except UnicodeDecodeError:
                return None
            if not value.isprintable():
                return None
            values[name] = value
        return values


_BETWEEN = "\x00"
"""Parts names that are decoded and folded at once, as there may be thousands.  None holds it."""
_PARTED = re.compile(r"[\[\].]")
_BEFORE_NAME = re.compile(r"(?<![^\x00])[ .!?\[\]]+")
# Of a run of quotes only the first is tried: from each of them it would be gone through anew.
_BRACKETS = re.compile(r"(?<!['\"])['\"]*[\[\]][\[\]'\"]*")
_FIRST_PART = re.compile(r"(?<![^\x00])[^\x00\[]*\[")
_BEHIND_PARENTHESIS = re.compile(r"\([^\x00\[\]]*")
_IN_PARENTHESES = re.compile(r"\([^&;\[\]]*")
_AT_END = re.compile(r"\[(?![^\x00])")
_BROKEN_ESCAPE = re.compile("%(?![0-9A-Fa-f]{2})")
_SIGNS = "".join(char for char in map(chr, range(1, 128)) if not char.isalnum())
_QUERY_FOLDED = str.maketrans("", "", _SIGNS)
_PARTS_FOLDED = str.maketrans("", "", _SIGNS.replace("[", ""))


def _after_parts(depth: int) -> re.Pattern[str]:
    """In joined names that are parted: one of so many `[`, and all that stands behind it."""
    return re.compile(rf"((?<![^\x00])(?:[^\x00\[]*\[){{{depth}}}[^\x00\[]*)\[[^\x00]*")


def _parted(bare: str) -> str:
    """Names, folded, with one `[` between the parts of each, whatever the brackets are."""
    return _AT_END.sub("", _BRACKETS.sub("[", bare)).translate(_PARTS_FOLDED)


def _in_parts(bare: str) -> tuple[str, ...]:
    """Names, parted in each way in which a backend may: PHP takes a dot for `_`, and `qs` with
    `allowDots`, and Spring, for what stands between two parts."""
    parts = _parted(bare)
    return (parts, _parted(bare.replace(".", "["))) if "." in bare else (parts,)


def _bare(names: str) -> str:
    """Names without what some backends drop before them."""
    return _BEFORE_NAME.sub("", names)


def _query_folded(names: str) -> str:
    return names.translate(_QUERY_FOLDED)


def _names_one(options: bytes, wanted: Collection[bytes]) -> bool:
    """Whether a `Connection` field names one of the fields."""
    known = folded(options)
    if not any(name in known for name in wanted):
        return False  # nearly always, and there may be thousands of options
    named = (folded(option.strip(b" \t")) for option in options.split(b","))
    return any(name in wanted and name != _HANDSHAKE for name in named)


def _names_decoded(raw_names: list[str]) -> list[str] | None:
    """Each as `_form_decoded` gives it; None when one cannot be decoded."""
    joined = _BETWEEN.join(raw_names)
    if joined.isascii() and "%" not in joined and "+" not in joined:
        names = raw_names
    elif _BROKEN_ESCAPE.search(joined):
        return None
    else:
        try:
            data = unquote_to_bytes(joined.replace("+", " ").encode("latin-1"))
            names = data.decode("utf-8").split(_BETWEEN)
        except UnicodeError:
            return None
    # One that holds it would be two of them.
    return names if joined.count(_BETWEEN) + 1 == len(names) == len(raw_names) else None


def _names_guessed(raw_names: list[str]) -> list[str]:
    """Each as it is without what cannot be decoded; one that holds NUL as two."""
    joined = _BETWEEN.join(raw_names).replace("+", " ").encode("latin-1", "ignore")
    return unquote_to_bytes(joined).decode("utf-8", "ignore").split(_BETWEEN)


def _form_decoded(raw: str) -> str | None:
    """Decoded as `application/x-www-form-urlencoded`; None when it cannot be."""
    if raw.isascii() and "%" not in raw and "+" not in raw:
        return raw
    if _BROKEN_ESCAPE.search(raw):
        return None
    try:
        text = unquote_to_bytes(raw.replace("+", " ").encode("latin-1")).decode("utf-8")
    except UnicodeError:
        return None
    return None if _BETWEEN in text else text

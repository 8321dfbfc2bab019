"""One class of calls that gains or loses access, described in one line."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from gateway.model import SourceLocation
from gateway.review.calls import ABSENT, Roles
from gateway.review.methods import OTHER_METHOD
from gateway.review.networks import Network

MOST_SHOWN = 4
"""Values that are listed in a line; the others are counted."""
MOST_METHODS = 12
MOST_ROLES = 8


@dataclass(frozen=True, slots=True)
class Where:
    """A part of a condition, and what it gives where the change happens."""

    source: str
    outcome: str | None
    """`true`, `not true`, `not false`, `false`, `failed` or `judged`; None: whatever it gives."""
    before: str | None = None
    """What it gave before, where that matters."""
    in_other_letters: bool = False
    """In those in which nobody writes capitals, not as all is written."""

    def __str__(self) -> str:
        words = []
        if self.before is not None:
            was = (
                _OUTCOME_PHRASES[self.before].replace("is ", "was ", 1).replace("can ", "could ", 1)
            )
            words.append(f"{was} before")
        if self.outcome is not None:
            words.append(_OUTCOME_PHRASES[self.outcome])
        letters = " in lower case" if self.in_other_letters else ""
        return f"`{self.source}` {' and '.join(words)}{letters}"


_OUTCOME_PHRASES = {
    "true": "is true",
    "not true": "is not true",
    "not false": "is not false",
    "false": "is false",
    "failed": "can not be judged",
    "judged": "can be judged",
}


@dataclass(frozen=True, slots=True)
class Valued:
    """Values that the configuration itself names: those of a table that was changed."""

    names: tuple[str, ...]
    """`user.id`, `{tenant}`, `request.query["page"]`."""
    rows: tuple[tuple[Any, ...], ...]

    def __str__(self) -> str:
        columns = [sorted({row[at] for row in self.rows}, key=str) for at in range(len(self.names))]
        whole = 1
        for column in columns:
            whole *= len(column)
        if whole == len(self.rows):
            # Each value of one with each of the other: listed one by one.
            pairs = zip(self.names, columns, strict=True)
            return " and ".join(
                f"{name} is {_listed(map(_shown, column))}" for name, column in pairs
            )
        rows = ("(" + ", ".join(map(_shown, row)) + ")" for row in self.rows)
        return f"({', '.join(self.names)}) is {_listed(rows)}"


@dataclass(frozen=True, slots=True)
class AccessChange:
    """`caller()` gains or loses the methods of a path; `str` describes all of it."""

    methods: tuple[str, ...]
    any_method: bool
    host: str | None
    pattern: str
    gains: bool
    certain: bool
    """Whether it is so; else it may be, as some part of a condition cannot be evaluated here."""
    signed: bool | None
    """Signed in, not, or either."""
    roles: tuple[Roles, ...] = ()
    """The smallest sets of roles that it happens to; empty where roles do not matter."""
    unless: tuple[Roles, ...] = ()
    """Of who loses: the roles that keep it."""
    owner_of: tuple[str, ...] = ()
    """The parameters that hold the caller's id."""
    sign_in: tuple[tuple[str, bool], ...] = ()
    """Which sign-ins were asked for, and whether the caller's is such a one."""
    with_: tuple[str, ...] = ()
    """What they show: `cookie`, `a token of company`."""
    scopes: tuple[tuple[str, ...], ...] = ()
    blocks: tuple[Network, ...] = ()
    """Where the call comes from; empty: from anywhere."""
    addresses: str = ""
    """The same in words."""
    where: tuple[Where, ...] = ()
    values: Valued | None = None
    such_as: str = ""
    """A path, where only some paths of the pattern are meant."""
    before: str = ""
    after: str = ""
    rule: str | None = None
    location: SourceLocation | None = None
    because: str = ""
    """What has changed, where it is no part of the decision."""
    permissions: tuple[str, ...] = ()
    """In the operator's console, which is then meant in the place of a route."""

    def caller(self) -> str:
        if self.signed is False:
            return "anonymous"
        everyone = "everyone" if self.signed is None else "everyone signed in"
        if self.signed is None and (self.roles or self.with_ or self.scopes):
            # Who is not signed in has neither roles nor a credential that could be of a kind.
            everyone = f"anonymous or {_describe_roles(self.roles) or 'everyone signed in'}"
        words = [everyone if self.signed is None else _describe_roles(self.roles) or everyone]
        if self.owner_of:
            words.append("as {" + "}, {".join(self.owner_of) + "}")
        if self.sign_in:
            signed = (_describe_sign_in(*one, alone=len(self.sign_in) == 1) for one in self.sign_in)
            words.append(" and ".join(signed))
        if self.with_:
            words.append("with " + " or ".join(self.with_))
        if self.scopes:
            limits = ("+".join(one) or "nothing that is asked for" for one in self.scopes)
            words.append(f"limited to {' or '.join(limits)}")
        return " ".join(words)

    def method(self) -> str:
        """`GET,POST`, `any method`."""
        if self.any_method:
            return "any method"
        named = [m for m in self.methods if m != OTHER_METHOD]
        if "GET" in named:
            named = [method for method in named if method != "HEAD"]
        other = ["any other method"] if OTHER_METHOD in self.methods else []
        rest = named[MOST_METHODS:] if len(named) > MOST_METHODS + 1 else []
        more = [f"{len(rest)} more methods"] if rest else []
        return ",".join(named[: len(named) - len(rest)] + more + other)

    def __str__(self) -> str:
        verb = ("GAINS" if self.gains else "LOSES") if self.certain else (
            "MAY GAIN" if self.gains else "MAY LOSE"
        )  # fmt: skip
        text = f"{self.caller()} {verb} {self._what()}"
        if self.location is not None and self.location.line:
            text += f" ({self.location})"
        if self.addresses:
            text += f" from {self.addresses}"
        conditions = [] if self.values is None else [str(self.values)]
        conditions += [str(one) for one in self.where if self._is_shown(one)]
        if conditions:
            text += " where " + " and ".join(conditions)
        if self.unless:
            text += f" unless {_describe_roles(self.unless)}"
        text += f" on paths such as {self.such_as}" if self.such_as else ""
        return text + (f": {self.because}" if self.because else "")

    def _what(self) -> str:
        if self.permissions:
            return f"{','.join(self.permissions)} in the console"
        return f"{self.method()} {self.host or ''}{self.pattern}"

    def _is_shown(self, one: Where) -> bool:
        """That the owner had it already goes without saying."""
        had = self.gains and one.outcome == "not true" and not one.in_other_letters
        return not (had and _compares_id(one.source))


def _compares_id(source: str) -> bool:
    left, equals, right = (part.strip() for part in source.partition("=="))
    return bool(equals) and "user.id" in (left, right) and "'" not in source and '"' not in source


def _describe_roles(sets: Iterable[Roles]) -> str:
    """`viewer`, `lead or viewer`, `frozen+viewer`."""
    names: list[str] = []
    for roles in sets:
        if len(roles) == 1:
            (alike,) = roles
            names += sorted(alike)
        elif roles:
            groups = [sorted(alike) for alike in roles]
            alike_words = [_counted(one, " or ", "one of {} more") for one in groups]
            words = [
                word if len(one) == 1 else f"({word})"
                for one, word in zip(groups, alike_words, strict=True)
            ]
            names.append(_counted(sorted(words), "+", "{} more"))
    return _counted(sorted(names), " or ", "one of {} more")


def _counted(names: list[str], between: str, more: str) -> str:
    rest = len(names) - MOST_ROLES
    return between.join([*names[:MOST_ROLES], more.format(rest)] if rest > 1 else names)


def _describe_sign_in(asked: str, met: bool, *, alone: bool) -> str:
    if alone:
        return "with a fresh sign-in" if met else "without a fresh sign-in"
    age, *methods = asked.split()
    words = [] if age == "None" else [f"of the last {age} s"]
    words += [f"by {'+'.join(methods)}"] if methods else []
    return f"{'with' if met else 'without'} a sign-in {' '.join(words)}"


def _listed(words: Iterable[str]) -> str:
    all_ = list(words)
    shown = all_[:MOST_SHOWN] if len(all_) > MOST_SHOWN + 1 else all_
    rest = len(all_) - len(shown)
    if rest:
        return ", ".join(shown) + f" or one of {rest} more"
    return shown[0] if len(shown) == 1 else ", ".join(shown[:-1]) + " or " + shown[-1]


def _shown(value: Any) -> str:
    if value is ABSENT:
        return "absent"
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return f'"{value}"' if isinstance(value, str) else str(value)

"""What is read of a call and compared, by one part of a condition."""

from __future__ import annotations

from dataclasses import dataclass, field

from gateway.review.affixes import Affix

Path = tuple[str, ...]
"""`("user", "id")`, `("request", "query", "page")`, `("now",)`: what is read of a call."""
TableStep = str | int | Path
"""A key of a table as it is written, or where in the call it comes from."""
NOW: Path = ("now",)
SIGN_IN: Path = ("user", "auth_time")
ADDRESS: Path = ("client", "ip")


@dataclass(slots=True)
class Survey:
    """Everything that an atom reads and compares with."""

    paths: set[Path] = field(default_factory=set)
    tables: list[tuple[TableStep, ...]] = field(default_factory=list)
    """Each read of `data`, by its steps."""
    texts: set[str] = field(default_factory=set)
    numbers: set[float] = field(default_factory=set)
    affixes: dict[Path, set[Affix]] = field(default_factory=dict)
    """What a value is asked to begin, end or be filled with."""
    role_affixes: set[Affix] = field(default_factory=set)
    """The same of any role."""
    orders: bool = False
    """It orders a value by what `data` holds."""
    lists: set[Path] = field(default_factory=set)
    """Values that are asked whether they hold another."""
    wholes: set[str] = field(default_factory=set)
    """Keys under which `data` holds what is compared as it is, which may be a list or an object;
    empty: what a list holds, or a key that the call names."""
    constants: set[bool | None] = field(default_factory=set)
    every: bool = False
    """It may ask for all that a table lists, and not for any of them."""
    roles: bool = False
    any_role: bool = False
    """It goes through the roles, or asks for one that the text does not name."""
    by_role: bool = False
    """It goes through the roles once, and asks nothing else of them: what it gives for some of
    them follows from what it gives for each alone."""
    each_role: bool = False
    """It may ask of all roles at once (`all`, or what no role may be)."""
    scopes: set[str] = field(default_factory=set)
    granted: set[str] = field(default_factory=set)
    """Scopes of a token that are asked for by name."""
    ages_s: set[float] = field(default_factory=set)
    """How old a sign-in is compared with."""
    moments: set[float] = field(default_factory=set)
    """Seconds since the epoch that `now` is compared with."""
    clock: set[tuple[str, int]] = field(default_factory=set)
    """(`getHours`, 17): fields of `now`, and what they are compared with."""

"""The words that operators write and that another version calls differently: one table.

An old word is refused where it stands, as it would else be a silent default; the refusal names the
new one, and `gateway config migrate` writes it.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Document(StrEnum):
    """In what kind of file a word stands."""

    ROUTES = "routes"
    POLICY = "policy"
    SETTINGS = "settings"


ANY = "*"
"""In a path: each item of a list, each name of a block."""


@dataclass(frozen=True, slots=True)
class Rename:
    document: Document
    within: tuple[str, ...]
    """The names that lead to the block in which the word is a key; with `is_value` the last of
    them is the key whose value the word is."""
    old: str
    new: str
    version: str
    """The first that knows the new word alone."""
    is_value: bool = False

    @property
    def told(self) -> str:
        return f"renamed to `{self.new}` in {self.version}; `gateway config migrate` writes it"


RENAMES = (
    Rename(Document.ROUTES, ("routes", ANY, "match"), "except_own", "except_reserved", "0.1"),
    Rename(Document.ROUTES, ("routes", ANY), "respond", "direct_response", "0.1"),
    Rename(
        Document.ROUTES,
        ("routes", ANY, "on_change"),
        "rejudge",
        "reevaluate",
        "0.1",
        is_value=True,
    ),
    Rename(
        Document.ROUTES,
        ("defaults", "on_change"),
        "rejudge",
        "reevaluate",
        "0.1",
        is_value=True,
    ),
    Rename(Document.SETTINGS, (), "GATEWAY_AUDIT_KEEP_DAYS", "GATEWAY_AUDIT_RETENTION_DAYS", "0.1"),
    Rename(
        Document.SETTINGS, (), "GATEWAY_CLIENT_STALL_S", "GATEWAY_CLIENT_WRITE_TIMEOUT_S", "0.1"
    ),
)


def renamed_setting(name: str) -> Rename | None:
    """What became of a setting."""
    return next(
        (one for one in RENAMES if one.document is Document.SETTINGS and one.old == name), None
    )


def renamed_word(word: str, known: list[str]) -> Rename | None:
    """What became of a word of a YAML file, where its successor is one of those known there."""
    return next(
        (
            one
            for one in RENAMES
            if one.document is not Document.SETTINGS and one.old == word and one.new in known
        ),
        None,
    )

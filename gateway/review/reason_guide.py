"""What each reason means, for people: told by `gateway why`, and written into docs/reasons/."""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass
from importlib.resources import files

_LINK = re.compile(r"\[([^\]]+)\]\([^)]+\)")


@dataclass(frozen=True, slots=True)
class ReasonGuide:
    """Each text is Markdown, whose links are relative to docs/."""

    happened: str
    why: str
    caller: str
    """What whoever called can do."""
    operator: str


OF_A_RULE = ReasonGuide(
    "A rule of the policy refuses this call, and gives this word of its own as the reason.",
    "Any rule that denies wins over every rule that allows.",
    "Ask whoever runs this service.",
    "`gateway why REQUEST_ID` names the rule with its file and line, and the smallest change.",
)
"""Of a reason that is in no table."""


def load_guide() -> dict[str, ReasonGuide]:
    text = files("gateway").joinpath("schemas", "reasons.toml").read_text("utf-8")
    return {reason: ReasonGuide(**texts) for reason, texts in tomllib.loads(text).items()}


def plain(text: str) -> str:
    """The text without the targets of its links, for a terminal."""
    return _LINK.sub(r"\1", text)

"""Colours of the pages, and the name that they bear: `pages/theme.yaml`.

Law: what people read stands out from what is behind it by 4.5 to 1 (WCAG 2.2, 1.4.3), whatever
colours are chosen; what stands on the accent is black or white, whichever does.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from gateway.config.yaml_reader import Reader
from gateway.model import ConfigProblem

LEAST_CONTRAST = 4.5
_COLOUR = re.compile(r"#[0-9a-fA-F]{6}")
SHIPPED: Mapping[str, Mapping[str, str]] = {
    "light": {
        "accent": "#1d4ed8",
        "link": "#1d4ed8",
        "page": "#f3f4f6",
        "card": "#ffffff",
        "text": "#111827",
        "quiet": "#4b5563",
        "line": "#6b7280",
    },
    "dark": {
        "accent": "#93b4fd",
        "link": "#a5c0ff",
        "page": "#0b1220",
        "card": "#151e2e",
        "text": "#f3f4f6",
        "quiet": "#b6c0cf",
        "line": "#8593a8",
    },
}
"""As `assets/pages.css` has them."""
_READ = (("text", "card"), ("quiet", "card"), ("quiet", "page"), ("link", "card"))
"""What is read, and what is behind it."""


@dataclass(frozen=True, slots=True)
class Theme:
    name: str | None = None
    """In the place of the host."""
    light: Mapping[str, str] = field(default_factory=dict)
    dark: Mapping[str, str] = field(default_factory=dict)

    def style(self) -> str:
        """What follows the shipped style."""
        light = f":root {{{_variables(self.light)}}}" if self.light else ""
        dark = f":root {{{_variables(self.dark)}}}" if self.dark else ""
        return light + (f"@media (prefers-color-scheme: dark) {{{dark}}}" if dark else "")


def read_theme(file: str, text: str, problems: list[ConfigProblem]) -> Theme:
    reader = Reader(file, problems)
    fields = reader.block(reader.document(text), "the theme", ("name", "light", "dark"))
    chosen = {scheme: _colours(reader, fields.get(scheme), scheme) for scheme in ("light", "dark")}
    return Theme(reader.text(fields.get("name"), "`name`"), chosen["light"], chosen["dark"])


def _colours(reader: Reader, node: Any, scheme: str) -> dict[str, str]:
    shipped = SHIPPED[scheme]
    entries = reader.block(node, f"`{scheme}`", shipped.keys())
    chosen: dict[str, str] = {}
    for name, value in entries.items():
        colour = reader.text(value, f"`{name}`")
        if colour is None:
            continue
        if _COLOUR.fullmatch(colour):
            chosen[name] = colour.lower()
        else:
            reader.error(value, f'`{name}` is a colour such as "#1d4ed8", in quotes')
    used = {**shipped, **chosen}
    for front, behind in _READ:
        ratio = contrast(used[front], used[behind])
        named = next((one for one in (front, behind) if one in chosen), None)
        if named is not None and ratio < LEAST_CONTRAST:
            reader.error(
                entries[named],
                f"`{front}` on `{behind}` has a contrast of {ratio:.1f} to 1; people need"
                f" {LEAST_CONTRAST:g}",
            )
    return chosen


def contrast(one: str, other: str) -> float:
    """Of two colours (WCAG 2.2, "contrast ratio"): 1 to 21."""
    lighter, darker = sorted((_luminance(one), _luminance(other)), reverse=True)
    return (lighter + 0.05) / (darker + 0.05)


def _variables(colours: Mapping[str, str]) -> str:
    variables = dict(colours)
    if "accent" in colours:
        ink = max(("#ffffff", "#000000"), key=lambda one: contrast(one, colours["accent"]))
        variables["on-accent"] = ink
    return " ".join(f"--{name}: {colour};" for name, colour in variables.items())


def _luminance(colour: str) -> float:
    channels = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    red, green, blue = (
        one / 12.92 if one <= 0.04045 else ((one + 0.055) / 1.055) ** 2.4 for one in channels
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue

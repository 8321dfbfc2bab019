"""The page of the house names its rooms, and no file that is not there."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "gateway"
PAGE = (ROOT / "docs" / "architecture.md").read_text("utf-8")


def named() -> set[str]:
    return set(re.findall(r"[`/ ]([a-z_]+\.py)\b", PAGE))


def test_each_room_is_on_the_page() -> None:
    rooms = [path.name + "/" for path in PACKAGE.iterdir() if (path / "__init__.py").exists()]
    rooms += [path.name for path in PACKAGE.glob("*.py") if not path.name.startswith("__")]
    assert [room for room in rooms if f"`{room}`" not in PAGE] == []


def test_no_file_is_named_that_is_not_there() -> None:
    there = {path.name for path in PACKAGE.rglob("*.py")}
    assert sorted(named() - there - {"test_layers.py"}) == []


def test_nearly_every_file_is_named() -> None:
    """A new one may come before its line; whole groups may not."""
    rooms = ("access", "edge", "identity", "review", "stores", "worker")
    files = {p.name for room in rooms for p in (PACKAGE / room).rglob("*.py")} - {"__init__.py"}
    missing = sorted(files - named() - {"listener.py"})
    assert len(missing) <= 8, missing

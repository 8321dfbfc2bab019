"""The lines that the gateway can log, found in its code, and those that the page tells of."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[1]
LEVELS = ("debug", "info", "warning", "error", "critical", "exception")


@cache
def logged() -> dict[str, set[str]]:
    """Event -> its levels, from every call of a `log`, and of what wraps one in `shadow.py`."""
    found: dict[str, set[str]] = {}
    for path in sorted((ROOT / "gateway").rglob("*.py")):
        for call in ast.walk(ast.parse(path.read_text("utf-8"))):
            level = level_of(call, told=path.name == "shadow.py")
            if level is None:
                continue
            assert isinstance(call, ast.Call)
            first = call.args[0]
            if isinstance(first, ast.Name) and path.name == "shadow.py":
                continue  # inside `_tell`
            place = f"{path.relative_to(ROOT)}:{call.lineno}"
            assert isinstance(first, ast.Constant), f"{place}: an event is a constant"
            found.setdefault(str(first.value), set()).add(level)
    # `logs.py` gives the remarks of libraries, at their own levels, this name.
    found["library-remark"] = {"warning", "error", "critical"}
    return found


def level_of(call: ast.AST, *, told: bool = False) -> str | None:
    """The level of a call that logs; with `told`, of one that tells through `_tell` too."""
    if not (isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute) and call.args):
        return None
    of = call.func.value
    if isinstance(of, ast.Name) and of.id == "log" and call.func.attr in LEVELS:
        return call.func.attr.replace("exception", "error")
    return "info" if told and call.func.attr == "_tell" else None


def described() -> dict[str, set[str]]:
    page = (ROOT / "docs" / "operations" / "events.md").read_text("utf-8")
    found: dict[str, set[str]] = {}
    for names, levels in re.findall(r"^\| ((?:`[a-z-]+` ?)+) \| ([a-z, ]+) \|", page, re.M):
        for name in re.findall(r"`([a-z-]+)`", names):
            assert name not in found, f"{name} stands twice"
            found[name] = set(levels.split(", "))
    return found


def of_stores_without_why() -> list[str]:
    """Where a line names a store that is away, and not why."""
    found = []
    for path in sorted((ROOT / "gateway").rglob("*.py")):
        for call in ast.walk(ast.parse(path.read_text("utf-8"))):
            if level_of(call) is not None:
                assert isinstance(call, ast.Call)
                fields = {keyword.arg for keyword in call.keywords}
                if "store" in fields and "why" not in fields:
                    found.append(f"{path.name}:{call.lineno}")
    return found

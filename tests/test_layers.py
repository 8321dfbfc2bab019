"""Imports run one way, as the house is built: a room knows only what it stands on."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "gateway"

WORLD = {"model", "metrics"}
MAY_IMPORT: dict[str, set[str]] = {
    "model": set(),
    "metrics": set(),
    "counted_addresses": set(),
    "folder": set(),
    "demo": set(),
    "settings": {"setting_values"},
    "setting_values": set(),
    "logs": set(),
    "audit": {"model", "metrics", "stores.protocols", "audit_chain"},
    "audit_chain": {"stores.protocols"},
    "audit_pruning": {"audit", "audit_chain", "stores.protocols"},
    "access": {"model"},
    "review": {"model", "access"},
    "stores": {"model"},
    "identity": {"model", "counted_addresses", "stores.protocols"},
    "worker": {
        "model",
        "counted_addresses",
        "access",
        "identity",
        "stores.protocols",
        "metrics",
        "audit",
    },
    "edge": {
        "model",
        "counted_addresses",
        "access",
        "review",
        "identity",
        "stores.protocols",
        "worker",
        "metrics",
        "audit",
    },
}
ANYTHING = {
    "app",
    "desk",
    "gauges",
    "installation",
    "serve",
    "shared_settings",
    "cli",
    "__main__",
    "welcome",
    "supervising",
}
"""Where it is put together: these may import everything, and nobody imports them."""

PURE = {"aiohttp", "asyncio", "redis", "aiopg", "aiosqlite", "psycopg2"}
"""What `access` must not know of: it decides, it does not wait."""


def room_of(module: str) -> str:
    """`stores.protocols` is a room of its own: the others ask a store by it alone."""
    if module == "stores.protocols":
        return module
    return module.partition(".")[0]


def module_name(path: Path) -> str:
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__")


def imports(path: Path) -> list[tuple[str, int]]:
    """Every module that a file imports, also within a function, with the line."""
    found = []
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            found += [(alias.name, node.lineno) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: a relative import"
            assert node.module is not None
            if node.module in ("gateway", "gateway.stores"):
                found += [(f"{node.module}.{alias.name}", node.lineno) for alias in node.names]
            else:
                found.append((node.module, node.lineno))
    return found


MODULES = sorted(PACKAGE.rglob("*.py"))


@pytest.mark.parametrize("path", MODULES, ids=lambda path: module_name(path) or "gateway")
def test_a_room_imports_only_what_it_stands_on(path: Path) -> None:
    room = room_of(module_name(path)).removesuffix(".protocols")
    if room in ANYTHING or not room:
        return
    assert room in MAY_IMPORT, f"{room} is in no list: say what it may import"
    wrong = [
        f"{path.name}:{line} imports {name}"
        for name, line in imports(path)
        if name.startswith("gateway.")
        and (to := room_of(name.removeprefix("gateway."))) != room
        and to.removesuffix(".protocols") != room
        and to not in MAY_IMPORT[room]
    ]
    assert wrong == []


@pytest.mark.parametrize(
    "path", [path for path in MODULES if "access" in path.parts], ids=lambda path: path.stem
)
def test_the_core_waits_for_nothing(path: Path) -> None:
    wrong = [name for name, _ in imports(path) if name.partition(".")[0] in PURE]
    assert wrong == []


def test_no_room_reads_the_settings() -> None:
    readers = {
        module_name(path)
        for path in MODULES
        for name, _ in imports(path)
        if name == "gateway.app.settings"
    }
    assert {room_of(reader) for reader in readers} <= ANYTHING

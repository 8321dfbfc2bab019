"""Imports run one way, down one stair: a room knows only the rooms on the steps below its own."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path

PACKAGE = Path(__file__).parent.parent / "gateway"

SPLIT = frozenset(("access", "edge", "identity"))
"""Houses of rooms: a folder in one of them is a room, and so is a file that stands beside them."""

STAIR: tuple[tuple[str, ...], ...] = (
    ("control_groups",),
    (
        "compiled",
        "call_trace",
        "model",
        "limit_state",
        "client_networks",
        "loopback",
        "cores",
        "strict_json",
        "bounded_memo",
        "atomic_file",
        "email_address",
    ),
    ("stores.protocols",),
    ("stores",),
    ("access.renames",),
    (
        "access.suggestions",
        "access.field_names",
        "access.secret_text",
        "access.templates",
        "access.websocket_options",
    ),
    ("access.roles", "access.attributes", "access.issuers", "access.factor_rule"),
    ("access.identity_headers",),
    ("access.conditions", "access.providers"),
    ("access.definitions",),
    ("access.step_up",),
    ("access.policies",),
    ("access.routing", "access.console", "access.barring_roles"),
    ("access.counted_letters",),
    ("access.counted_contacts", "access.counted_phones"),
    ("access.snapshot", "access.rule_headers", "access.readings", "access.counted_values"),
    ("access.counted_endings",),
    ("access.evaluation",),
    ("access.decision",),
    ("access.resource_servers",),
    ("access.judging",),
    ("access.authorizer",),
    ("access.record_gaps", "access.explanation", "access.sent_headers"),
    ("access.decision_record", "access.parsed_bodies"),
    ("access.simulation",),
    ("config",),
    ("identity.base64url", "identity.key_derivation"),
    (
        "identity.made_up",
        "identity.opaque_tokens",
        "identity.password_epochs",
        "identity.purging",
        "identity.revocations",
        "identity.sealed_tokens",
        "identity.tombstones",
    ),
    ("identity.keys", "identity.mail"),
    ("identity.tokens", "identity.sessions"),
    ("identity.issuers",),
    ("identity.accounts",),
    ("identity.factors",),
    ("identity.sign_in",),
    ("identity.clients", "identity.providers"),
    ("telemetry",),
    ("audit", "background_tasks"),
    ("rate_limit", "revocation"),
    ("edge.http1",),
    ("edge.replies",),
    ("review",),
    ("edge.server", "edge.upstream"),
    ("edge.streams",),
    ("edge.proxy", "edge.endpoints"),
    ("edge.pages",),
    ("edge.console",),
    ("edge.admin",),
    ("edge.ext_authz",),
    ("app",),
    ("cli",),
    ("__main__",),
)
STEP = {room: step for step, rooms in enumerate(STAIR) for room in rooms}

PUTS_TOGETHER = frozenset(("app", "cli", "__main__"))
"""They make the stores, and hand them to the others, who know their protocols alone."""

PURE = frozenset(("aiohttp", "asyncio", "redis", "sqlite3", "psycopg", "yaml"))
"""What `access` must not know of: it decides; it reads nothing and waits for nothing."""


def module_name(path: Path) -> str:
    """Its name within the package; "" is the package itself."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__")


MODULES = {module_name(path): path for path in sorted(PACKAGE.rglob("*.py"))}


def room_of(module: str) -> str:
    if module == "stores.protocols":
        return module
    first, *rest = module.split(".")
    return f"{first}.{rest[0]}" if first in SPLIT and rest else first


@cache
def imports(path: Path) -> tuple[tuple[str, int], ...]:
    """Every module that a file imports, also within a function or for its types alone."""
    return tuple(_imports(path))


def _imports(path: Path) -> Iterator[tuple[str, int]]:
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: a relative import"
            assert node.module is not None
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                is_module = inner.removeprefix("gateway.") in MODULES
                yield (inner if is_module else node.module), node.lineno


def own_imports(module: str) -> Iterator[tuple[str, int]]:
    """Of this package, without its name."""
    for name, line in imports(MODULES[module]):
        if name.startswith("gateway."):
            yield name.removeprefix("gateway."), line


def test_a_room_imports_only_from_the_steps_below() -> None:
    wrong = [
        f"{module}:{line} imports {name}"
        for module in MODULES
        if (room := room_of(module)) in STEP
        for name, line in own_imports(module)
        if (other := room_of(name)) != room and STEP[other] >= STEP[room]
    ]
    assert wrong == []


def test_every_file_stands_on_a_step() -> None:
    outside = {
        room_of(module)
        for module, path in MODULES.items()
        if "." in module and path.name != "__init__.py"
    } - set(STEP)
    assert outside == set(), "say in STAIR which step each stands on"


def test_every_step_is_of_a_room_that_there_is() -> None:
    assert set(STEP) == {room_of(module) for module in MODULES if module} - SPLIT


def test_the_stores_are_asked_by_their_protocols_alone() -> None:
    wrong = [
        f"{module}:{line} imports {name}"
        for module in MODULES
        if module and room_of(module) not in PUTS_TOGETHER | {"stores"}
        for name, line in own_imports(module)
        if room_of(name) == "stores"
    ]
    assert wrong == []


def circles(graph: Mapping[str, set[str]]) -> list[list[str]]:
    """The strongly connected sets of more than one (Tarjan 1972)."""
    number: dict[str, int] = {}
    lowest: dict[str, int] = {}
    stack: list[str] = []
    found: list[list[str]] = []

    def visit(node: str) -> None:
        number[node] = lowest[node] = len(number)
        stack.append(node)
        for other in graph[node]:
            if other not in number:
                visit(other)
            if other in stack:
                lowest[node] = min(lowest[node], lowest[other])
        if lowest[node] == number[node]:
            circle = stack[stack.index(node) :]
            del stack[-len(circle) :]
            if len(circle) > 1:
                found.append(sorted(circle))

    for node in graph:
        if node not in number:
            visit(node)
    return found


def test_circles_are_found() -> None:
    graph = {"a": {"b"}, "b": {"c"}, "c": {"b", "d"}, "d": set[str]()}
    assert circles(graph) == [["b", "c"]]


def test_no_module_leads_back_to_itself() -> None:
    graph = {module: {name for name, _ in own_imports(module)} for module in MODULES}
    assert circles(graph) == []


def test_the_core_waits_for_nothing() -> None:
    wrong = [
        f"{module}:{line} imports {name}"
        for module in MODULES
        if module.startswith("access")
        for name, line in imports(MODULES[module])
        if name.partition(".")[0] in PURE
    ]
    assert wrong == []


def test_no_room_reads_the_settings() -> None:
    readers = {
        module for module in MODULES for name, _ in own_imports(module) if name == "app.settings"
    }
    assert {room_of(reader) for reader in readers} <= PUTS_TOGETHER

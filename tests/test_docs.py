"""What the documents say is so: their lines are those that are printed, their links lead on."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterable
from functools import cache
from pathlib import Path

from docs import reference_pages
from gateway import cli
from gateway.app.quickstart import DemoUser, steps
from gateway.audit.log import AuditKind
from gateway.config.compile import TOP_KEYS
from tests.log_events import described, logged, of_stores_without_why

REPOSITORY = Path(__file__).parents[1]
PAGES = sorted(
    path
    for path in REPOSITORY.rglob("*.md")
    if not any(part.startswith(".") for part in path.relative_to(REPOSITORY).parts)
)


def without_guest(text: str) -> str:
    text = re.sub(r"ada-[0-9a-f]{6}@example\.com", "EMAIL", text)
    return re.sub(r"violet-[0-9a-f]{12}", "PASSWORD", text)


def test_the_readme_shows_the_very_lines_that_gateway_dev_prints() -> None:
    readme = without_guest((REPOSITORY / "README.md").read_text("utf-8"))
    for step in steps("http://127.0.0.1:8080", DemoUser.new()):
        assert f"\n$ {without_guest(step.command)}\n" in readme
        assert step.expect in readme


def test_the_readme_lists_every_command() -> None:
    table = (REPOSITORY / "README.md").read_text("utf-8").partition("## Commands")[2]
    named = set(re.findall(r"`(?:gateway )?([a-z]+)[ `]", table.partition("## More")[0]))
    assert set(cli.COMMANDS) <= named


def test_every_link_leads_to_a_page_and_a_heading_that_are_there() -> None:
    wrong = []
    for page in PAGES:
        for target in links(page):
            path, _, anchor = target.partition("#")
            to = (page.parent / path).resolve() if path else page
            if not to.exists() or (anchor and anchor not in headings(to)):
                wrong.append(f"{page.relative_to(REPOSITORY)}: {target}")
    assert wrong == []


def links(page: Path) -> list[str]:
    """To pages of ours."""
    text = re.sub(r"```.*?```", "", page.read_text("utf-8"), flags=re.S)
    targets = re.findall(r"\]\(([^)\s]+)\)", text)
    return [target for target in targets if not re.match(r"[a-z]+:", target)]


@cache
def headings(page: Path) -> set[str]:
    """The anchors of a page, as GitHub makes them of its headings."""
    lines = re.findall(r"^#+ (.+)$", page.read_text("utf-8"), re.M)
    return {re.sub(r"[^\w\- ]", "", line.lower()).strip().replace(" ", "-") for line in lines}


def test_no_page_names_a_path_of_somebodys_machine() -> None:
    tracked = subprocess.run(
        ["git", "ls-files", "-z"], cwd=REPOSITORY, capture_output=True, text=True, check=False
    )
    wrong = [
        name
        for name in tracked.stdout.split("\0")
        if name.endswith((".md", ".py", ".yaml", ".sh", "Makefile"))
        and re.search(r"/(home|root|Users)/[a-z]", (REPOSITORY / name).read_text("utf-8"))
    ]
    assert wrong == []


def tracked(*ends: str) -> list[str]:
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=REPOSITORY, capture_output=True, text=True, check=False
    )
    return [name for name in listed.stdout.split("\0") if name.endswith(ends)]


def test_a_field_of_ours_is_spelled_in_one_way() -> None:
    wrong = [
        (name, found)
        for name in tracked(".md", ".py", ".yaml", ".conf", ".cfg", ".js")
        for found in re.findall("x-request-id", (REPOSITORY / name).read_text("utf-8"), re.I)
        if found not in ("X-Request-Id", "x-request-id")
    ]
    assert wrong == []


def test_a_page_that_a_file_names_is_there() -> None:
    wrong = [
        (name, page)
        for name in tracked(".py", ".yaml", ".service", ".example", ".cfg", ".conf", "Makefile")
        for page in re.findall(
            r"(?<![\w/.])docs/[\w/-]+\.md", (REPOSITORY / name).read_text("utf-8")
        )
        if not (REPOSITORY / page).exists()
    ]
    assert wrong == []


def test_no_file_cites_a_law_or_a_contract_that_nobody_can_look_up() -> None:
    """They were numbered somewhere else: a number says nothing here."""
    cited = re.compile(r"\b(?:contract|laws?)\s+\d", re.I)
    wrong = [
        f"{name}: {found}"
        for name in tracked(".md", ".py", ".yaml", ".lua", ".sql", ".sh", "Makefile")
        for found in cited.findall((REPOSITORY / name).read_text("utf-8"))
        if name != "tests/test_docs.py"
    ]
    assert wrong == []


def test_the_page_of_the_house_names_each_room_and_no_file_that_is_not_there() -> None:
    """A new file is a word in the group that it belongs to."""
    page = (REPOSITORY / "docs" / "architecture.md").read_text("utf-8")
    package = REPOSITORY / "gateway"
    named = set(re.findall(r"[`/ ]([a-z_0-9]+\.py)\b", page))
    files = {path.name for path in package.rglob("*.py") if not path.name.startswith("__")}
    commands = {path.name for path in (package / "cli").iterdir()}
    rooms = [f"{path.parent.relative_to(package)}/" for path in package.rglob("__init__.py")]
    assert sorted(files - named - commands) == []
    assert sorted(named - files - {"test_layers.py"}) == []
    assert [room for room in rooms if room != "./" and f"`{room}`" not in page] == []


def test_every_file_that_a_newcomer_is_sent_to_is_there() -> None:
    text = (REPOSITORY / "CONTRIBUTING.md").read_text("utf-8")
    table = text.partition("## Which files a change touches")[2]
    named = re.findall(r"`((?:gateway|docs)/[\w/.-]+)`", table)
    assert len(named) > 20
    assert [name for name in named if not (REPOSITORY / name).exists()] == []


def test_each_event_of_the_log_is_described_at_its_level_and_no_other_is() -> None:
    """A new event is a row of docs/operations/events.md."""
    assert described() == logged()


def test_an_event_of_the_log_is_a_phrase_of_lower_case_words() -> None:
    assert [name for name in logged() if not re.fullmatch(r"[a-z]+(-[a-z]+)*", name)] == []


def test_the_page_of_the_audit_log_tells_of_each_kind_of_event() -> None:
    assert _undescribed(AuditKind, "docs/audit-log.md") == []


def test_the_page_of_routes_tells_of_each_block_of_the_file() -> None:
    assert _undescribed(TOP_KEYS, "docs/policies/routes.md") == []


def _undescribed(words: Iterable[str], page: str) -> list[str]:
    """Those that no row of a table begins with."""
    rows = re.findall(r"^\| ([^|]+) \|", (REPOSITORY / page).read_text("utf-8"), re.M)
    described_words = set(re.findall(r"`([a-z_]+)", " ".join(rows)))
    return [word for word in words if word not in described_words]


def test_a_line_that_tells_of_a_store_that_is_away_says_why() -> None:
    assert of_stores_without_why() == []


def test_the_pages_of_endpoints_and_keys_are_current() -> None:
    folder = REPOSITORY / "docs" / "reference"
    assert (folder / "endpoints.md").read_text("utf-8") == reference_pages.endpoints()
    assert (folder / "keys.md").read_text("utf-8") == reference_pages.keys()


def test_the_page_of_commands_is_current() -> None:
    """`make docs` writes it anew."""
    done = subprocess.run(
        [sys.executable, "-c", "from docs.build import commands; print(commands(), end='')"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == (REPOSITORY / "docs" / "commands.md").read_text("utf-8")


def _names(module: ast.Module) -> set[str]:
    """Of its functions, of its classes, and of what it assigns (a state machine's test case)."""
    defined = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    found = {node.name for node in ast.walk(module) if isinstance(node, defined)}
    assigned = [node for node in module.body if isinstance(node, ast.Assign)]
    return found | {t.id for node in assigned for t in node.targets if isinstance(t, ast.Name)}


def named_tests(text: str) -> list[tuple[str, str]]:
    return re.findall(r"\b(tests/[\w/]+\.py)::(\w+)", text)


def test_every_test_that_a_page_names_is_there() -> None:
    named = {one for page in PAGES for one in named_tests(page.read_text("utf-8"))}
    names_of = {
        file: _names(ast.parse((REPOSITORY / file).read_text("utf-8")))
        for file in {file for file, _ in named}
    }
    assert [f"{file} has no {name}" for file, name in named if name not in names_of[file]] == []


def test_each_row_of_the_table_of_outages_names_its_test() -> None:
    page = (REPOSITORY / "docs/operations/outages.md").read_text("utf-8")
    table = page.partition("## Which test holds it")[2]
    rows = [line for line in table.splitlines() if line.startswith("|")][2:]
    assert len(rows) > 25
    assert [row for row in rows if not named_tests(row)] == []


def test_every_test_file_and_folder_that_a_page_names_is_there() -> None:
    named = {
        (page.name, path)
        for page in PAGES
        for path in re.findall(r"`(tests/[\w/.*-]+)`", page.read_text("utf-8"))
    }
    assert len(named) > 20
    assert [one for one in named if not any(REPOSITORY.glob(one[1].rstrip("/")))] == []


def test_each_drill_is_named_where_its_figures_are() -> None:
    loop = re.search(r"for bench in ([a-z ]+); do", (REPOSITORY / "Makefile").read_text("utf-8"))
    page = (REPOSITORY / "docs" / "performance.md").read_text("utf-8")
    told = re.search(r"`make drills` runs ([^.]+?) one after the other", page)
    assert loop is not None
    assert told is not None
    assert re.findall(r"`(\w+)`", told[1]) == loop[1].split()


def test_each_bench_that_a_page_names_is_there() -> None:
    named = {
        name
        for page in PAGES
        for name in re.findall(r"python -m bench\.([a-z_]+(?:\.[a-z_]+)?)", page.read_text("utf-8"))
    }
    assert len(named) > 30
    bench = REPOSITORY / "bench"
    files = {name: bench / name.replace(".", "/") for name in named}
    assert [
        name for name, at in files.items() if not (at.is_dir() or at.with_suffix(".py").exists())
    ] == []

"""What went wrong in libraries and installations of others, held of ours.

The list is docs/security/cves.md; what a started gateway is asked is in
tests/contract/test_known_defects.py.
"""

from __future__ import annotations

import ast
import re
from importlib.metadata import version
from pathlib import Path

import pytest
from aiohttp import http_parser

REPOSITORY = Path(__file__).parents[1]
SOURCES = sorted((REPOSITORY / "gateway").rglob("*.py"))


def numbers(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", text)[:3])


@pytest.mark.parametrize(
    ("library", "floor"),
    [
        ("aiohttp", "3.14.4"),  # CVE-2026-111750, CVE-2026-54273, CVE-2025-69223, CVE-2024-23334
        ("pyjwt", "2.15"),  # CVE-2026-102275, CVE-2026-48523
        ("pyyaml", "6.0.2"),  # CVE-2020-14343
        ("idna", "3.7"),  # CVE-2024-3651
        ("redis", "8.0"),  # CVE-2023-28858
        ("gunicorn", "27"),  # CVE-2024-1135, CVE-2024-6827
    ],
)
def test_a_library_is_not_older_than_its_last_mended_defect(library: str, floor: str) -> None:
    assert numbers(version(library)) >= numbers(floor)


def test_the_c_parser_of_aiohttp_is_the_one_that_is_loaded() -> None:
    """CVE-2023-47641: the two parsers of aiohttp read the same bytes otherwise."""
    assert http_parser.HttpRequestParser is not http_parser.HttpRequestParserPy


Calls = list[tuple[Path, ast.Call, str]]


@pytest.fixture(scope="module")
def calls() -> Calls:
    """Every call in the package, with the text of what is called."""
    return [
        (path, node, ast.unparse(node.func))
        for path in SOURCES
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.Call)
    ]


def test_no_folder_is_served(calls: Calls) -> None:
    """CVE-2024-23334: `add_static` with links that led out of it."""
    assert [str(path) for path, _, name in calls if name.endswith("add_static")] == []


def test_nothing_that_came_in_is_made_an_object_or_run(calls: Calls) -> None:
    """CVE-2020-14343: YAML, pickle and eval that build whatever the text names."""
    wrong = (
        "yaml.load",
        "yaml.unsafe_load",
        "yaml.full_load",
        "pickle.loads",
        "marshal.loads",
        "eval",
        "exec",
    )
    assert [(path.name, name) for path, _, name in calls if name in wrong] == []


def test_every_decoding_of_a_token_names_its_algorithms(calls: Calls) -> None:
    """CVE-2024-37568, CVE-2022-29217: an algorithm that the token chooses.  A look at the claims
    that says itself that it verifies nothing needs none."""
    for path, node, name in calls:
        if name in ("jwt.decode", "jwt.decode_complete"):
            named = "algorithms" in {keyword.arg for keyword in node.keywords}
            assert named or "'verify_signature': False" in ast.unparse(node), path


def test_no_client_reads_an_answer_without_a_bound(calls: Calls) -> None:
    """CVE-2026-26998: upstreams are streamed, and where a client library is used (issuers are asked
    for their keys, and about tokens; providers for whom they signed in) its answers are read to a
    bound alone."""
    wrong = (
        "aiohttp.ClientSession", "plain_session", "requests.get", "urllib.request.urlopen",
        "urlopen",
    )  # fmt: skip
    served = [path for path in SOURCES if "cli" not in path.parts]
    clients = {p.name for p, _, name in calls if p in served and name in wrong}
    assert clients == {"asking.py", "fetching.py", "form_posts.py"}
    reading = ("read", "json", "text", "readany", "readline")
    named = [(p.name, name) for p, _, name in calls if p.name in clients]
    assert [one for one in named if one[1].rpartition(".")[2] in reading] == []
    assert {file for file, name in named if name == "bounded_body"} == clients


def test_no_shipped_file_serves_the_admin_listener_to_others() -> None:
    """CVE-2020-11710: an admin API that the sample bound to every address.

    An image has a network of its own: there it counts who of the machine is led to the port.
    """
    loopback = ("127.0.0.1:", "[::1]:")
    bound = re.compile(r"GATEWAY_ADMIN_LISTEN=['\"]?([^\s'\"]+)")
    published = re.compile(r"(?:PublishPort=|--publish[ =]|-p |^\s*- )['\"]?([\w.:\[\]]*:9901)\b")
    wrong, led = [], 0
    for path in (REPOSITORY / "deploy").rglob("*"):
        if not path.is_file() or path.parent.name == "__pycache__":
            continue
        for line in path.read_text("utf-8").splitlines():
            to = bound.search(line) if path.name != "Containerfile" else None
            port = published.search(line)
            led += port is not None
            if any(one and not one[1].startswith(loopback) for one in (to, port)):
                wrong.append((path.name, line))
    assert led
    assert wrong == []

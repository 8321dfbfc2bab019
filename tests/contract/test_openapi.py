"""The OpenAPI text is true: schemathesis asks a started gateway what the text allows and what it
forbids, and every answer is one that the text names."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings

from gateway.edge.replies.problems import PROBLEMS
from tests.contract.running import Running, started
from tests.edge.auth_house import open_house

REPOSITORY = Path(__file__).parents[2]
TEXT = files("gateway").joinpath("schemas", "openapi.yaml").read_text("utf-8")
DOCUMENT: dict[str, Any] = yaml.load(TEXT, yaml.CSafeLoader)
METHODS = ("get", "post", "put", "patch", "delete")
OWN_IDS = {
    "sessions": "{session_id}",
    "keys": "{key_id}",
    "providers": "{provider}",
    "links": "{provider}",
    "factors": "{passkey_id}",
    "issuers": "{issuer}",
}
OPERATIONS = [
    (path, method)
    for path, item in DOCUMENT["paths"].items()
    for method in METHODS
    if method in item
]


@dataclass
class Asked:
    """A gateway, the operations of the text, and who may call it."""

    running: Running
    operations: dict[tuple[str, str], Any]
    client: tuple[str, str]
    kept: str = ""
    accounts: int = 0

    def token(self) -> str:
        """A live access token: some calls end the session that they come with."""
        if not self.kept or self.running.call("GET", "/auth/me", token=self.kept).status != 200:
            # Another account each time: a call may have erased the one before.
            self.accounts += 1
            email = f"openapi{self.accounts}@example.com"
            self.kept = self.running.sign_in(email)["access_token"]
        return self.kept


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Asked]:
    folder = tmp_path_factory.mktemp("openapi") / "g"
    from tests.contract.openapi_text import operations_of

    with started(folder, GATEWAY_TRUSTED_PROXIES="127.0.0.1/32") as running:
        made = json.loads(running.cli("clients", "create", "stock", "--json").stdout)
        yield Asked(
            running,
            operations_of(DOCUMENT, running.port),
            (made["client_id"], made["client_secret"]),
        )


@pytest.mark.parametrize(("path", "method"), OPERATIONS)
def test_the_running_gateway_answers_as_the_text_says(asked: Asked, path: str, method: str) -> None:
    from tests.contract.openapi_text import cases_of, checks

    described = DOCUMENT["paths"][path][method]
    schemes = {name for one in described["security"] for name in one}
    judged, addresses = checks(), itertools.count()
    cases = cases_of(asked.operations[(path, method)], wrong="requestBody" in described)

    @settings(
        max_examples=15,
        deadline=None,
        database=None,
        derandomize=True,
        suppress_health_check=list(HealthCheck),
    )
    @given(case=cases)
    def ask(case: Any) -> None:
        # Each call has an address of its own: one that fails too often would be told to wait,
        # and nothing else would be seen of the endpoint.
        number = next(addresses)
        headers = {"X-Forwarded-For": f"10.{number % 250}.{number // 250}.1"}
        if "bearer" in schemes:
            headers["Authorization"] = f"Bearer {asked.token()}"
        more = {"auth": asked.client} if "client" in schemes else {}
        case.call_and_validate(headers=headers, checks=judged, timeout=60, **more)

    ask()


def test_the_text_is_openapi_3_1() -> None:
    from tests.contract.openapi_text import validate

    validate(DOCUMENT)
    assert DOCUMENT["openapi"].startswith("3.1")


async def test_every_endpoint_of_the_code_is_in_the_text(tmp_path: Path) -> None:
    async with open_house(tmp_path) as house:
        table = house.api.endpoints
    answered = {
        ("/auth/" + "/".join(OWN_IDS[names[0]] if n == "*" else n for n in names), method.lower())
        for names, methods in table.items()
        if names[0] != "ui"  # pages, which are for people
        for method in methods
    }
    told = {(path, method) for path, method in OPERATIONS if path.startswith("/auth/")}
    assert answered == told


def test_every_reason_of_the_text_is_one_of_ours() -> None:
    told = set()
    for answer in DOCUMENT["components"]["responses"].values():
        told |= set(re.findall(r"`([a-z_]+)`", answer["description"]))
    assert told - {"errors"} <= {str(reason) for reason in PROBLEMS}


def test_the_copy_among_the_documents_is_the_text_that_ships() -> None:
    assert (REPOSITORY / "docs" / "api-spec.yaml").read_text("utf-8") == TEXT


def test_the_admin_listener_serves_the_text(asked: Asked) -> None:
    answer = asked.running.admin("/openapi.yaml")
    assert (answer.status, answer.get("content-type")) == (200, "application/yaml")
    assert answer.body == TEXT.encode()


def test_the_public_listener_does_not(asked: Asked) -> None:
    assert asked.running.call("GET", "/openapi.yaml").status == 404


def test_the_command_writes_the_text(asked: Asked) -> None:
    done = asked.running.cli("export", "openapi", "api.yaml")
    assert done.returncode == 0, done.stderr
    assert (asked.running.folder / "api.yaml").read_text("utf-8") == TEXT

"""A running gateway beside whom an operator asks: what it decided, and what an edit would do."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.contract.running import POLICIES, ROUTES, Running, started
from tests.e2e.processes import metric, until
from tests.forked import GATEWAY

pytestmark = pytest.mark.slow

PUT = """\
  - id: orders.put
    match: {path: "/v1/users/{user_id}/orders/{order_id}", methods: [PUT]}
    policy: signed-in
    upstream: echo
"""


@pytest.fixture
def watched(tmp_path: Path) -> Iterator[Running]:
    """Every decision is written down, and a stricter configuration judges beside it."""
    beside = tmp_path / "beside"
    (beside / "policies").mkdir(parents=True)
    wider = ROUTES.format(port=1, dead=2).replace("  - id: me\n", f"{PUT}  - id: me\n")
    (beside / "routes.yaml").write_text(wider)
    for name, text in POLICIES.items():
        stricter = text.replace("resource.owner == user.id", "user.email_verified")
        (beside / "policies" / name).write_text(stricter)
    settings = {"GATEWAY_DECISION_LOG": "1"}
    with started(tmp_path / "g", "--shadow", str(beside), **settings) as running:
        yield running


def written(running: Running) -> list[dict[str, Any]]:
    files = (running.folder / "data" / "decisions").glob("*.jsonl")
    return [json.loads(line) for file in files for line in file.read_text().splitlines()]


def gateway(running: Running, *words: str) -> tuple[int, Any]:
    done = subprocess.run(
        [str(GATEWAY), *words, "--json"],
        cwd=running.folder,
        env=running.environment,
        capture_output=True,
        timeout=60,
        check=False,
    )
    return done.returncode, json.loads(done.stdout)


def test_a_decision_is_written_judged_beside_replayed_and_explained(watched: Running) -> None:
    session = watched.sign_in("anna@example.com")
    path = f"/v1/users/{session['user']['user_id']}/orders/7"
    token = session["access_token"]
    assert watched.call("GET", path, token=token).status == 200
    until(lambda: any(one["path"] == path for one in written(watched)), 10)
    (record,) = [one for one in written(watched) if one["path"] == path]
    assert (record["decision"], record["rule"]) == ("allow", "own-orders")
    assert token not in json.dumps(record)
    # The stricter configuration would have refused it, and nobody was refused.
    would = 'authgate_shadow_configuration_total{outcome="would_deny"}'
    until(lambda: would in watched.admin("/metrics").body.decode(), 10)
    assert sum(metric(watched, "authgate_shadow_configuration_total")) >= 1
    log = str(watched.folder / "data" / "decisions")
    code, found = gateway(watched, "replay", log, "--against", "../beside", "--fail-on", "change")
    assert (code, found["loses"]) == (1, 1)
    code, found = gateway(watched, "explain", "--request-id", record["id"])
    assert (code, found["decision"], found["rule"]) == (0, "allow", "own-orders")


def test_a_method_that_would_be_open_is_counted(watched: Running) -> None:
    session = watched.sign_in("anna@example.com")
    path = f"/v1/users/{session['user']['user_id']}/orders/7"
    token = session["access_token"]
    # The key of the first token that a worker sees is looked for in the store.
    assert watched.call("GET", path, token=token).status == 200
    assert watched.call("PUT", path, token=token).status == 405
    would = 'authgate_shadow_configuration_total{outcome="would_allow"}'
    until(lambda: would in watched.admin("/metrics").body.decode(), 10)


def test_a_token_is_explained_as_the_gateway_takes_it(watched: Running) -> None:
    session = watched.sign_in("ben@example.com")
    file = watched.folder / "token"
    file.write_text(session["access_token"])
    path = f"/v1/users/{session['user']['user_id']}/orders/7"
    code, found = gateway(watched, "explain", "GET", path, "--token-file", str(file))
    assert (code, found["rule"]) == (0, "own-orders")
    assert watched.call("POST", "/auth/logout", token=session["access_token"]).status == 204
    code, found = gateway(watched, "explain", "GET", path, "--token-file", str(file))
    assert (code, found["status"], found["reason"]) == (1, 401, "token_revoked")
    code, found = gateway(watched, "explain", "GET", path, "--as", "ben@example.com")
    assert (code, found["rule"]) == (0, "own-orders")


def test_a_reload_is_checked_against_what_runs(watched: Running) -> None:
    code, found = gateway(watched, "reload", "--check")
    assert code == 0
    assert set(found["running"].values()) == {found["version"]}

"""From the `request_id` of a refusal to its cause, with one command, beside a running gateway."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.contract.running import Running, started
from tests.e2e.processes import until

pytestmark = pytest.mark.slow


def why(running: Running, request_id: str) -> dict[str, Any]:
    done = running.cli("why", request_id, "--json")
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))


def test_each_refusal_of_a_default_gateway_is_explained_by_its_id(tmp_path: Path) -> None:
    pages = "https://docs.example.com/reasons"
    with started(tmp_path / "g", "--workers", "2", GATEWAY_REASONS_URL=pages) as one:
        user = one.sign_in("mine@example.com")
        token = user["access_token"]
        order = one.call("GET", "/v1/users/somebody-else/orders/7", token=token)
        told = why(one, order.json["request_id"])
        assert (told["status"], told["reason"], told["route"]) == (403, "no_rule", "orders")
        assert told["user"] == user["user"]["user_id"]
        assert told["found"] == "the running gateway"
        assert told["again"]["rules"][0]["file"] == "policies/orders.yaml"
        changes = [flip["change"] for flip in told["again"]["flips"]]
        assert any("somebody-else" in change for change in changes), changes
        assert told["page"] == f"{pages}/no_rule"
        assert told["notes"] == []
        for answer, reason in (
            (one.call("GET", "/hidden", token=token), "no_rule"),
            (one.call("GET", "/public/../me"), "ambiguous_path"),
            (one.call("GET", "/down"), "upstream_unreachable"),
            (one.call("GET", "/me"), "no_credential"),
            (one.call("POST", "/auth/login", json_body={"email": 1}), "body_invalid"),
            (one.admin("/nothing"), "route_unknown"),
        ):
            told = why(one, answer.json["request_id"])
            assert (told["reason"], told["status"]) == (reason, answer.status)
            assert told["meaning"]["operator"]
            # Its type leads to the page, of what is hidden as of what is not there.
            assert answer.json["type"] == f"{pages}/{answer.json['reason']}"
        assert one.call("GET", "/hidden").json["type"] == f"{pages}/no_credential"
        nowhere = one.cli("why", "never-was")
        assert nowhere.returncode == 1
        assert "the last refusals of the running gateway (2 workers)" in nowhere.stderr
        until(lambda: order.json["request_id"] in (one.folder / "out").read_text(), 5)
        from_log = one.cli("why", order.json["request_id"], "--log", "out")
        assert from_log.returncode == 0
        assert "somebody-else" in from_log.stdout
        assert "found in out" in from_log.stdout

"""What a hostile JSON body costs to check: each of its parts is looked at a few times."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.access.routing.named_values import NamedValues
from gateway.access.snapshot import Snapshot
from gateway.model import Reason
from tests.access.worlds import decide, snapshot

DEEP = 30
"""Objects in an object of the body, which is as deep as JSON may be."""


class Counted(dict[str, Any]):
    """Counts how often such objects are looked into."""

    looks = 0

    def values(self) -> Any:
        Counted.looks += 1
        return super().values()


@pytest.mark.parametrize("beside", [{}, {"x": 1}])
@pytest.mark.parametrize("value", ["admin", 7, True, ""])
def test_an_id_within_an_id_is_looked_at_once_for_each_level(
    value: str | int, beside: dict[str, Any]
) -> None:
    """Twice at each level was 2**30 times: a body of 250 bytes held a worker for ever."""
    Counted.looks = 0
    body: object = "buyer"
    for _ in range(10):
        body = Counted({"_id": body, **beside})
    named = NamedValues([value], is_text_of_caller=False, is_ordered=False)
    assert isinstance(named.may_become(body), bool)
    assert Counted.looks <= 10


def world(*denies: str) -> Snapshot:
    rules = "".join(f"  - {{id: d{n}, deny: ['*'], when: \"{c}\"}}\n" for n, c in enumerate(denies))
    return snapshot(
        """
        - id: x
          match: {path: "/notes/{id}", methods: [POST]}
          policy: p
          auth: optional
          resource: {a: "{body.a}", b: "{body.b}"}
          upstream: api
        """,
        f"policy: p\nrules:\n  - {{id: all, allow: ['*']}}\n{rules}",
    )


def reason(where: Snapshot, body: Any) -> str:
    return decide(where, "POST /notes/7", body=body).reason


@pytest.mark.parametrize("name", ["_id", "x", "", None])
def test_a_body_as_deep_as_json_may_be_is_judged(name: str | None) -> None:
    where = world("has(resource.a) && resource.a == 'admin'")
    for bottom, told in (("buyer", Reason.RULE_ALLOWED), (" admin", Reason.BODY_MALFORMED)):
        body: object = bottom
        for _ in range(DEEP):
            body = [body] if name is None else {name: body}
        assert reason(where, {"a": body}) == told

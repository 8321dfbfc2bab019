"""A path in another spelling is counted by no fewer limits, and takes no other credentials or pages,
than the path that a backend may take it for."""

from __future__ import annotations

import pytest

from gateway.model import Reason
from tests.access.worlds import decide, snapshot, who

WORLD = """
version: 1
upstreams: {api: {targets: [http://127.0.0.1:9001]}, other: {targets: [http://127.0.0.1:9002]}}
limits:
  few: {key: address, rate: 5/1m}
  many: {key: address, rate: 500/1m}
cors:
  app: {origins: ["https://app.example"], credentials: true}
  open: {origins: ["https://open.example"]}
  both: {origins: ["https://app.example", "https://b.example"], credentials: true}
defaults: {auth: public, upstream: api}
routes:
  - {id: named, match: {path: /named}NAMED}
  - {id: rest, match: {path: "/{rest:path}", except_reserved: true}REST}
  - {id: moved, match: {prefix: /moved}, rewrite: {strip_prefix: /moved}REST}
"""
SIGNED = ", auth: required, policy: signed-in"


@pytest.mark.parametrize(
    ("named", "rest", "passes"),
    [
        ("", "", True),
        (", limits: [few]", "", False),
        (", limits: [few]", ", limits: [many]", False),
        (", limits: [few, many]", ", limits: [few]", False),
        (", limits: [few]", ", limits: [few]", True),
        (", limits: [few]", ", limits: [many, few]", True),
        ("", ", limits: [few]", True),
        (", limits: [few], upstream: other", "", True),
        (f"{SIGNED}, limits: [few]", SIGNED, False),
        (f"{SIGNED}, accept: [cookie]", SIGNED, False),
        (f"{SIGNED}, accept: [bearer, cookie]", f"{SIGNED}, accept: [bearer]", True),
        (SIGNED, f"{SIGNED}, accept: [bearer, basic]", False),
        (SIGNED, f"{SIGNED}, cors: app", False),
        (f"{SIGNED}, cors: app", f"{SIGNED}, cors: both", False),
        (f"{SIGNED}, cors: both", f"{SIGNED}, cors: app", True),
        # Whose pages may not send the cookie, may not anywhere.
        (SIGNED, f"{SIGNED}, cors: open", True),
        (f"{SIGNED}, cors: app", SIGNED, True),
    ],
)
@pytest.mark.parametrize("path", ["/NAMED", "/named/", "/named.json", "/named%3Fx", "/moved/named"])
def test_another_spelling_is_counted_and_let_in_as_the_path_itself(
    named: str, rest: str, passes: bool, path: str
) -> None:
    text = WORLD.replace("NAMED}", f"{named}}}").replace("REST}", f"{rest}}}")
    decision = decide(snapshot(text), f"GET {path}", who("ann"))
    assert decision.allowed is passes
    assert passes or decision.reason is Reason.AMBIGUOUS_PATH

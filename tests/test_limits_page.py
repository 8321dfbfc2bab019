"""`docs/security/limits.md`: every rule has a test that sends it, and the defaults are so."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from gateway.access.judging import MOST_JUDGED
from gateway.access.routing.path_readings import MOST_READINGS
from gateway.access.routing.paths import MOST_SIGNS
from gateway.access.routing.reading_budget import MOST_LETTERS_READ
from gateway.access.routing.routes import Route
from gateway.app.settings import Settings
from gateway.edge.http1.response_head import MAX_FIELDS, MAX_HEAD_BYTES
from gateway.edge.proxy.request import MOST_HOPS
from gateway.edge.server.limits import ListenerLimits
from gateway.edge.server.request_intake import MAX_QUEUED
from gateway.edge.upstream.connection import MAX_INTERIM
from gateway.identity.issuers import introspection, key_sets
from gateway.identity.issuers.discovery import DISCOVERY_BYTES_MAX
from gateway.identity.issuers.fetching import TIMEOUT_S
from gateway.identity.issuers.jwk_set import KEYS_MAX, SET_BYTES_MAX
from gateway.strict_json import DEEPEST, MOST_BYTES

PAGE = (Path(__file__).parents[1] / "docs" / "security" / "limits.md").read_text("utf-8")
LIMITS, FRAMING = (
    [line for line in part.splitlines() if re.match(r"\| (?!what \||rule \||-)", line)]
    for part in PAGE.partition("## Limits")[2].split("## Framing")
)
NAMED = re.compile(r"`tests/[\w/]+\.py::\w+`")


def written(what: str) -> str:
    (row,) = [row for row in LIMITS if row.startswith(f"| {what} |")]
    return row.split("|")[2].strip()


def test_every_rule_names_a_test() -> None:
    """That the test is there is held for every page, by `tests/test_asvs.py`."""
    assert len(LIMITS) >= 19
    assert len(FRAMING) >= 16
    assert [row for row in (*LIMITS, *FRAMING) if not NAMED.search(row)] == []


@pytest.mark.parametrize("row", [row for row in LIMITS if "`GATEWAY_" in row])
def test_the_defaults_are_those_of_the_settings(row: str) -> None:
    default, setting = (cell.strip() for cell in row.split("|")[2:4])
    name = setting.strip("`").removeprefix("GATEWAY_").lower()
    assert float(default.split(" ")[0]) == Settings.model_fields[name].default


def test_the_doors_own_defaults_are_those_of_the_settings() -> None:
    door, fields = ListenerLimits(), Settings.model_fields
    assert {
        "max_header_bytes": door.head_bytes,
        "max_header_fields": door.fields,
        "max_request_line_bytes": door.line_bytes,
        "header_timeout_s": door.head_s,
        "keepalive_s": door.keepalive_s,
        "body_idle_s": door.body_idle_s,
        "min_body_bytes_per_s": door.body_bytes_per_s,
        "client_write_timeout_s": door.stall_s,
        "max_buffered_bytes": door.buffered_bytes,
        "max_connections": door.connections,
        "max_connections_per_address": door.connections_of_one,
    } == {
        name: fields[name].default
        for name in (
            "max_header_bytes", "max_header_fields", "max_request_line_bytes", "header_timeout_s",
            "keepalive_s", "body_idle_s", "min_body_bytes_per_s", "client_write_timeout_s",
            "max_buffered_bytes", "max_connections", "max_connections_per_address",
        )
    }  # fmt: skip


def test_the_other_bounds_are_those_of_the_code() -> None:
    assert written("requests sent ahead of their answers") == str(MAX_QUEUED)
    assert written("depth of JSON") == str(DEEPEST)
    assert written("a body for `/auth`") == f"{MOST_BYTES // 1024} KiB"
    assert written("time for a body for `/auth`") == f"{ListenerLimits().own_body_s:.0f} s"
    half_closed = "a client that has half-closed, while nothing of its answer comes"
    assert written(half_closed) == f"{ListenerLimits().half_closed_s:.0f} s"
    assert written("hops of `X-Forwarded-For` that are read") == str(MOST_HOPS)
    of_files = "`;`, backslashes and escapes of escapes in a path of a route with `paths: files`"
    bounds = f"{MOST_SIGNS}; {MOST_READINGS}; {MOST_LETTERS_READ}"
    letters = "letters of all of them, of a `Destination` and of what is compared"
    assert written(f"{of_files}; ways in which it may be read; {letters}") == bounds
    readings = (
        "readings of the path of a call, and of its `Destination`, that are judged by a policy"
    )
    may_take_long = "which reads the body, iterates, or hands much of `data` to CEL"
    assert written(f"{readings} {may_take_long}") == str(MOST_JUDGED)
    default: Any = Route.__dataclass_fields__["max_body_bytes"].default
    assert written("a body, by route") == f"{default // 1024**2} MiB"
    door = ListenerLimits()
    assert written("what is read after an early answer") == (
        f"{door.linger_bytes // 1024} KiB or {door.linger_s:.0f} s"
    )
    assert written("an upstream's head") == (
        f"{MAX_HEAD_BYTES // 1024} KiB, {MAX_FIELDS} fields, {MAX_INTERIM} interim answers"
    )


def test_the_bounds_of_issuers_are_those_of_the_code() -> None:
    assert written("metadata of an issuer; its key set") == (
        f"{DISCOVERY_BYTES_MAX // 1024} KiB; {SET_BYTES_MAX // 1024} KiB, {KEYS_MAX} keys"
    )
    assert written("time for each of them") == f"{TIMEOUT_S:.0f} s"
    unknown = "tokens of an issuer under a key that nobody knows"
    assert written(f"{unknown}: questions for its keys; calls that wait for one") == (
        f"one in {key_sets.ASK_EVERY_S:.0f} s; "
        f"{key_sets.MOST_WAITING}, for {key_sets.ASK_WAIT_S:.0f} s"
    )
    size = f"{introspection.ANSWER_BYTES_MAX // 1024} KiB"
    waiting = f"that wait for an answer of {size} at most"
    assert written(f"tokens that an issuer is asked about at once; {waiting}") == (
        f"{introspection.AT_ONCE}; "
        f"{introspection.MOST_WAITING}, for {introspection.ASK_WAIT_S:.0f} s"
    )

"""Identity headers of an operator's choice, on the wire."""

from __future__ import annotations

from base64 import b64encode
from ipaddress import ip_network

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.access.field_names import folded
from gateway.access.identity_headers import PRESETS, IdentityHeaders
from gateway.edge.proxy.request_headers import LineFilters, without
from tests.edge.rig import principal, running

BOTH_LOOPS = True

AUTHELIA, GRAFANA, OAUTH2_PROXY = (
    PRESETS[name] for name in ("authelia", "grafana", "oauth2-proxy")
)


@pytest.mark.parametrize("identity", [AUTHELIA, GRAFANA, OAUTH2_PROXY, IdentityHeaders(())])
async def test_the_backend_is_told_by_these_fields_and_no_others(
    identity: IdentityHeaders,
) -> None:
    async with running() as rig:
        rig.gate.principal = caller = principal(email_verified=True)
        rig.route(identity=identity, claimed_headers=identity.names)
        await rig.ask(b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n")
        (received,) = rig.upstream.requests
        ours = {n.lower() for n, _ in received.fields} & {
            one.name.lower().encode() for preset in PRESETS.values() for one in preset.fields
        }
        wanted = dict(identity.texts(caller))
        assert ours == {name.lower().encode() for name in wanted}
        for name, value in wanted.items():
            assert received.values(name) == [value.encode()]


def spellings(name: bytes) -> st.SearchStrategy[bytes]:
    signs = st.sampled_from([b"-", b"_", b"."])
    cases = st.sampled_from([bytes.upper, bytes.lower, bytes.title])
    return st.tuples(cases, st.lists(signs, min_size=4, max_size=4)).map(
        lambda drawn: b"".join(
            drawn[0](part) + (sign if n < name.count(b"-") else b"")
            for n, (part, sign) in enumerate(zip(name.split(b"-"), [*drawn[1], b""], strict=False))
        )
    )


NAMES = sorted(AUTHELIA.names | GRAFANA.names | OAUTH2_PROXY.names)
FORGED = st.lists(st.sampled_from(NAMES).flatmap(spellings), min_size=1, max_size=6)


@pytest.mark.parametrize("trusted", [False, True])
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    forged=FORGED,
    named=st.sampled_from([b"", b"Connection: Remote-User, X-WEBAUTH-USER, close\r\n"]),
    signed_in=st.booleans(),
)
async def test_no_client_says_who_it_is_in_any_spelling(
    forged: list[bytes], named: bytes, signed_in: bool, trusted: bool
) -> None:
    everything = frozenset(NAMES)
    blocks = [ip_network("127.0.0.1/32")] if trusted else []
    async with running(trusted=blocks) as rig:
        rig.gate.principal = principal(email_verified=True) if signed_in else None
        rig.route(identity=AUTHELIA, claimed_headers=everything)
        lines = b"".join(b"%b: root\r\n" % name for name in forged)
        via = b"X-Forwarded-For: 192.0.2.1\r\n" if trusted else b""
        await rig.ask(b"GET /a HTTP/1.1\r\nHost: x\r\n" + named + via + lines + b"\r\n")
        (received,) = rig.upstream.requests
        assert b"root" not in received.head
        arrived = [folded(name) for name, _ in received.fields if folded(name) in everything]
        assert sorted(arrived) == (sorted(AUTHELIA.names) if signed_in else [])


async def test_no_trailer_says_who_calls() -> None:
    async with running() as rig:
        rig.route(identity=AUTHELIA, claimed_headers=AUTHELIA.names)
        await rig.ask(
            b"POST /a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nTrailer: Remote-User\r\n\r\n"
            b"2\r\nok\r\n0\r\nRemote-User: root\r\nremote_groups: root\r\n\r\n"
        )
        assert b"root" not in rig.upstream.requests[0].head
        assert b"Remote" not in rig.upstream.requests[0].head


async def test_a_handshake_is_told_apart_from_what_its_client_says() -> None:
    key = b64encode(b"0123456789abcdef")
    async with running() as rig:
        rig.gate.principal = principal(email_verified=True)
        rig.route(identity=AUTHELIA, claimed_headers=AUTHELIA.names)
        await rig.ask(
            b"GET /a HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: " + key + b"\r\n"
            b"Remote-User: root\r\nREMOTE_GROUPS: root\r\n\r\n"
        )
        (received,) = rig.upstream.requests
        assert received.values("upgrade") == [b"websocket"]
        assert received.values("remote-user") == [b"ada@example.com"]
        assert b"root" not in received.head


async def test_a_caller_whose_roles_have_changed_is_told_anew() -> None:
    async with running() as rig:
        caller = principal(email_verified=True)
        rig.route(identity=AUTHELIA, claimed_headers=AUTHELIA.names)
        for roles in (("user",), ("user", "ops")):
            rig.gate.principal = principal(email_verified=True, roles=roles)
            await rig.ask(b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n")
        told = [received.values("remote-groups") for received in rig.upstream.requests]
        assert told == [[b"user"], [b"user,ops"]]
        assert caller.identity_lines is None


LINES = st.lists(
    st.sampled_from(
        [
            b"Remote-User: a",
            b"remote_user: b",
            b"Accept: */*",
            b"X-A: 1",
            b"X-A: 2",
            b"REMOTE.USER:c",
        ]
    )
    | st.sampled_from(NAMES).flatmap(spellings).map(lambda name: name + b": x")
    | st.integers(0, 3_000).map(lambda n: b"X-N: %d" % n),
    max_size=12,
)


@settings(deadline=None)
@given(
    st.lists(
        st.tuples(LINES, st.sampled_from([frozenset(NAMES), AUTHELIA.names, frozenset((b"x-a",))])),
        max_size=8,
    )
)
def test_what_is_remembered_of_lines_lets_none_pass(
    calls: list[tuple[list[bytes], frozenset[bytes]]],
) -> None:
    filters = LineFilters()
    for lines, names in calls:
        assert filters.without(lines, names) == without(lines, names)


def test_what_is_remembered_of_lines_is_bounded() -> None:
    filters = LineFilters()
    for n in range(5_000):
        filters.without([b"X-N: %d" % n, b"X-Long: " + b"a" * 300], AUTHELIA.names)
        filters.without([b"X-A: a"], frozenset((b"x-%d" % n,)))
    assert filters.remembered <= 16 * 1_025

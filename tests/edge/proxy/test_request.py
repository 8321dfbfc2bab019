"""What a request says of itself, and how much of it is believed."""

from __future__ import annotations

import ipaddress

import pytest

from gateway.access.routing.hosts import canonical_host, plain_ip
from gateway.edge.http1.request_head import RequestHead, RequestHeadReader
from gateway.edge.proxy.request import CallReader
from gateway.model import Call, Credential, CredentialKind, Reason

TRUSTED = [ipaddress.ip_network("10.0.0.0/8"), ipaddress.ip_network("fd00::/8")]


def head(*lines: bytes, target: bytes = b"/a", host: bytes = b"x") -> RequestHead:
    block = b"\r\n".join([b"GET " + target + b" HTTP/1.1", b"Host: " + host, *lines])
    read = RequestHeadReader().read(block)
    assert isinstance(read, RequestHead)
    return read


def read(*lines: bytes, peer: str = "192.0.2.9", https: bool = False, **options: bytes) -> Call:
    reader = CallReader(TRUSTED)
    call = reader.read(head(*lines, **options), reader.peer(peer, https=https))
    assert isinstance(call, Call)
    return call


def refusal(*lines: bytes, **options: bytes) -> Reason | Call:
    reader = CallReader()
    return reader.read(head(*lines, **options), reader.peer("192.0.2.9", https=False))


@pytest.mark.parametrize(
    ("raw", "host", "port"),
    [
        (b"example.com", "example.com", None),
        (b"EXAMPLE.com.", "example.com", None),
        (b"example.com:443", "example.com", 443),
        (b"example.com:", "example.com", None),
        (b"a_b.example", "a_b.example", None),
        (b"127.0.0.1:80", "127.0.0.1", 80),
        (b"[::1]", "[::1]", None),
        (b"[0:0:0:0:0:0:0:1]:8080", "[::1]", 8080),
        (b"[2001:DB8::A]", "[2001:db8::a]", None),
    ],
)
def test_a_host_has_one_spelling(raw: bytes, host: str, port: int | None) -> None:
    assert canonical_host(raw) == (host, port)


@pytest.mark.parametrize(
    "raw",
    [
        *(
            b"",
            b".",
            b"a..b",
            b"a..",
            b"a..:80",
            b"..",
            b".a",
            b"a b",
            b"a/b",
            b"a@b",
            b"a:b",
            b"a:0",
            b"a:65536",
        ),
        *(b"a:80:80", b"[::1", b"::1", b"[x]", b"[::1]x", b"a%2e", b"\xe9", b"a,b", b"a" * 255),
    ],
)
def test_what_is_no_host_is_refused(raw: bytes) -> None:
    assert canonical_host(raw) is None


@pytest.mark.parametrize(
    ("target", "host", "path"),
    [
        (b"http://x/a?b", b"x", "/a"),
        (b"HTTP://X:80/a", b"x", "/a"),
        (b"http://x./a", b"x:80", "/a"),
        (b"https://x/a", b"x:443", "/a"),
        (b"http://x", b"x", "/"),
        (b"http://x?b", b"x", "/"),
    ],
)
def test_an_absolute_target_that_agrees_with_host_is_its_path(
    target: bytes, host: bytes, path: str
) -> None:
    assert read(target=target, host=host).path == path


@pytest.mark.parametrize(
    ("target", "host"),
    [(b"http://y/a", b"x"), (b"http://x:81/a", b"x"), (b"https://x/a", b"x:80")],
)
def test_an_absolute_target_that_disagrees_with_host_is_refused(target: bytes, host: bytes) -> None:
    assert refusal(target=target, host=host) is Reason.HOST_MISMATCH


@pytest.mark.parametrize(
    "target", [b"ftp://x/a", b"http://u@x/a", b"http:/x/a", b"a", b"*", b"x:1"]
)
def test_a_target_of_another_form_is_refused(target: bytes) -> None:
    assert refusal(target=target) is Reason.REQUEST_MALFORMED


@pytest.mark.parametrize("target", [b"/a#b", b"/a?b#c", b"/a/../b", b"//a", b"/a%2fb", b"/a\\b"])
def test_an_ambiguous_target_is_refused_or_marked(target: bytes) -> None:
    found = refusal(target=target)
    assert found is Reason.AMBIGUOUS_PATH or (isinstance(found, Call) and found.encoded_slash)


# --- the client's address ---


@pytest.mark.parametrize(
    "lines",
    [
        (b"X-Forwarded-For: 1.2.3.4", b"X-Forwarded-Proto: https"),
        (b"X_Forwarded_For: 1.2.3.4", b"x-forwarded-proto: https"),
        (b"Forwarded: for=1.2.3.4;proto=https", b"X-Real-Ip: 1.2.3.4"),
        (b"Client-Ip: 1.2.3.4", b"True-Client-Ip: 1.2.3.4", b"X-Forwarded-Ssl: on"),
    ],
)
def test_a_stranger_cannot_choose_address_or_scheme(lines: tuple[bytes, ...]) -> None:
    call = read(*lines)
    assert (call.client_ip, call.scheme) == ("192.0.2.9", "http")


@pytest.mark.parametrize(
    ("lines", "ip"),
    [
        ((b"X-Forwarded-For: 1.2.3.4",), "1.2.3.4"),
        ((b"X-Forwarded-For: 6.6.6.6, 1.2.3.4",), "1.2.3.4"),
        ((b"X-Forwarded-For: 6.6.6.6", b"X-Forwarded-For: 1.2.3.4, 10.0.0.7"), "1.2.3.4"),
        ((b"X-Forwarded-For: 1.2.3.4:5678",), "1.2.3.4"),
        ((b"X-Forwarded-For: [2001:db8::1]:5678",), "2001:db8::1"),
        ((b"X-Forwarded-For: ::ffff:1.2.3.4",), "1.2.3.4"),
        ((b"X-Forwarded-For: 1.2.3.4, nonsense",), "10.0.0.1"),
        ((b"X-Forwarded-For: ",), "10.0.0.1"),
        ((b"X-Forwarded-For: 10.0.0.9, 10.0.0.8",), "10.0.0.9"),
        ((), "10.0.0.1"),
    ],
)
def test_behind_a_trusted_proxy_the_first_stranger_from_the_right_is_the_client(
    lines: tuple[bytes, ...], ip: str
) -> None:
    assert read(*lines, peer="10.0.0.1").client_ip == ip


@pytest.mark.parametrize(
    ("lines", "found"),
    [
        ([b"10.0.0.2, " * 31 + b"10.0.0.9"], "10.0.0.2"),
        ([b"1.2.3.4", *[b"10.0.0.2"] * 31], "1.2.3.4"),
        ([b"6.6.6.6, " * 1_500 + b"1.2.3.4, 10.0.0.2"], "1.2.3.4"),
        ([b"10.0.0.2, " * 32 + b"10.0.0.2"], Reason.AMBIGUOUS_HEADER),
        ([b"1.2.3.4", *[b"10.0.0.2"] * 32], Reason.AMBIGUOUS_HEADER),
        ([b"10.0.0.2," * 1_500], Reason.AMBIGUOUS_HEADER),
    ],
)
def test_the_client_is_looked_for_among_32_hops_and_no_more(
    lines: list[bytes], found: str | Reason
) -> None:
    fields = [b"X-Forwarded-For: " + line.strip(b", ") for line in lines]
    reader = CallReader([ipaddress.ip_network("10.0.0.0/8")])
    call = reader.read(head(*fields), reader.peer("10.0.0.1", https=False))
    assert (call.client_ip if isinstance(call, Call) else call) == found


def test_a_mapped_address_is_the_address() -> None:
    assert plain_ip("::ffff:10.0.0.1") == "10.0.0.1"
    assert read(peer="::ffff:192.0.2.9").client_ip == "192.0.2.9"
    assert read(b"X-Forwarded-For: 1.2.3.4", peer="::ffff:10.0.0.1").client_ip == "1.2.3.4"


@pytest.mark.parametrize(
    ("proto", "scheme"), [(b"https", "https"), (b"HTTP", "http"), (b"ws", "http"), (b"", "http")]
)
def test_a_trusted_proxy_tells_the_scheme(proto: bytes, scheme: str) -> None:
    assert read(b"X-Forwarded-Proto: " + proto, peer="10.0.0.1").scheme == scheme


def test_the_listener_tells_the_scheme_of_a_stranger() -> None:
    assert read(b"X-Forwarded-Proto: http", https=True).scheme == "https"


# --- the credential ---

UNREADABLE = Credential(CredentialKind.BEARER, "")
"""Refused where it counts: it is no token."""
SESSION = Credential(CredentialKind.COOKIE, "s")


@pytest.mark.parametrize(
    ("lines", "credential"),
    [
        ((), None),
        ((b"Authorization: Bearer abc",), Credential(CredentialKind.BEARER, "abc")),
        ((b"authorization: bEaReR   abc ",), Credential(CredentialKind.BEARER, "abc")),
        ((b"Authorization: Basic abc",), Credential(CredentialKind.BASIC, "abc")),
        ((b"Authorization: bAsIc  YTpi ",), Credential(CredentialKind.BASIC, "YTpi")),
        ((b"Authorization: Basic",), Credential(CredentialKind.BASIC, "")),
        ((b"Authorization: Basic \xe9",), Credential(CredentialKind.BASIC, "")),
        ((b"Authorization: Basic " + b"a" * 8193,), Credential(CredentialKind.BASIC, "")),
        ((b"Authorization: token abc",), None),
        ((b"Authorization: AWS4-HMAC-SHA256 Credential=a",), None),
        ((b"Authorization: Bearer",), UNREADABLE),
        ((b"Authorization: Bearer  ",), UNREADABLE),
        ((b"Authorization:",), None),
        ((b"Authorization: abc",), None),
        ((b"Authorization: Bearer \xe9",), UNREADABLE),
        ((b"Authorization: Bearer " + b"a" * 8193,), UNREADABLE),
        ((b"Cookie: __Host-session=s", b"Authorization: token abc"), SESSION),
        ((b"Proxy-Authorization: Bearer abc",), None),
        ((b"X-Authorization: Bearer abc",), None),
        ((b"Cookie: a=1",), None),
        ((b"Cookie: a=1; __Host-session=s",), Credential(CredentialKind.COOKIE, "s")),
        ((b"Cookie: x__Host-session=s",), None),
        ((b"Cookie: __host-session=s",), None),
        ((b"Cookie: __Host-session=",), Credential(CredentialKind.COOKIE, "")),
        (
            (b"Cookie: __Host-session=s", b"Authorization: Bearer abc"),
            Credential(CredentialKind.BEARER, "abc"),
        ),
    ],
)
def test_a_credential_is_taken_from_one_place(
    lines: tuple[bytes, ...], credential: Credential | Reason | None
) -> None:
    assert read(*lines).credential == credential


@pytest.mark.parametrize("scheme", [b"Bearer abc", b"Bearer", b"bearer ag_x"])
def test_both_are_shown_where_both_came(scheme: bytes) -> None:
    call = read(b"Cookie: __Host-session=s", b"Authorization: " + scheme)
    assert call.presented == (call.credential, SESSION)
    assert read(b"Cookie: a=1", b"Authorization: " + scheme).presented is None
    twice = read(b"Cookie: __Host-session=s; __Host-session=t", b"Authorization: " + scheme)
    assert twice.presented == (twice.credential, Reason.AMBIGUOUS_HEADER)


def test_a_token_in_the_query_is_none() -> None:
    assert read(target=b"/a?access_token=abc").credential is None


@pytest.mark.parametrize(
    "lines",
    [
        (b"Authorization: Bearer a", b"authorization: Bearer a"),
        (b"Cookie: __Host-session=a; __Host-session=b",),
        (b"Cookie: __Host-session=a", b"Cookie: __Host-session=a"),
    ],
)
def test_two_credentials_of_a_kind_are_refused(lines: tuple[bytes, ...]) -> None:
    assert refusal(*lines) is Reason.AMBIGUOUS_HEADER


def test_made_ids_differ() -> None:
    reader = CallReader()
    assert len({reader.request_id(head()) for _ in range(100)}) == 100
    assert len({reader.traceparent(head()) for _ in range(100)}) == 100

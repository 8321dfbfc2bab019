"""A request as the decision sees it: bytes in, one Call or one Reason out.

Law: what a client says of itself is believed only from a trusted peer, and then only for the
address and the scheme, never for the host that is matched.  The target is read once, here; the
bytes that are judged are those that are sent.
"""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Iterable, Sequence

from mypy_extensions import mypyc_attr

from gateway.access.routing.hosts import canonical_host, plain_ip
from gateway.access.routing.paths import Target, split_target
from gateway.bounded_memo import MINUTE_S, BoundedMemo
from gateway.call_trace import TRACEPARENT
from gateway.edge.http1.cookie_pairs import pairs_with
from gateway.edge.http1.request_head import RequestHead
from gateway.edge.server.peer import Peer
from gateway.identity.clients.key_form import PREFIXES
from gateway.model import Call, Credential, CredentialKind, Reason

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

SESSION_COOKIE = b"__Host-session"
MAX_TOKEN_BYTES = 8_192
_KEY_PREFIXES = tuple(prefix.encode() for prefix in PREFIXES)
_KINDS = {b"bearer": CredentialKind.BEARER, b"basic": CredentialKind.BASIC}
MOST_HOPS = 32
"""Proxies that may stand between the client and this gateway."""

_ABSOLUTE = re.compile(r"(?P<scheme>https?)://(?P<host>[^/?#]*)(?P<rest>[/?].*)?", re.I | re.S)
# RFC 7239 section 4: a parameter of an element.
_FORWARDED_HOST = re.compile(rb"(?:^|[;,])[ \t]*host[ \t]*=([^;,]*)", re.I)
# Whatever stands around it: some backends cut that away.
_HOST_WITHIN = re.compile(rb"(\[[0-9A-Fa-f:.]{2,45}\]|[A-Za-z0-9_~-][A-Za-z0-9._~-]*)(?::[0-9]*)?")
_REQUEST_ID = re.compile(rb"[A-Za-z0-9._:@/+=-]{1,128}")
_TRACES_AT_ONCE = 256
_IDS_AT_ONCE = 256
_HOSTS_MAX = 1_024
_TARGETS_MAX = 4_096
_BEARERS_MAX = 4_096
_BEARER_KEPT = 2_048
_AMBIGUOUS = Reason.AMBIGUOUS_HEADER
_DEFAULT_PORTS = {"http": 80, "https": 443}


@mypyc_attr(allow_interpreted_subclasses=True)
class CallReader:
    """Reads calls for one listener.  Made after the worker's fork: its ids are its own."""

    def __init__(self, trusted_proxies: Iterable[Network] = ()) -> None:
        self._trusted = tuple(trusted_proxies)
        self._ids: list[str] = []
        """Of requests that bring none; they tell requests apart, and are no secrets."""
        self._hosts: BoundedMemo[bytes, tuple[str, int | None]] = BoundedMemo(_HOSTS_MAX)
        self._targets: BoundedMemo[str, Target] = BoundedMemo(_TARGETS_MAX, kept_s=MINUTE_S)
        self._traces: list[bytes] = []
        """New ones, for calls that bring none."""
        self._bearers: BoundedMemo[bytes, Credential] = BoundedMemo(_BEARERS_MAX, kept_s=MINUTE_S)
        """The credentials of `Authorization` fields met lately: the very objects, so that their
        texts are hashed once.  Bounded like the lines that hold them."""

    def peer(self, address: str, *, https: bool) -> Peer:
        """`address` is the peer's, as the socket has it; a zone (`%eth0`) is no part of it."""
        ip = plain_ip(address.partition("%")[0]) or "0.0.0.0"  # noqa: S104 (unix sockets)
        return Peer(ip, https, self._is_trusted(ip))

    def read(self, fields: RequestHead, peer: Peer) -> Call | Reason:
        """One Call; or the Reason why the request cannot be one."""
        target = fields.target
        host, port = "", None
        if fields.host is not None:
            known = self._hosts.get(fields.host) or self._read_host(fields.host)
            if known is None:
                return Reason.REQUEST_MALFORMED
            host, port = known
        if target[:1] != "/":
            absolute = self._absolute(target, host, port, fields.host is not None)
            if isinstance(absolute, Reason):
                return absolute
            target, host = absolute
        parts = self._targets.get(target)
        if parts is None:
            fresh = split_target(target)
            if isinstance(fresh, Reason):
                return fresh
            parts = self._remember(target, fresh)
        chosen: Credential | None = None
        presented: tuple[Credential, Credential | Reason] | None = None
        authorization = fields.authorization
        if authorization is not None:
            if len(authorization) > 1:
                return _AMBIGUOUS
            field = authorization[0]
            chosen = self._bearers.get(field) or self._authorization(field)
        credential: Credential | Reason | None = chosen
        if fields.cookie is not None:
            cookie = _session_cookie(fields.cookie)
            if chosen is None:
                if cookie is _AMBIGUOUS:
                    return _AMBIGUOUS
                credential = cookie
            elif cookie is not None:
                presented = (chosen, cookie)
        client_ip, scheme = peer.ip, peer.scheme
        if peer.trusted and fields.forwarded is not None:
            origin = self._forwarded(fields.forwarded, peer)
            if origin is None:
                return _AMBIGUOUS
            client_ip, scheme = origin
        return Call(
            fields.method,
            host,
            parts.path,
            parts.segments,
            parts.query,
            headers=fields,
            client_ip=client_ip,
            scheme=scheme,
            credential=credential,
            encoded_slash=parts.encoded_slash,
            body=None,
            files_only=parts.files_only,
            presented=presented,
        )

    def request_id(self, fields: RequestHead) -> str:
        """The client's, when it is one; else 128 random bits."""
        given = fields.request_id
        if given is not None and _REQUEST_ID.fullmatch(given):
            return given.decode("ascii")
        return self.new_request_id()

    def new_request_id(self) -> str:
        if not self._ids:
            self._ids = _new_ids()
        return self._ids.pop()

    def traceparent(self, fields: RequestHead) -> bytes:
        """The client's, when valid; else a new trace that nobody has sampled."""
        given = fields.traceparent
        if given is not None and TRACEPARENT.fullmatch(given):
            return given
        if not self._traces:
            self._traces = _new_traces()
        return self._traces.pop()

    def _authorization(self, field: bytes) -> Credential | None:
        """The credential of an `Authorization` field; None where no route takes its scheme.

        One of a scheme of ours that cannot be read has no text: it is refused where it counts.
        """
        # RFC 9110 section 11.1: the scheme is compared without case.
        scheme, _, token = field.partition(b" ")
        kind = _KINDS.get(scheme.lower())
        if kind is None:
            return None
        token = token.strip(b" ")
        if len(token) > MAX_TOKEN_BYTES or not token.isascii():
            token = b""
        if kind is CredentialKind.BEARER and token.startswith(_KEY_PREFIXES):
            kind = CredentialKind.API_KEY
        credential = Credential(kind, token.decode("ascii"))
        if len(field) <= _BEARER_KEPT and self._bearers.comes_again(field):
            self._bearers.keep(field, credential)
        return credential

    def _remember(self, target: str, parts: Target) -> Target:
        """The same targets are asked for again and again.  Bounded in number and in length."""
        if len(target) <= 256 and self._targets.comes_again(target):
            self._targets.keep(target, parts)
        return parts

    def _read_host(self, raw: bytes) -> tuple[str, int | None] | None:
        host = canonical_host(raw)
        if host is not None:
            self._hosts.keep(raw, host)
        return host

    def _absolute(
        self, target: str, host: str, port: int | None, host_came: bool
    ) -> tuple[str, str] | Reason:
        """The origin-form and the host of an absolute-form target (RFC 9112 section 3.2.2).

        The RFC has a proxy ignore `Host` beside such a target; two parties that obey
        different ones would see two requests, so they must agree.
        """
        match = _ABSOLUTE.fullmatch(target)
        if match is None:
            return Reason.REQUEST_MALFORMED
        named = canonical_host(match["host"].encode("latin-1"))
        if named is None:
            return Reason.REQUEST_MALFORMED
        default = _DEFAULT_PORTS[match["scheme"].lower()]
        if host_came and (host, port or default) != (named[0], named[1] or default):
            return Reason.HOST_MISMATCH
        rest = match["rest"] or "/"
        return ("/" + rest if rest[0] == "?" else rest), named[0]

    def _is_trusted(self, ip: str) -> bool:
        if not self._trusted:
            return False
        address = ipaddress.ip_address(ip)
        return any(address in network for network in self._trusted)

    def _forwarded(
        self, forwarded: Sequence[tuple[bytes, bytes]], peer: Peer
    ) -> tuple[str, str] | None:
        """Address and scheme of the client, as the trusted proxies in front name them.

        `X-Forwarded-For` is read from the right: the first address that is no trusted proxy
        is the client.  What stands left of it was written by the client itself.  None where
        more than MOST_HOPS would have to be read to find it.
        """
        fields: list[bytes] = []
        scheme = peer.scheme
        for name, value in forwarded:
            lower = name.lower()
            if lower == b"x-forwarded-for":
                fields.append(value)
            elif lower == b"x-forwarded-proto":
                scheme = value.rpartition(b",")[2].decode("latin-1").strip().lower()
        if scheme not in _DEFAULT_PORTS:
            scheme = peer.scheme
        client_ip = peer.ip
        hops, more = last_hops(fields)
        for hop in hops:
            ip = plain_ip(_without_port(hop.decode("latin-1").strip()))
            if ip is None:
                return client_ip, scheme
            client_ip = ip
            if not self._is_trusted(ip):
                return client_ip, scheme
        return None if more else (client_ip, scheme)


def forwarded_hosts(forwarded: Sequence[tuple[bytes, bytes]]) -> set[str] | None:
    """The hosts that a trusted proxy says were asked for, as `Call.host` has one; None where they
    are more than hops are read."""
    told: list[bytes] = []
    for name, value in forwarded:
        lower = name.lower()
        if lower == b"x-forwarded-host":
            told.append(value)
        elif lower == b"forwarded":
            told += _FORWARDED_HOST.findall(value)
    named: list[bytes] = []
    for value in told:
        # RFC 9110 section 5.6.4: a backslash in a quoted text stands for what is behind it.
        named += _HOST_WITHIN.findall(value.replace(b"\\", b""))
    if len(named) > MOST_HOPS:
        return None
    hosts = map(canonical_host, named)
    return {host[0] for host in hosts if host is not None}


def last_hops(values: Sequence[bytes]) -> tuple[list[bytes], bool]:
    """The last MOST_HOPS hops of `X-Forwarded-For`, the nearest first, and whether there are
    more.  To read one takes some µs, and a head has room for thousands."""
    if not values:
        return [], False
    hops = b",".join(values).rsplit(b",", MOST_HOPS)
    more = len(hops) > MOST_HOPS
    return hops[more:][::-1], more


def _new_ids() -> list[str]:
    """Ids of 128 random bits."""
    ids = os.urandom(16 * _IDS_AT_ONCE).hex()
    return [ids[at : at + 32] for at in range(0, len(ids), 32)]


def _new_traces() -> list[bytes]:
    """Ids of 128 and of 64 random bits.  An id of zeros is invalid: the last digit is none."""
    ids = os.urandom(24 * _TRACES_AT_ONCE).hex().encode("ascii")
    return [
        b"00-%b1-%b1-00" % (ids[at : at + 31], ids[at + 32 : at + 47])
        for at in range(0, len(ids), 48)
    ]


def _without_port(hop: str) -> str:
    if hop[:1] == "[":
        return hop[1:].partition("]")[0]
    return hop.partition(":")[0] if hop.count(":") == 1 else hop


def _session_cookie(values: Sequence[bytes]) -> Credential | Reason | None:
    cookies: list[bytes] = []
    for line in values:
        for begin, end in pairs_with(SESSION_COOKIE, line):
            name, _, value = line[begin:end].partition(b"=")
            if name.strip(b" \t") == SESSION_COOKIE:
                cookies.append(value.strip(b" \t"))
    if not cookies:
        return None
    if len(cookies) > 1:
        return Reason.AMBIGUOUS_HEADER
    # Whether it can be a session's is asked later: first, whether it was meant to be sent.
    return Credential(CredentialKind.COOKIE, cookies[0].decode("latin-1"))

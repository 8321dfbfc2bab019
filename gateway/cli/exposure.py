"""Whether an upstream can be reached around the gateway, and whom it then believes.

Law: nothing is changed.  An upstream is only ever connected to and asked with GET, directly, as
whoever reached it would ask; what it answers is compared with what a stranger should be told.
"""

from __future__ import annotations

import http.client
import ipaddress
import socket
import ssl
import stat
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from gateway.access.definitions import Upstream, UpstreamTarget
from gateway.access.identity_headers import AUTHGATE
from gateway.access.routing.paths import canonical
from gateway.access.routing.routes import WILDCARD, Auth, Route, SegmentKind
from gateway.access.simulation import person
from gateway.access.snapshot import Snapshot
from gateway.identity.keys.jwk import Alg, SigningKey, verifying
from gateway.identity.tokens import jws
from gateway.identity.tokens.upstream_assertions import LIFE_S, TYP
from gateway.loopback import is_loopback
from gateway.model import Call, Reason
from gateway.stores.health import State

WITHIN_S = 2.0
ROUTES_ASKED = 3
_REFUSED = (401, 403)
_SAMPLES = {
    SegmentKind.INT: "1",
    SegmentKind.UUID: "00000000-0000-4000-8000-000000000000",
    SegmentKind.PLAIN: "1",
    SegmentKind.REST: "1",
}
_NOBODY = "authgate-doctor"
_Say = Callable[[State, str], "Exposure"]


@dataclass(frozen=True, slots=True)
class Exposure:
    """One thing found out about one target of an upstream."""

    upstream: str
    target: str
    check: str
    state: State
    detail: str


@dataclass(frozen=True, slots=True)
class Sample:
    """A protected address of an upstream, as it is sent there."""

    host: str
    path: str


def exposures(
    snapshot: Snapshot,
    names: Sequence[str],
    *,
    paths: dict[str, str],
    outside: bool,
    addresses: Sequence[str] | None = None,
) -> list[Exposure]:
    """What is found of each target of `names` (all of them when it is empty).

    `paths` names an address to ask for, by upstream.  With `outside` this machine is one that
    must not reach any of them.  `addresses` are this machine's, less loopback.
    """
    own = own_addresses() if addresses is None else addresses
    found: list[Exposure] = []
    for name, upstream in snapshot.upstreams.items():
        if names and name not in names:
            continue
        given = [Sample(upstream.host or "", paths[name])] if name in paths else []
        samples = given or samples_of(snapshot, upstream)
        for target in upstream.targets:
            if outside:
                found.append(_from_outside(upstream, target))
                continue
            around = _around(upstream, target, own)
            found.append(around)
            if around.state is not State.AWAY:
                found.append(_belief(upstream, target, samples, snapshot, around))
    return found


def samples_of(snapshot: Snapshot, upstream: Upstream) -> list[Sample]:
    """Up to ROUTES_ASKED addresses that only a signed-in caller may GET."""
    found: list[Sample] = []
    for route in snapshot.routes:
        same = route.upstream is not None and route.upstream.name == upstream.name
        if same and route.auth is Auth.REQUIRED and (not route.methods or "GET" in route.methods):
            path = _sample_path(route)
            if path is not None:
                found.append(Sample(upstream.host or _sample_host(route), path))
    return found[:ROUTES_ASKED]


def own_addresses() -> list[str]:
    """This machine's addresses, less loopback and link-local ones."""
    found: list[str] = []
    try:
        named = socket.getaddrinfo(socket.gethostname(), None, type=socket.SOCK_STREAM)
        found += [str(info[4][0]) for info in named]
    except OSError:
        pass
    # The address from which this machine would speak to others; no packet is sent.
    for family, far in ((socket.AF_INET, "192.0.2.1"), (socket.AF_INET6, "2001:db8::1")):
        try:
            with socket.socket(family, socket.SOCK_DGRAM) as probe:
                probe.connect((far, 9))
                found.append(str(probe.getsockname()[0]))
        except OSError:
            continue
    return [address for address in dict.fromkeys(found) if _is_foreign(address)]


def _is_foreign(address: str) -> bool:
    ip = ipaddress.ip_address(address.partition("%")[0])
    return not (ip.is_loopback or ip.is_link_local or ip.is_unspecified)


# --- who can reach it ---------------------------------------------------------------------------


def _around(upstream: Upstream, target: UpstreamTarget, own: Iterable[str]) -> Exposure:
    def said(state: State, detail: str) -> Exposure:
        return Exposure(upstream.name, target.url, "around", state, detail)

    if target.socket_path is not None:
        return _of_socket(target.socket_path, said)
    if not _listens(target.host, target.port):
        return said(State.AWAY, "nothing answers: start it, then ask again")
    if not is_loopback(target.host):
        return said(
            State.WARNING,
            "reached over the network; run this with --outside on a machine that must not reach it",
        )
    open_on = [address for address in own if _listens(address, target.port)]
    if open_on:
        return said(
            State.BAD,
            f"listens on {', '.join(open_on)} too: others reach it around the gateway;"
            " bind it to 127.0.0.1",
        )
    return said(State.GOOD, "reached from this machine only")


def _of_socket(path: str, said: _Say) -> Exposure:
    try:
        mode = Path(path).stat().st_mode
    except OSError:
        return said(State.AWAY, "there is no such socket: start it, then ask again")
    if mode & stat.S_IWOTH:
        return said(State.BAD, "every user of this machine may connect: chmod o-w")
    return said(State.GOOD, "only its owner and group may connect")


def _from_outside(upstream: Upstream, target: UpstreamTarget) -> Exposure:
    if target.socket_path is not None or is_loopback(target.host):
        state, detail = State.GOOD, "its address leads nowhere from here"
    elif _listens(target.host, target.port):
        state, detail = State.BAD, "answers this machine, which must not reach it"
    else:
        state, detail = State.GOOD, "does not answer this machine"
    return Exposure(upstream.name, target.url, "outside", state, detail)


def _listens(host: str, port: int) -> bool:
    try:
        socket.create_connection((host.strip("[]"), port), WITHIN_S).close()
    except OSError:
        return False
    return True


# --- whom it believes ---------------------------------------------------------------------------


def _belief(
    upstream: Upstream,
    target: UpstreamTarget,
    samples: Sequence[Sample],
    snapshot: Snapshot,
    around: Exposure,
) -> Exposure:
    """Asks as a stranger, then with forged identity headers, then with a forged assertion."""

    def said(state: State, detail: str) -> Exposure:
        return Exposure(upstream.name, target.url, "forged headers", state, detail)

    if not samples:
        return said(State.GOOD, "no route protects anything of it")
    forged = _forged(upstream, snapshot)
    unsure: list[str] = []
    for sample in samples:
        what = f"GET {sample.path}"
        plain = _asked(target, sample, {})
        with_headers = _asked(target, sample, forged)
        audience = upstream.assertion_audience
        if plain is None or with_headers is None:
            unsure.append(f"{what}: no answer that is HTTP")
        elif plain < 300 and with_headers < 300:
            return said(State.BAD, f"{what} is answered {plain} to anybody who reaches it")
        elif plain in _REFUSED and with_headers not in _REFUSED:
            return said(
                _weight(upstream, around),
                f"believes identity headers from anybody who reaches it: {what} is {plain} without,"
                f" {with_headers} with forged ones; let it verify X-Auth-Assertion",
            )
        elif plain not in _REFUSED:
            unsure.append(f"{what} is {plain}; name an address that exists with --path")
        elif audience is not None:
            signed = _asked(target, sample, forged | {"X-Auth-Assertion": _lie(audience, sample)})
            if signed not in _REFUSED:
                return said(State.BAD, f"{what}: an assertion that anybody signed is believed")
    if unsure:
        return said(State.WARNING, "; ".join(unsure))
    return said(State.GOOD, "refuses what does not come through the gateway")


def _weight(upstream: Upstream, around: Exposure) -> State:
    """Trust in headers stands on the network alone: no more than a warning where only this
    machine reaches it and no assertion was asked for."""
    alone = around.state is State.GOOD and upstream.assertion_audience is None
    return State.WARNING if alone else State.BAD


def _forged(upstream: Upstream, snapshot: Snapshot) -> dict[str, str]:
    """What the gateway would tell this upstream of somebody with every role."""
    roles = {name for policy in snapshot.policies.values() for name in policy.roles.roles}
    email = f"{_NOBODY}@localhost"
    roles_of_all = sorted({"admin", *roles})
    liar = person(_NOBODY, roles_of_all, now=time.time(), email=email, email_verified=True)
    forged = dict(AUTHGATE.texts(liar))
    for route in snapshot.routes:
        if route.upstream is upstream:
            forged |= dict(route.identity.texts(liar))
    return forged


def _lie(audience: str, sample: Sample) -> str:
    """An assertion that is right in everything but its key, which was made just now."""
    private = Ed25519PrivateKey.generate()
    key = SigningKey(verifying(private.public_key()).kid, Alg.EDDSA, private)
    now = int(time.time())
    claims = {
        "iss": _NOBODY,
        "aud": audience,
        "sub": _NOBODY,
        "roles": ["admin"],
        "method": "GET",
        "path": sample.path.partition("?")[0],
        "iat": now,
        "exp": now + LIFE_S,
    }
    return jws.signed({"alg": key.alg.value, "typ": TYP, "kid": key.kid}, claims, key.sign)


def _asked(target: UpstreamTarget, sample: Sample, fields: dict[str, str]) -> int | None:
    """The status; None where no HTTP answer came."""
    connection = _connection(target)
    try:
        host = sample.host or f"{target.host}:{target.port}"
        sent = {name: value.encode() for name, value in {"Host": host, **fields}.items()}
        connection.request("GET", sample.path, headers=sent)
        return connection.getresponse().status
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()


def _connection(target: UpstreamTarget) -> http.client.HTTPConnection:
    if target.socket_path is not None:
        return _SocketConnection(target.socket_path)
    host = target.host.strip("[]")
    if target.scheme == "https":
        context = ssl.create_default_context()
        return http.client.HTTPSConnection(host, target.port, timeout=WITHIN_S, context=context)
    return http.client.HTTPConnection(host, target.port, timeout=WITHIN_S)


class _SocketConnection(http.client.HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=WITHIN_S)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(WITHIN_S)
        self.sock.connect(self._path)


def _sample_host(route: Route) -> str:
    """A host that the route takes; empty where it takes any."""
    return route.hosts[0].replace(WILDCARD, "any.") if route.hosts else ""


def _sample_path(route: Route) -> str | None:
    """A path that the route takes, as the upstream is sent it; None where it cannot be made."""
    parts = [
        one.text if one.kind is SegmentKind.LITERAL else _SAMPLES[one.kind]
        for one in route.segments
    ]
    params = {
        one.text: _SAMPLES[one.kind]
        for one in route.segments
        if one.kind is not SegmentKind.LITERAL
    }
    path = "/" + "/".join(parts)
    read = canonical(path)
    if isinstance(read, Reason):
        return None
    host = _sample_host(route) or "localhost"
    call = Call(
        "GET", host, path, read.segments, "", headers=(), client_ip="127.0.0.1", scheme="http"
    )
    sent = route.upstream_target(call, params)
    return None if isinstance(sent, Reason) else sent

"""The blocks of `routes.yaml` that routes name: upstreams, limits and cors."""

from __future__ import annotations

import re
from collections.abc import Mapping
from urllib.parse import urlsplit

from gateway.access.conditions.conditions import Condition, ConditionCompiler
from gateway.access.definitions import (
    STANDARD_SECURITY_HEADERS,
    Balance,
    Breaker,
    Cors,
    Health,
    Limit,
    LimitKey,
    Retry,
    Scope,
    SecurityHeaders,
    Tls,
    Upstream,
    UpstreamTarget,
)
from gateway.access.field_names import TOKEN
from gateway.access.routing.paths import canonical
from gateway.config.identity_headers import IdentityReader
from gateway.config.yaml_reader import Node, Reader
from gateway.model import Reason

UPSTREAM_KEYS = (
    "targets", "balance", "timeout", "health", "retry", "breaker", "assertion", "host",
    "pool_idle", "max_connections", "queue", "tls", "identity_headers",
)  # fmt: skip
TIMEOUT_KEYS = ("connect", "response", "idle", "request", "stream")
RETRY_KEYS = ("attempts", "on", "budget")
# What frames an answer, or means one answer only, is no business of a whole route.
_NOT_FOR_SECURITY = frozenset(
    ("connection", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade", "content-length",
     "content-type", "content-encoding", "set-cookie", "date", "server", "via", "location",
     "www-authenticate")
)  # fmt: skip
LIMIT_KEYS = ("key", "rate", "burst", "scope")
CORS_KEYS = ("origins", "credentials", "methods", "headers", "expose", "max_age")

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*\Z")
_ORIGIN = re.compile(r"https?://(?:[a-z0-9](?:[a-z0-9.-]*[a-z0-9])?|\[[0-9a-f:.]+\])(?::[0-9]+)?\Z")
_HOST = re.compile(r"(?:[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?\Z")


def check_name(reader: Reader, value: Node, name: str) -> None:
    if not NAME.match(name):
        reader.error(reader.name_of(value), "a name is letters, digits and any of ._-")


def read_upstreams(
    reader: Reader, node: Node | None, identity: IdentityReader
) -> dict[str, Upstream]:
    upstreams: dict[str, Upstream] = {}
    for name, value in reader.entries(node, "`upstreams`").items():
        check_name(reader, value, name)
        upstream = _upstream(reader, name, value, identity)
        upstreams[name] = upstream
    return upstreams


def read_limits(reader: Reader, node: Node | None, compiler: ConditionCompiler) -> dict[str, Limit]:
    limits: dict[str, Limit] = {}
    for name, value in reader.entries(node, "`limits`").items():
        check_name(reader, value, name)
        limits[name] = _limit(reader, name, value, compiler)
    return limits


def read_cors(reader: Reader, node: Node | None) -> dict[str, Cors]:
    blocks: dict[str, Cors] = {}
    for name, value in reader.entries(node, "`cors`").items():
        check_name(reader, value, name)
        blocks[name] = _cors(reader, name, value)
    return blocks


def read_security_headers(reader: Reader, node: Node | None) -> SecurityHeaders | None:
    """`off`, `standard`, or a block of fields that takes the place of the standard ones."""
    if node is None:
        return STANDARD_SECURITY_HEADERS
    if getattr(node, "value", None) == "off":
        return None
    if isinstance(getattr(node, "value", None), str):
        reader.choice(node, "`security_headers`", ("standard", "off"))
        return STANDARD_SECURITY_HEADERS
    fields: list[tuple[str, str]] = []
    hsts: str | None = None
    for name, value in reader.entries(node, "`security_headers`").items():
        text = reader.text(value, f"the header `{name}`")
        if not TOKEN.match(name):
            reader.error(reader.name_of(value), f"`{name}` is no name of a header")
        elif name.lower() in _NOT_FOR_SECURITY:
            reader.error(reader.name_of(value), f"`{name}` is no security header")
        elif text is not None and not (text.isascii() and text.isprintable()):
            reader.error(value, f"the header `{name}` is one line of ASCII text")
        elif text is not None and name.lower() == "strict-transport-security":
            hsts = text
        elif text is not None:
            fields.append((name, text))
    return SecurityHeaders(tuple(fields), hsts)


def _upstream(reader: Reader, name: str, node: Node, identity: IdentityReader) -> Upstream:
    fields = reader.block(node, f"upstream `{name}`", UPSTREAM_KEYS)
    listed = reader.texts(fields.get("targets"), "`targets`") or []
    targets = [_target(reader, text, item) for text, item in listed]
    if "targets" not in fields or (not targets and not getattr(fields["targets"], "value", 1)):
        reader.error(node, f"upstream `{name}` has no `targets: [http://HOST:PORT]`")
    timeout = reader.block(fields.get("timeout"), "`timeout`", TIMEOUT_KEYS)
    balance = reader.choice(fields.get("balance"), "`balance`", tuple(Balance))
    assertion = reader.block(fields.get("assertion"), "`assertion`", ("audience",))
    if "assertion" in fields and not assertion:
        reader.error(fields["assertion"], "`assertion` needs `audience: NAME`")
    host = reader.text(fields.get("host"), "`host`")
    if host is not None and not _HOST.match(host):
        reader.error(fields["host"], "`host` is a host name, with or without a port")
    return Upstream(
        name,
        tuple(target for target in targets if target is not None),
        Balance(balance or Balance.ROUND_ROBIN),
        timeout_connect_s=reader.duration_s(timeout.get("connect"), "`connect`") or 1.0,
        timeout_response_s=reader.duration_s(timeout.get("response"), "`response`") or 30.0,
        timeout_idle_s=reader.duration_s(timeout.get("idle"), "`idle`") or 60.0,
        timeout_request_s=reader.duration_s(timeout.get("request"), "`request`") or 3_600.0,
        timeout_stream_s=reader.duration_s(timeout.get("stream"), "`stream`") or 86_400.0,
        health=_health(reader, fields.get("health")),
        retry=_retry(reader, fields.get("retry")),
        breaker=_breaker(reader, fields.get("breaker")),
        assertion_audience=reader.text(assertion.get("audience"), "`audience`"),
        host=host,
        pool_idle_s=reader.duration_s(fields.get("pool_idle"), "`pool_idle`") or 4.0,
        max_connections=reader.integer(fields.get("max_connections"), "`max_connections`") or 0,
        queue=reader.integer(fields.get("queue"), "`queue`") or 0,
        tls=_tls(reader, fields.get("tls"), targets),
        identity=identity.read(fields.get("identity_headers")),
        location=reader.location(reader.name_of(node)),
    )


def _tls(reader: Reader, node: Node | None, targets: list[UpstreamTarget | None]) -> Tls | None:
    if node is None:
        return None
    fields = reader.block(node, "`tls`", ("ca", "certificate", "key"))
    if not any(target is None or target.scheme == "https" for target in targets):
        reader.error(node, "`tls` is for targets that begin with `https://`")
    if "key" in fields and "certificate" not in fields:
        reader.error(fields["key"], "`key` needs the `certificate:` that it belongs to")
    paths: dict[str, str] = {}
    for name, value in fields.items():
        path = reader.text(value, f"`{name}`")
        if path is not None and not path.startswith("/"):
            reader.error(value, f"`{name}` is the whole path of a PEM file: begin it with `/`")
        elif path is not None:
            paths[name] = path
    locations = {name: reader.location(value) for name, value in fields.items()}
    return Tls(paths.get("ca"), paths.get("certificate"), paths.get("key"), locations)


def _target(reader: Reader, text: str, node: Node) -> UpstreamTarget | None:
    if text.startswith("unix:"):
        path = text.removeprefix("unix:").removeprefix("//")
        if path.startswith("/") and len(path.encode()) <= 107:
            return UpstreamTarget(text, "http", "localhost", 80, path)
        reader.error(node, "a unix target is `unix:/path/of/the.socket`, 107 bytes at most")
        return None
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        reader.error(node, f"`{text}` is no URL: `http://HOST:PORT`")
        return None
    # urlsplit() drops tabs and line ends without a word: what is dialled must be what is written.
    plain = text.isprintable() and " " not in text
    if parts.scheme not in ("http", "https") or not parts.hostname or not plain:
        reader.error(node, f"`{text}` is no target: `http://HOST:PORT`, `https://…` or `unix:/…`")
        return None
    if parts.username is not None or not re.match(r"[A-Za-z0-9.:_-]+\Z", parts.hostname):
        reader.error(node, "a target is a scheme, a host and a port, nothing else")
        return None
    if parts.path not in ("", "/") or parts.query or parts.fragment:
        reader.error(node, "a target has no path: use `rewrite: {add_prefix: …}` on the route")
        return None
    default = 443 if parts.scheme == "https" else 80
    return UpstreamTarget(text.rstrip("/"), parts.scheme, parts.hostname, port or default)


def _health(reader: Reader, node: Node | None) -> Health | None:
    if node is None:
        return None
    fields = reader.block(node, "`health`", ("path", "every", "fall", "rise", "timeout"))
    path = reader.text(fields.get("path"), "`path`")
    if "path" not in fields:
        reader.error(node, "`health` needs a `path:`")
    elif path is not None and isinstance(canonical(path.partition("?")[0]), Reason):
        reader.error(fields["path"], f"`{path}` is no path: begin it with `/`")
    return Health(
        path or "/",
        every_s=reader.duration_s(fields.get("every"), "`every`", least=0.1) or 5.0,
        fall=reader.integer(fields.get("fall"), "`fall`", least=1) or 3,
        rise=reader.integer(fields.get("rise"), "`rise`", least=1) or 2,
        timeout_s=reader.duration_s(fields.get("timeout"), "`timeout`") or 2.0,
    )


def _retry(reader: Reader, node: Node | None) -> Retry:
    if node is None:
        return Retry()
    fields = reader.block(node, "`retry`", RETRY_KEYS)
    attempts = reader.integer(fields.get("attempts"), "`attempts`", least=1)
    if attempts is not None and attempts > 10:
        reader.error(fields["attempts"], "`attempts` counts all tries, 10 at most")
    connect = "on" not in fields
    statuses: set[int] = set()
    for item in reader.items(fields.get("on"), "`on`"):
        value = getattr(item, "value", "")
        if value == "connect":
            connect = True
        elif isinstance(value, str) and re.match(r"[45][0-9]{2}\Z", value):
            statuses.add(int(value))
        else:
            reader.error(item, '`on` lists `connect` and statuses such as "503"')
    budget = reader.percent(fields.get("budget"), "`budget`")
    return Retry(attempts or 2, connect, frozenset(statuses), budget or 0.2)


def _breaker(reader: Reader, node: Node | None) -> Breaker | None:
    if node is None:
        return None
    fields = reader.block(node, "`breaker`", ("failures", "window", "open"))
    return Breaker(
        reader.integer(fields.get("failures"), "`failures`", least=1) or 20,
        reader.duration_s(fields.get("window"), "`window`") or 10.0,
        reader.duration_s(fields.get("open"), "`open`") or 15.0,
    )


def _limit(reader: Reader, name: str, node: Node, compiler: ConditionCompiler) -> Limit:
    fields = reader.block(node, f"limit `{name}`", LIMIT_KEYS)
    count, window_s = reader.rate(fields.get("rate"), "`rate`") or (1, 1.0)
    if "rate" not in fields:
        reader.error(node, f"limit `{name}` has no `rate: 600/1m`")
    key, expression = _limit_key(reader, fields.get("key"), compiler)
    if "key" not in fields:
        reader.error(
            node, f"limit `{name}` has no `key:` (user, address, client, tenant, role, route)"
        )
    scope = reader.choice(fields.get("scope"), "`scope`", tuple(Scope))
    return Limit(
        name,
        key,
        count / window_s,
        reader.integer(fields.get("burst"), "`burst`", least=1) or count,
        Scope(scope or Scope.LEASED),
        reader.location(reader.name_of(node)),
        expression=expression,
    )


def _limit_key(
    reader: Reader, node: Node | None, compiler: ConditionCompiler
) -> tuple[LimitKey, Condition | None]:
    text = reader.text(node, "`key`")
    words = [key for key in LimitKey if key is not LimitKey.EXPRESSION]
    if text is None or node is None:
        return LimitKey.ADDRESS, None
    if text in words:
        return LimitKey(text), None
    if re.match(r"[a-z_]+\Z", text):
        reader.choice(node, "`key`", words)
        return LimitKey.ADDRESS, None
    compiled = compiler.compile(text, truth=False)
    if not isinstance(compiled, Condition):
        for at, problem in compiled:
            reader.error(node, problem, at=at)
        return LimitKey.ADDRESS, None
    reads = compiled.reads
    if reads.roots - {"user", "client", "request", "resource"} or reads.query:
        reader.error(
            node,
            "a key reads `user`, `client`, `resource`, and the method, path, host, params and "
            "headers of `request`",
        )
    return LimitKey.EXPRESSION, compiled


def _cors(reader: Reader, name: str, node: Node) -> Cors:
    fields = reader.block(node, f"cors `{name}`", CORS_KEYS)
    origins: set[str] = set()
    for text, item in reader.texts(fields.get("origins"), "`origins`") or []:
        lower = text.lower()
        if text == "*" or _ORIGIN.match(lower):
            origins.add(lower)
        else:
            reader.error(item, f"`{text}` is no origin: `https://app.example.com`, no path, no `/`")
    if not getattr(fields.get("origins"), "value", None):
        reader.error(node, f"cors `{name}` has no `origins:`")
    credentials = reader.flag(fields.get("credentials"), "`credentials`", False)
    if "*" in origins and (credentials or len(origins) > 1):
        reader.error(
            fields["origins"],
            "`*` stands alone and never with `credentials: true`: list the origins",
        )
    return Cors(
        name,
        frozenset(origins),
        credentials,
        methods=_tokens(reader, fields, "methods", upper=True),
        headers=_tokens(reader, fields, "headers"),
        expose=_tokens(reader, fields, "expose"),
        max_age_s=int(reader.duration_s(fields.get("max_age"), "`max_age`", least=0) or 0)
        if "max_age" in fields
        else 600,
        location=reader.location(reader.name_of(node)),
    )


def _tokens(
    reader: Reader, fields: Mapping[str, Node], key: str, *, upper: bool = False
) -> tuple[str, ...]:
    tokens: list[str] = []
    for text, item in reader.texts(fields.get(key), f"`{key}`") or []:
        if not TOKEN.match(text):
            reader.error(item, f"`{text}` cannot stand in `{key}`")
        elif upper and text != text.upper():
            reader.error(item, f"methods are upper case: `{text.upper()}`")
        else:
            tokens.append(text if upper else text.lower())
    return tuple(dict.fromkeys(tokens))

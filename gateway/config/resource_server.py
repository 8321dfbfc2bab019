"""`resource_server:` read: routes as protected resources of OAuth (RFC 9728)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from gateway.access.issuers import Issuer, ResourceServer
from gateway.access.routing.paths import canonical, encoded
from gateway.access.routing.routes import BELOW, PatternSegment, Route, SegmentKind
from gateway.config.matching import RoutePath
from gateway.config.urls import read_url
from gateway.config.yaml_reader import Node, Reader
from gateway.model import ConfigProblem, Reason

RESOURCE_SERVER_KEYS = ("scopes", "authorization_servers", "documentation", "name", "path")

_SCOPE = re.compile(r"[!#-\[\]-~]{1,256}\Z")
"""RFC 6749 section 3.3."""
_LONGEST_NAME = 128
_URL_PATH = re.compile(r"/[A-Za-z0-9._~!$&'()*+,;=:@%/-]*\Z")
"""RFC 3986 section 3.3: others would write anything else in another way, and it stands in a quoted
text of `WWW-Authenticate`."""


@dataclass(frozen=True, slots=True)
class ResourceOptions:
    """The block as it is written: of a route, or of `defaults` for many."""

    scopes: tuple[str, ...] = ()
    authorization_servers: tuple[str, ...] = ()
    """Empty: the issuers of the route."""
    documentation: str | None = None
    name: str | None = None
    path: str | None = None
    """None: that of the route."""


def read_resource_server(reader: Reader, node: Node) -> ResourceOptions | None:
    """`off`, or a block; `{}` says that the route is a resource, and nothing else."""
    if getattr(node, "value", None) == "off":
        return None
    fields = reader.block(node, "`resource_server`", RESOURCE_SERVER_KEYS)
    servers = [
        read_url(reader, item, "an entry of `authorization_servers`")
        for _, item in reader.texts(fields.get("authorization_servers"), "`authorization_servers`")
        or []
    ]
    return ResourceOptions(
        _scopes(reader, fields.get("scopes")),
        tuple(dict.fromkeys(server for server in servers if server is not None)),
        read_url(reader, fields.get("documentation"), "`documentation`", query=True, plain=True),
        _name(reader, fields.get("name")),
        _path(reader, fields.get("path")),
    )


def resource_of_route(
    reader: Reader,
    node: Node,
    options: ResourceOptions,
    path: RoutePath,
    issuers: Iterable[Issuer],
) -> ResourceServer | None:
    """What a route is; None, and a problem, where it cannot be one.

    `issuers` are those that the route takes, in the order in which clients are told of them, but
    for us: our own tokens name no resource.
    """
    servers = options.authorization_servers or tuple(one.issuer for one in issuers)
    if not servers:
        reader.error(
            node,
            "a resource says who gives tokens for it: name an issuer of others in `issuers`, or "
            "`authorization_servers: [https://…]` in `resource_server`",
        )
    where = options.path or _path_of(path)
    if where is None:
        reader.error(
            node,
            f"`{path.shown}` holds a parameter, and the URL of a resource none: add `path: /…` to "
            "`resource_server`",
        )
    elif options.path is not None and not _holds(where, path.segments):
        reader.error(
            node,
            f"the route `{path.shown}` is not below `{where}`, the `path` of its resource: clients "
            "believe what is said of a URL above the one they call",
        )
    if not servers or where is None:
        return None
    return ResourceServer(where, servers, options.scopes, options.documentation, options.name)


def read_resources(
    reader: Reader, routes: Iterable[Route]
) -> Mapping[tuple[str, str], ResourceServer]:
    """Each resource once, by host (as routes name it; empty is that of the public URL) and path,
    with the scopes of all its routes.  Routes of one resource that say two things of it are a
    problem."""
    resources: dict[tuple[str, str], ResourceServer] = {}
    first: dict[tuple[str, str], Route] = {}
    for route in routes:
        server = route.resource_server
        if server is None:
            continue
        for host in route.hosts or ("",):
            key = host, server.path
            known = resources.setdefault(key, server)
            other = first.setdefault(key, route)
            if (said := _disagreement(known, server)) is not None:
                reader.problems.append(
                    ConfigProblem.at(
                        route.location,
                        f"route `{route.id}` and route `{other.id}` ({other.location}) are one "
                        f"resource, `{server.path}`, and name other {said}: say the same, or "
                        "give one another `path`",
                    )
                )
                break
            resources[key] = replace(
                known,
                scopes=tuple(dict.fromkeys((*known.scopes, *server.scopes))),
                documentation=known.documentation or server.documentation,
                name=known.name or server.name,
            )
    return resources


def _disagreement(one: ResourceServer, other: ResourceServer) -> str | None:
    if set(one.authorization_servers) != set(other.authorization_servers):
        return "authorization servers"
    if one.documentation and other.documentation and one.documentation != other.documentation:
        return "documentation"
    return "names" if one.name and other.name and one.name != other.name else None


def _scopes(reader: Reader, node: Node | None) -> tuple[str, ...]:
    scopes = []
    for text, item in reader.texts(node, "`scopes`") or []:
        if not _SCOPE.match(text):
            reader.error(
                item, f"`{text}` is no scope: visible ASCII without spaces, quotes and backslashes"
            )
        scopes.append(text)
    return tuple(dict.fromkeys(scopes))


def _name(reader: Reader, node: Node | None) -> str | None:
    text = reader.text(node, "`name`")
    if text is not None and node is not None and not _is_name(text):
        reader.error(node, f"`name` is 1 to {_LONGEST_NAME} printable characters")
        return None
    return text


def _is_name(text: str) -> bool:
    return len(text) <= _LONGEST_NAME and text.isprintable()


def _path(reader: Reader, node: Node | None) -> str | None:
    text = reader.text(node, "`path`")
    if text is None or node is None:
        return None
    if set("{}") & set(text):
        reader.error(node, "the `path` of a resource is a part of its URL: it has no parameters")
        return None
    if not _URL_PATH.match(text) or isinstance(canonical(text), Reason):
        reader.error(
            node,
            f"`{text}` is no path of a URL: begin it with `/`, escape what is not ASCII or has no "
            "place there",
        )
        return None
    return text


def _path_of(path: RoutePath) -> str | None:
    """That of a prefix, or of a path without parameters."""
    if any(segment.kind is not SegmentKind.LITERAL for segment in path.segments):
        return None
    if not path.segments:
        return "/"
    written = path.shown.removesuffix(f"/{BELOW}") if path.is_prefix else path.shown
    if _URL_PATH.match(written):
        return written
    return "".join(f"/{encoded(segment.text)}" for segment in path.segments)


def _holds(where: str, segments: tuple[PatternSegment, ...]) -> bool:
    """Whether a route of these segments lies at the path, or below it."""
    read = canonical(where)
    if isinstance(read, Reason):
        return False
    above = read.segments[:-1] if read.segments[-1] == "" else read.segments
    if len(above) > len(segments):
        return False
    return all(
        segment.kind is SegmentKind.LITERAL and segment.text == text
        for segment, text in zip(segments, above, strict=False)
    )

"""The hosts of a route: names, and `*.example.com` for every name directly below one.

Whoever may register below a public suffix (`com`, `co.uk`, `github.io`) is a stranger, so a
wildcard there would take strangers' hosts for ours: the Public Suffix List is asked, as the
package carries it.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from functools import cache

from publicsuffixlist import PublicSuffixList

from gateway.access.routing.routes import WILDCARD
from gateway.config.yaml_reader import Node, Reader

_HOST = re.compile(r"(?:[a-z0-9](?:[a-z0-9_-]*[a-z0-9])?)(?:\.[a-z0-9](?:[a-z0-9_-]*[a-z0-9])?)*\Z")


@cache
def public_suffixes() -> PublicSuffixList:
    """Parsed once, where a host needs it: that takes a tenth of a second."""
    return PublicSuffixList()


def read_hosts(reader: Reader, match: Mapping[str, Node]) -> tuple[str, ...]:
    """Those of `match.host` or `match.hosts` as calls have them; empty is any."""
    if "host" in match and "hosts" in match:
        reader.error(reader.name_of(match["hosts"]), "`match` has `host` or `hosts`")
    if "host" in match:
        text = reader.text(match["host"], "`host`")
        written = [] if text is None else [(text, match["host"])]
    else:
        written = reader.texts(match.get("hosts"), "`hosts`") or []
        if "hosts" in match and not written:
            reader.error(match["hosts"], "`hosts` is empty: leave it out to match every host")
    hosts = (_host_or_wildcard(reader, text, node) for text, node in written)
    return tuple(dict.fromkeys(host for host in hosts if host is not None))


def _host_or_wildcard(reader: Reader, text: str, node: Node) -> str | None:
    if not text.startswith(WILDCARD):
        return host_name(reader, text, node)
    domain = host_name(reader, text.removeprefix(WILDCARD), node, written=text)
    if domain is None:
        return None
    problem = strangers_below(domain)
    if problem is not None:
        reader.error(node, f"`{text}` {problem}")
        return None
    return WILDCARD + domain


def strangers_below(domain: str) -> str | None:
    """Why not everything directly below a name is one party's; None where it is."""
    if domain == "localhost":
        # RFC 6761 section 6.3: it and all below it are this machine.
        return None
    if domain.startswith("[") or domain.rpartition(".")[2].isdigit():
        return "is no host: an address has no names below it"
    if not public_suffixes().is_public(domain):
        return None
    return (
        f"would take the hosts of strangers: anybody may have a name below the public suffix "
        f"`{domain}`. Write `*.NAME.{domain}`, or name each host"
    )


def read_host(reader: Reader, node: Node | None) -> str | None:
    """One name, and no wildcard."""
    text = reader.text(node, "`host`")
    return None if text is None or node is None else host_name(reader, text, node)


def host_name(reader: Reader, text: str, node: Node, *, written: str = "") -> str | None:
    """The host as calls have it: lower case, without final dot, IPv6 in its shortest form.

    A problem quotes what stands in the file: `written` where that is more than the name.
    """
    host = text.lower().removesuffix(".")
    if host.startswith("[") and host.endswith("]"):
        literal = _ipv6(host[1:-1])
        if literal is not None:
            return f"[{literal}]"
    if _HOST.match(host) and len(host) <= 253:
        return host
    hint = "a host name without port"
    if not text.isascii():
        hint = "write its ASCII form (`xn--…`)"
    elif (written or text) == "*":
        hint = "leave `host` out to match every host"
    elif "*" in text:
        hint = "a `*` is the whole first label: `*.example.com` takes each name directly below"
    elif re.search(r":[0-9]+\Z", text):
        hint = "leave the port out: routes match a host on every port"
    reader.error(node, f"`{written or text}` is no host: {hint}")
    return None


def _ipv6(text: str) -> str | None:
    """The shortest spelling (RFC 5952); None for what is no address."""
    try:
        return str(ipaddress.IPv6Address(text))
    except ValueError:
        return None

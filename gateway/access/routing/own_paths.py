"""The paths that the gateway answers itself, whatever the routes say.

Law: every part that knows such a path asks this.  The endpoints (`/auth/…`, or below the prefix
that was chosen) are the gateway's on every host, as a page calls them where it was loaded.  The
well-known documents are its own on its own hosts alone: an application behind the gateway may
have such documents on its host.  Those of resources, below the last of them, are where routes are
resources: `RouteTable.reserves` knows them too.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from urllib.parse import urlsplit

DEFAULT_PREFIX = "/auth"
WELL_KNOWN = ".well-known"
JWKS = "jwks.json"
AUTHORIZATION_SERVER = "oauth-authorization-server"
PROTECTED_RESOURCE = "oauth-protected-resource"
DOCUMENTS = frozenset((JWKS, AUTHORIZATION_SERVER, PROTECTED_RESOURCE))
"""The documents below `/.well-known/` that the gateway answers itself."""
DOCUMENT_SEGMENTS = 2
"""Of the path of a document."""

_PREFIX_IN_TEXT = re.compile(rf"(?<![\w./-]){DEFAULT_PREFIX}(?![\w-])")


@dataclass(frozen=True, slots=True)
class OwnPaths:
    prefix: str = DEFAULT_PREFIX
    """Of the endpoints: `/` and a segment, once or more often."""
    hosts: frozenset[str] | None = None
    """Where the documents are, as in `Call.host`; None where nobody knows: then everywhere."""
    segments: tuple[str, ...] = field(init=False)
    """The prefix, split."""
    first: frozenset[str] = field(init=False)
    """What a path of the gateway's own can begin with."""

    def __post_init__(self) -> None:
        segments = tuple(self.prefix[1:].split("/"))
        object.__setattr__(self, "segments", segments)
        object.__setattr__(self, "first", frozenset((segments[0], WELL_KNOWN)))

    def reserve(self, host: str, segments: tuple[str, ...]) -> bool:
        """Whether the gateway answers this path of this host itself."""
        if segments[0] not in self.first:
            return False
        return self.is_endpoint(segments) or (
            len(segments) == DOCUMENT_SEGMENTS
            and segments[0] == WELL_KNOWN
            and segments[1] in DOCUMENTS
            and self.has_documents(host)
        )

    def is_endpoint(self, segments: tuple[str, ...]) -> bool:
        """Whether the path is the prefix or lies below it."""
        return segments[: len(self.segments)] == self.segments

    def has_documents(self, host: str | None) -> bool:
        """Whether the documents are answered on this host; None is every host."""
        return self.hosts is None or host is None or host in self.hosts

    def below(self, segments: tuple[str, ...]) -> tuple[str, ...]:
        """What follows the prefix in the path of an endpoint."""
        return segments[len(self.segments) :]

    def endpoint(self, *segments: str) -> str:
        """The path of an endpoint, such as `/auth/login`."""
        return "/".join((self.prefix, *segments))

    def told_in(self, text: str) -> str:
        """A text that ships with the package, with the endpoints where they are here."""
        return _PREFIX_IN_TEXT.sub(lambda _: self.prefix, text)


def is_resource_metadata(segments: tuple[str, ...]) -> bool:
    """Whether the path is where metadata of resources are (RFC 9728 section 3.1), or lies below."""
    return segments[:DOCUMENT_SEGMENTS] == (WELL_KNOWN, PROTECTED_RESOURCE)


def document_path(name: str) -> str:
    return f"/{WELL_KNOWN}/{name}"


def url_host(url: str) -> str:
    """The host of a URL as `Call.host` has one; empty for what is no URL with a host."""
    try:
        host = urlsplit(url).hostname or ""
    except ValueError:
        return ""
    return f"[{host}]" if ":" in host else host.removesuffix(".")

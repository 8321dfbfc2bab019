"""/.well-known/oauth-protected-resource and what lies below it: RFC 9728.

Law: only a resource that routes are has a document.  It is made of the configuration; of the
request it holds at most the host, which a route names.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from gateway.access.resource_servers import resource_at
from gateway.access.routing.csrf import OwnOrigins
from gateway.access.routing.own_paths import DOCUMENT_SEGMENTS
from gateway.access.snapshot import Snapshot
from gateway.model import Call

CORS = {"Access-Control-Allow-Origin": "*"}
"""Clients that are pages look the document up from whatever origin they have.  It is the same for
everyone, and no cookie is read for it: there is nothing that another origin could take."""
PREFLIGHT = {
    **CORS,
    "Access-Control-Allow-Methods": "GET, HEAD",
    # The clients of MCP send the version of their protocol in a field of its own.
    "Access-Control-Allow-Headers": "*",
    "Access-Control-Max-Age": "600",
}


class ResourceMetadata:
    def __init__(self, snapshot: Callable[[], Snapshot], origins: OwnOrigins) -> None:
        self._snapshot = snapshot
        self._origins = origins

    def members(self, call: Call) -> dict[str, Any] | None:
        """What the document that the call asks for says; None where it is about no resource."""
        snapshot = self._snapshot()
        # What follows the well-known path, as it came: it is the path of the resource's URL.
        below = call.path.split("/", DOCUMENT_SEGMENTS + 1)[DOCUMENT_SEGMENTS + 1 :]
        path = "/" + "".join(below)
        public = snapshot.routes.own_paths.has_documents(call.host)
        resource = resource_at(snapshot.resources, call.host, path, self._origins, public=public)
        if resource is None:
            return None
        url, server = resource
        members: dict[str, Any] = {
            "resource": url,
            "authorization_servers": list(server.authorization_servers),
            "bearer_methods_supported": ["header"],  # section 2; never from a query or a body
        }
        if server.scopes:
            members["scopes_supported"] = list(server.scopes)
        if server.name is not None:
            members["resource_name"] = server.name
        if server.documentation is not None:
            members["resource_documentation"] = server.documentation
        return members

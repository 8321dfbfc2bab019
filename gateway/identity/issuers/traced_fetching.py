"""Documents and answers of other servers, each a span of the call that waits for it; taken where
traces are on.  Of an address the span has the server and the path, never the query."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import urlsplit

from gateway.call_trace import Attribute, Traced
from gateway.identity.issuers.fetching import FetchedDocument, Fetcher
from gateway.identity.issuers.form_posts import FormPoster


class TracedFetcher(Fetcher):
    async def get(self, url: str, ca: str | None, bytes_max: int) -> FetchedDocument:
        with request_span("GET", url):
            return await super().get(url, ca, bytes_max)


class TracedFormPoster(FormPoster):
    async def post(
        self, url: str, form: Mapping[str, str], fields: Mapping[str, str], bytes_max: int
    ) -> bytes:
        with request_span("POST", url):
            return await super().post(url, form, fields, bytes_max)


def request_span(method: str, url: str) -> Traced:
    target = urlsplit(url)
    host = target.netloc.rpartition("@")[2]
    attributes: dict[str, Attribute] = {
        "http.request.method": method,
        "server.address": target.hostname or "",
        "url.full": f"{target.scheme}://{host}{target.path}",
    }
    return Traced(method, attributes, is_client=True)

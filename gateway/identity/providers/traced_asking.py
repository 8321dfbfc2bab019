"""Questions to providers' servers, each a span of the sign-in that asks; taken where traces are
on."""

from __future__ import annotations

from collections.abc import Mapping

from gateway.identity.issuers.traced_fetching import request_span
from gateway.identity.providers.asking import ProviderAnswer, ProviderServers


class TracedProviderServers(ProviderServers):
    async def get(self, url: str, ca: str | None, fields: Mapping[str, str]) -> ProviderAnswer:
        with request_span("GET", url):
            return await super().get(url, ca, fields)

    async def post(
        self, url: str, ca: str | None, form: str, fields: Mapping[str, str]
    ) -> ProviderAnswer:
        with request_span("POST", url):
            return await super().post(url, ca, form, fields)

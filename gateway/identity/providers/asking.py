"""One question to a provider's server, within limits.

Law: as for `issuers.fetching`: an answer costs at most so much time and so many bytes, leads
nowhere else, and comes over TLS that was checked, or from this machine.  What a provider answers
in JSON is told apart from what is no answer at all: an error of OAuth is the former.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import aiohttp

from gateway import strict_json
from gateway.identity.issuers.discovery import origin
from gateway.identity.issuers.fetching import (
    FIELDS,
    Addresses,
    AddressResolver,
    FetchFailed,
    bounded_body,
    plain_session,
    tls_context,
    told,
)
from gateway.identity.issuers.jwk_set import DocumentRefused

ASK_S = 5.0
ANSWER_BYTES_MAX = 128 * 1024
_FORM = {"Content-Type": "application/x-www-form-urlencoded"}


@dataclass(frozen=True, slots=True)
class ProviderAnswer:
    """Any answer below 500; `body` may be anything."""

    url: str
    status: int
    body: bytes = field(repr=False)

    def value(self) -> Any:
        """The JSON in it.  Raises DocumentRefused."""
        try:
            return strict_json.loads(self.body, encodable=True)
        except ValueError as error:
            raise DocumentRefused(
                f"{self.url} answers no JSON that everybody reads alike: {error}"
            ) from error

    def members(self) -> Mapping[str, Any]:
        """The members of the JSON object in it.  Raises DocumentRefused."""
        value = self.value()
        if not isinstance(value, dict):
            raise DocumentRefused(f"{self.url} answers no JSON object")
        return value


class ProviderServers:
    """A connection for each question: people sign in now and then."""

    def __init__(self, addresses: Addresses, *, timeout_s: float = ASK_S) -> None:
        self._addresses = addresses
        self._timeout_s = timeout_s

    async def get(self, url: str, ca: str | None, fields: Mapping[str, str]) -> ProviderAnswer:
        """Raises FetchFailed."""
        return await self._ask(url, ca, None, fields)

    async def post(
        self, url: str, ca: str | None, form: str, fields: Mapping[str, str]
    ) -> ProviderAnswer:
        """`form` is url-encoded.  Raises FetchFailed."""
        return await self._ask(url, ca, form, {**fields, **_FORM})

    async def _ask(
        self, url: str, ca: str | None, form: str | None, fields: Mapping[str, str]
    ) -> ProviderAnswer:
        target = origin(url)
        if target is None:
            raise FetchFailed(f"{url} is no https URL")
        try:
            async with asyncio.timeout(self._timeout_s):
                # Reading the machine's authorities takes some milliseconds of a processor.
                is_tls = target[0] == "https"
                tls = await asyncio.to_thread(tls_context, ca) if is_tls else True
                connector = aiohttp.TCPConnector(ssl=tls, resolver=AddressResolver(self._addresses))
                async with (
                    plain_session(connector) as session,
                    session.request(
                        "GET" if form is None else "POST",
                        url,
                        data=form,
                        allow_redirects=False,
                        headers={**FIELDS, **fields},
                    ) as response,
                ):
                    return await _answer(response, url)
        except TimeoutError as error:
            raise FetchFailed(f"{url} did not answer within {self._timeout_s:g} s") from error
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise FetchFailed(f"{url} could not be asked: {told(error)}") from error


async def _answer(response: aiohttp.ClientResponse, url: str) -> ProviderAnswer:
    if response.status >= 500 or 300 <= response.status < 400:
        raise FetchFailed(f"{url} answered {response.status}")
    body = await bounded_body(response, url, ANSWER_BYTES_MAX)
    return ProviderAnswer(url, response.status, body)

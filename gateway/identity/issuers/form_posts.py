"""Forms posted to another server again and again, over connections that are kept.

Law: as for `fetching.py`: bounded in time and bytes, no redirects, no proxy, no cookies, TLS that
was checked or this machine.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from time import monotonic

import aiohttp

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

ANEW_AFTER_S = 3_600.0
"""The file of authorities may have changed since."""


class PostRefused(FetchFailed):
    """The server answered, and not with 200: it is there, and does not take what we sent."""


class FormPoster:
    """The connections to one server.  Usable until `close`."""

    def __init__(
        self, addresses: Addresses, ca: str | None, *, timeout_s: float, at_once: int
    ) -> None:
        self._addresses = addresses
        self._ca = ca
        self._timeout_s = timeout_s
        self._at_once = at_once
        self._session: aiohttp.ClientSession | None = None
        self._opened_at = 0.0
        self._under_way = 0

    async def post(
        self, url: str, form: Mapping[str, str], fields: Mapping[str, str], bytes_max: int
    ) -> bytes:
        """The body of the answer.  Raises FetchFailed."""
        if origin(url) is None:
            raise FetchFailed(f"{url} is no https URL")
        try:
            async with asyncio.timeout(self._timeout_s):
                return await self._counted(url, form, fields, bytes_max)
        except TimeoutError as error:
            raise FetchFailed(f"{url} did not answer within {self._timeout_s:g} s") from error
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise FetchFailed(f"{url} could not be asked: {told(error)}") from error

    async def close(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def _counted(
        self, url: str, form: Mapping[str, str], fields: Mapping[str, str], bytes_max: int
    ) -> bytes:
        if not self._under_way and monotonic() - self._opened_at > ANEW_AFTER_S:
            await self.close()
        self._under_way += 1
        try:
            return await self._answer(url, form, fields, bytes_max)
        except aiohttp.ServerDisconnectedError:
            # A connection that had rested ends in this way; to ask twice changes nothing.
            return await self._answer(url, form, fields, bytes_max)
        finally:
            self._under_way -= 1

    async def _answer(
        self, url: str, form: Mapping[str, str], fields: Mapping[str, str], bytes_max: int
    ) -> bytes:
        session = self._session or await self._opened()
        async with session.post(
            url, data=form, allow_redirects=False, headers={**FIELDS, **fields}
        ) as response:
            if response.status >= 500:
                raise FetchFailed(f"{url} answered {response.status}")
            if response.status != 200:
                raise PostRefused(f"{url} answered {response.status}")
            return await bounded_body(response, url, bytes_max)

    async def _opened(self) -> aiohttp.ClientSession:
        tls = await asyncio.to_thread(tls_context, self._ca)
        if self._session is None:
            self._opened_at = monotonic()
            connector = aiohttp.TCPConnector(
                ssl=tls, resolver=AddressResolver(self._addresses), limit=self._at_once
            )
            self._session = plain_session(connector)
        return self._session

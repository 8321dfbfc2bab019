"""The last good key set of each issuer, in the data folder: a gateway that starts while the issuer
is away has it.

Law: what is read here is judged as strictly as what is fetched, and only if it was fetched for the
same issuer from the same place.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from gateway import strict_json
from gateway.access.issuers import Issuer
from gateway.atomic_file import atomic_file
from gateway.identity.base64url import decoded, encoded
from gateway.identity.issuers.discovery import discovery_url
from gateway.identity.issuers.jwk_set import (
    SET_BYTES_MAX,
    DocumentRefused,
    IssuerKey,
    read_jwk_set,
)

_FILE_BYTES_MAX = 2 * SET_BYTES_MAX
_LATEST = 2**53


@dataclass(frozen=True, slots=True)
class KeptSet:
    body: bytes
    """As the issuer published it."""
    fetched_at: float
    """Seconds since the epoch."""

    def keys(self) -> Mapping[str, IssuerKey]:
        """By `kid`; none where the set is not to be believed."""
        try:
            return read_jwk_set(self.body).keys
        except DocumentRefused:
            return {}


class KeptKeys:
    """One file an issuer, 0600, written by whichever worker fetched last."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def read(self, issuer: Issuer) -> KeptSet | None:
        try:
            with open(self._path(issuer.name), "rb") as file:
                raw = file.read(_FILE_BYTES_MAX + 1)
            document = strict_json.loads(raw) if len(raw) <= _FILE_BYTES_MAX else None
        except (OSError, ValueError):
            return None
        if not isinstance(document, dict):
            return None
        if (document.get("issuer"), document.get("source")) != (issuer.issuer, source(issuer)):
            return None
        at, keys = document.get("fetched_at"), document.get("keys")
        body = decoded(keys) if isinstance(keys, str) else None
        # A file that somebody edited keeps no worker from starting.
        if not isinstance(at, int | float) or abs(at) > _LATEST or body is None:
            return None
        return KeptSet(body, at)

    def write(self, issuer: Issuer, kept: KeptSet) -> None:
        """Raises OSError."""
        self._folder.mkdir(mode=0o700, exist_ok=True)
        document = {
            "issuer": issuer.issuer,
            "source": source(issuer),
            "fetched_at": kept.fetched_at,
            "keys": encoded(kept.body),
        }
        with atomic_file(self._path(issuer.name)) as file:
            file.write(json.dumps(document).encode())

    def remove(self, name: str) -> None:
        """Of an issuer that the configuration names no more."""
        with contextlib.suppress(OSError):
            self._path(name).unlink()

    def _path(self, name: str) -> Path:
        return self._folder / f"{name}.json"


def source(issuer: Issuer) -> str:
    """The URL that leads to its keys."""
    return issuer.jwks_uri or discovery_url(issuer)

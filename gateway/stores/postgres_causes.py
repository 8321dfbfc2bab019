"""Says in words why PostgreSQL is unavailable, as `causes` does of the others.

Apart from them: only who has a PostgreSQL imports its driver.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import psycopg
import psycopg.errors

from gateway.stores.causes import LONGEST, NO_ANSWER, of_system

_OF_POSTGRES: tuple[tuple[type[Exception], str], ...] = (
    (psycopg.errors.DiskFull, "the server's disk is full: make room there"),
    (psycopg.errors.QueryCanceled, NO_ANSWER),
    (psycopg.errors.ReadOnlySqlTransaction, "the server is a standby: name the primary"),
    (psycopg.errors.UndefinedTable, "a table is missing: run `gateway db upgrade`"),
    (psycopg.errors.InsufficientPrivilege, "its user may not use the tables: grant it to"),
    (psycopg.errors.AdminShutdown, "the server was shut down"),
    (
        psycopg.errors.LockNotAvailable,
        "another transaction uses a table (a dump, a backup?): wait for its end, or end it",
    ),
)
_PREFIX = re.compile(
    r"(?:connection failed: )?"
    r"(?:connection to server [^,]*(?:, port \d+)? failed: )?"
    r"(?:[A-Z]+:\s+)?"
)
"""What psycopg and libpq put before the cause: the server, which we name ourselves."""


def of_postgres(error: BaseException, server: Mapping[str, Any] | None = None) -> str:
    """Of an error of psycopg or of the system; `server` is what was connected to."""
    for kind, words in _OF_POSTGRES:
        if isinstance(error, kind):
            return words
    known = of_system(error)
    if known is not None:
        return known + _at(server)
    text = str(error).strip().splitlines()
    # While a session is opened psycopg has no code, only the text of libpq or the server.
    cause = _PREFIX.sub("", text[0], 1) if text else type(error).__name__
    return cause[:LONGEST] + _at(server)


def _at(server: Mapping[str, Any] | None) -> str:
    if server is None:
        return ""
    host = server.get("host") or server.get("hostaddr") or "the socket"
    port = server.get("port")
    return f" (at {host}:{port})" if port else f" (at {host})"

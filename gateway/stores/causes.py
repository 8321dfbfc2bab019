"""Says in words why a store is unavailable, and what an operator can do about it.

What a driver tells by a class or by the system's error number is put into our words.  For the
rest the server's own are shown, its first line: neither PostgreSQL (`postgres_causes`) nor Redis
puts a password, or a value of a statement, into what it says first.
"""

from __future__ import annotations

import errno
import os
import socket
import sqlite3

from redis.exceptions import AuthenticationError, NoPermissionError, ReadOnlyError
from redis.exceptions import TimeoutError as RedisTimeout

NO_ANSWER = "no answer in time"
LONGEST = 200

_OF_SQLITE = {
    sqlite3.SQLITE_FULL: "the disk is full: make room",
    sqlite3.SQLITE_BUSY: "another process holds its lock",
    sqlite3.SQLITE_READONLY: "the file may not be written: look at its owner and its folder's",
    sqlite3.SQLITE_CANTOPEN: "the file cannot be opened: look at its owner and its folder's",
    sqlite3.SQLITE_IOERR: "the disk could not be read or written",
}
_MISSING_TABLE = "no such table: "


def of_redis(error: BaseException) -> str:
    if isinstance(error, RedisTimeout):
        return NO_ANSWER
    if isinstance(error, AuthenticationError):
        return f"{_first_line(error)} Look at the user and the password of GATEWAY_REDIS_URL"
    if isinstance(error, NoPermissionError):
        return f"its user may not do this: {_first_line(error)}"
    if isinstance(error, ReadOnlyError):
        return "the server is a replica: name the primary"
    within = error.__context__
    if within is not None and (words := of_system(within)) is not None:
        return words
    # What Sentinel did not find is named with the whole client in angle brackets.
    return _first_line(error).partition(" : <")[0] or type(error).__name__


def of_sqlite(error: sqlite3.Error) -> str:
    if is_missing_table(error):
        return "a table is missing: run `gateway db upgrade`"
    code = getattr(error, "sqlite_errorcode", 0)
    # The low byte is the kind, the rest its details (sqlite.org/rescode.html).
    return _OF_SQLITE.get(code & 0xFF) or getattr(error, "sqlite_errorname", "") or "no answer"


def is_missing_table(error: sqlite3.Error) -> bool:
    """SQLite has no code of its own for it; its texts are constants and in one language."""
    return str(error).startswith(_MISSING_TABLE)


def of_system(error: BaseException) -> str | None:
    if isinstance(error, socket.gaierror):
        return "the name of the host is not known: correct it, or the name server"
    if isinstance(error, TimeoutError):
        return NO_ANSWER
    if not isinstance(error, OSError) or error.errno is None:
        return None
    if error.errno == errno.ECONNREFUSED:
        return "nobody listens there: start the server, or correct the host and the port"
    return os.strerror(error.errno)


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0][:LONGEST] if lines else ""

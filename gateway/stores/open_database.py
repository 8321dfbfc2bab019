"""From a URL to a store.  Nothing is connected here: a store opens at its first use.

A worker that is replaced while a store is away must boot all the same, so a wrong
URL is the only thing that fails at once.
"""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit

from gateway.model import Clock, SystemClock
from gateway.stores.protocols import Database
from gateway.stores.sqlite import SqliteDatabase


def open_database(
    url: str,
    *,
    clock: Clock | None = None,
    pool_size: int = 10,
    folder: Path | None = None,
    create: bool = True,
) -> Database:
    """The SQL store that the URL names; ValueError, without the password, when it names none.

    `sqlite:///relative/path`, `sqlite:////absolute/path`, `postgresql://…` as libpq reads it.
    A relative path starts at `folder`, or where the process runs.  Without `create`, a SQLite
    file that is not there is a store that is away.
    """
    scheme = urlsplit(url).scheme
    if scheme == "sqlite":
        return SqliteDatabase(sqlite_path(url, folder), clock or SystemClock(), create=create)
    if scheme in ("postgresql", "postgres"):
        # Here: its driver takes 6 MB and a tenth of a start.
        from gateway.stores.postgres import PostgresDatabase, PostgresOptions

        return PostgresDatabase(PostgresOptions(url, pool_size=pool_size))
    raise ValueError(f"a database URL starts with sqlite:/// or postgresql://, not {scheme!r}")


def sqlite_path(url: str, folder: Path | None = None) -> Path:
    """The file that a `sqlite:///…` URL names."""
    prefix = "sqlite:///"
    if not url.startswith(prefix) or len(url) == len(prefix):
        raise ValueError("a SQLite URL is sqlite:///relative/path or sqlite:////absolute/path")
    return (folder or Path()) / url.removeprefix(prefix)

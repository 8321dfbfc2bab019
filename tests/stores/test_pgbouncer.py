"""Behind PgBouncer, which lends a server's session to one transaction at a time."""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import psycopg
import pytest

from gateway.stores.migrations import status, upgrade
from gateway.stores.open_database import open_database
from gateway.stores.protocols import Database
from tests.servers import Server, wait_until

PROGRAM = shutil.which("pgbouncer") or shutil.which("pgbouncer", path="/usr/sbin:/usr/local/sbin")

pytestmark = pytest.mark.skipif(
    PROGRAM is None, reason="PgBouncer is not here: apt-get install pgbouncer"
)


class PgBouncer(Server):
    def start(self, server: str, schema: str) -> None:
        parts = urlsplit(server)
        self.folder.mkdir(mode=0o755, exist_ok=True)
        settings = self.folder / "pgbouncer.ini"
        settings.write_text(
            "[databases]\n"
            f"pooled = host=127.0.0.1 port={parts.port} dbname={parts.path[1:]}"
            f" user={parts.username} connect_query='SET search_path = {schema}'\n"
            "[pgbouncer]\n"
            f"listen_addr = 127.0.0.1\nlisten_port = {self.port}\nunix_socket_dir =\n"
            "auth_type = any\npool_mode = transaction\ndefault_pool_size = 2\n"
        )
        user = "nobody" if os.geteuid() == 0 else None
        assert PROGRAM
        self._spawn([PROGRAM, str(settings)], user)
        wait_until(self._answers, 20, "PgBouncer")

    @property
    def url(self) -> str:
        return f"postgresql://anybody@127.0.0.1:{self.port}/pooled"

    def _answers(self) -> bool:
        try:
            psycopg.connect(self.url, connect_timeout=2).close()
        except psycopg.OperationalError:
            return False
        return True


@pytest.fixture
async def pooled(postgres_url: str) -> AsyncIterator[Database]:
    schema = parse_qs(urlsplit(postgres_url).query)["options"][0].partition("=")[2]
    with tempfile.TemporaryDirectory(prefix="authgate-pgbouncer-") as folder:
        Path(folder).chmod(0o755)
        bouncer = PgBouncer(Path(folder) / "run")
        bouncer.start(postgres_url, schema)
        database = open_database(bouncer.url)
        yield database
        await database.close()
        bouncer.kill()


async def test_migrations_and_transactions_work_over_two_shared_sessions(pooled: Database) -> None:
    await asyncio.gather(*(upgrade(pooled) for _ in range(5)))
    assert (await status(pooled)).pending == ()

    async def put(number: int) -> None:
        async with pooled.transaction() as tx:
            await tx.run("INSERT INTO installation VALUES (:n, 'v')", n=str(number))

    await asyncio.gather(*(put(number) for number in range(50)))
    async with pooled.read_transaction() as tx:
        assert await tx.one("SELECT count(*) AS n FROM installation") == {"n": 50}


async def test_no_setting_of_ours_is_left_in_a_shared_session(pooled: Database) -> None:
    await upgrade(pooled)
    with closing(psycopg.connect(pooled._pool._options.url)) as other:  # type: ignore[attr-defined]
        other.autocommit = True
        cursor = other.cursor()
        for _ in range(4):
            cursor.execute("SHOW statement_timeout")
            assert cursor.fetchone() == ("0",)

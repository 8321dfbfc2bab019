"""The schema that all migrations together give, as text: `db/schema.sql`.

`python -m gateway.stores.schema_dump > db/schema.sql` writes it anew.
"""

from __future__ import annotations

import sqlite3
import sys

from gateway.stores.migrations import shipped

_HEAD = """\
-- Made of gateway/stores/schema by `python -m gateway.stores.schema_dump`: do not edit.
-- SQLite's spelling; PostgreSQL's differs in the indexes of 0017_console.sql alone.
"""


def schema_text() -> str:
    """Every table and index, in the order in which they came to be."""
    database = sqlite3.connect(":memory:")
    try:
        for migration in shipped():
            for statement in migration.statements():
                database.execute(statement)
        rows = database.execute(
            "SELECT sql FROM sqlite_master WHERE sql IS NOT NULL ORDER BY rowid"
        ).fetchall()
    finally:
        database.close()
    return _HEAD + "".join(f"\n{sql};\n" for (sql,) in rows)


if __name__ == "__main__":
    sys.stdout.write(schema_text())

"""What is too old goes, and an edit of what stays is found as before."""

from __future__ import annotations

import hashlib
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from gateway.audit.chain import ChainKey, heads, milliseconds
from gateway.audit.log import AuditEvent, AuditKind, AuditLog, newest
from gateway.audit.pruning import prune, pruner_name, retained_since_s
from gateway.audit.verification import verify
from gateway.stores.protocols import Database, StoreUnavailable
from tests.databases import Hands, fresh_database

DAY_S = 86_400
PSEUDONYM_KEY, CHAIN_KEY = b"a" * 32, b"c" * 32
KEY = ChainKey(CHAIN_KEY)
LONG, YOUNG = KEY.writer("long"), KEY.writer("young")


@pytest.fixture
def clock() -> Hands:
    return Hands()


@pytest.fixture
async def database(tmp_path: Path, clock: Hands) -> AsyncIterator[Database]:
    async with fresh_database(tmp_path, clock) as opened:
        yield opened


def writer(database: Database, clock: Hands, name: str, **more: Any) -> AuditLog:
    return AuditLog(database, clock, PSEUDONYM_KEY, CHAIN_KEY, writer=name, **more)


async def tell(audit: AuditLog, count: int) -> AuditLog:
    for number in range(count):
        audit.record(AuditEvent(AuditKind.SIGNED_IN, subject=f"s{number}"))
    await audit.flush()
    return audit


async def pruned(database: Database, clock: Hands, days: float) -> int:
    name = pruner_name()
    return await prune(database, writer(database, clock, name), clock.now() - days * DAY_S)


async def positions(database: Database, name: str) -> list[int]:
    async with database.read_transaction() as tx:
        rows = await tx.all(
            "SELECT position FROM audit_events WHERE writer = :w ORDER BY position",
            w=KEY.writer(name),
        )
    return [int(row["position"]) for row in rows]


async def change(database: Database, sql: str) -> None:
    async with database.transaction() as tx:
        await tx.run(sql)


@pytest.fixture
async def aged(database: Database, clock: Hands) -> AuditLog:
    """`gone` is over, `long` has gone on since, `young` began lately."""
    await tell(writer(database, clock, "gone"), 3)
    clock.move(5)
    long = await tell(writer(database, clock, "long"), 3)
    clock.move(10 * DAY_S)
    await tell(long, 2)
    await tell(writer(database, clock, "young"), 2)
    return long


async def test_what_is_too_old_goes_and_the_rest_verifies(
    aged: AuditLog, database: Database, clock: Hands
) -> None:
    assert await pruned(database, clock, 5) == 4 + 3
    assert await positions(database, "gone") == []
    # The first row tells of the chains before it, and stays as long as younger ones do.
    assert await positions(database, "long") == [1, 5, 6]
    assert await positions(database, "young") == [1, 2, 3]
    found = await verify(database, [KEY])
    assert found.problems == ()
    assert found.pruned_before is not None


async def test_nothing_young_is_touched_and_nothing_noted_where_nothing_is_old(
    aged: AuditLog, database: Database, clock: Hands
) -> None:
    assert await pruned(database, clock, 400) == 0
    assert (await verify(database, [KEY])).pruned_before is None
    async with database.read_transaction() as tx:
        assert all(event["event"] != "pruned" for event in await newest(tx, 100))


async def test_a_chain_goes_on_behind_its_cut_and_is_cut_again(
    aged: AuditLog, database: Database, clock: Hands
) -> None:
    await pruned(database, clock, 5)
    for _ in range(3):
        clock.move(4 * DAY_S)
        await tell(aged, 2)
        await pruned(database, clock, 5)
        assert (await verify(database, [KEY])).problems == ()
    assert (await positions(database, "long"))[0] == 1
    assert len(await positions(database, "long")) < 8


async def test_heads_that_were_known_before_are_no_false_alarm(
    aged: AuditLog, database: Database, clock: Hands
) -> None:
    async with database.read_transaction() as tx:
        known = tuple(await heads(tx, 32))
    for days in (5, 5, 1):
        await pruned(database, clock, days)
        clock.move(DAY_S)
        await tell(aged, 1)
    assert (await verify(database, [KEY], known)).problems == ()


async def test_the_notes_of_a_pruning_are_pruned_too_and_what_is_needed_is_carried_on(
    aged: AuditLog, database: Database, clock: Hands
) -> None:
    for _ in range(8):
        await pruned(database, clock, 5)
        clock.move(3 * DAY_S)
        await tell(aged, 1)
        assert (await verify(database, [KEY])).problems == ()
    async with database.read_transaction() as tx:
        pruners = await tx.all(
            "SELECT DISTINCT writer FROM audit_events WHERE writer LIKE :p", p="prune-%"
        )
    assert len(pruners) < 5


@pytest.mark.parametrize(
    ("sql", "problem"),
    [
        (f"DELETE FROM audit_events WHERE writer = '{LONG}' AND position = 5", "after 4 are missing"),
        (f"DELETE FROM audit_events WHERE writer = '{YOUNG}' AND position = 2", "after 1 are missing"),
        (f"DELETE FROM audit_events WHERE writer = '{YOUNG}'", f"{YOUNG}:3: missing"),
        ("UPDATE audit_events SET line = REPLACE(line, 's1', 's9')"
         f" WHERE writer = '{LONG}' AND position = 6", f"{LONG}:6: the row was changed"),
    ],
)  # fmt: skip
async def test_a_hand_that_helps_itself_besides_is_found(
    aged: AuditLog, database: Database, clock: Hands, sql: str, problem: str
) -> None:
    await pruned(database, clock, 5)
    clock.move(60)
    await tell(writer(database, clock, "later"), 1)
    await change(database, sql)
    assert any(problem in found for found in (await verify(database, [KEY])).problems)


async def test_a_pruning_that_was_cut_short_is_no_false_alarm_and_is_finished(
    aged: AuditLog, database: Database, clock: Hands
) -> None:
    async with database.read_transaction() as tx:
        rows = await tx.all("SELECT * FROM audit_events")
    await pruned(database, clock, 5)
    # As when the process died between its note and the last of its deletions.
    back = [dict(row) for row in rows if row["writer"] != YOUNG and row["position"] in (3, 4)]
    async with database.transaction() as tx:
        await tx.many(
            "INSERT INTO audit_events (writer, position, at_ms, line, hash)"
            " VALUES (:writer, :position, :at_ms, :line, :hash)",
            back,
        )
    assert (await verify(database, [KEY])).problems == ()
    await pruned(database, clock, 5)
    assert await positions(database, "long") == [1, 5, 6]
    assert await positions(database, "gone") == []
    assert (await verify(database, [KEY])).problems == ()


async def test_a_node_whose_clock_is_years_ahead_takes_nothing_that_is_young(
    aged: AuditLog, database: Database, clock: Hands
) -> None:
    ahead = Hands(clock.at + 3_650 * DAY_S)
    before_s = await retained_since_s(database, ahead, 400 * DAY_S)
    assert await prune(database, writer(database, clock, pruner_name()), before_s) == 0
    behind = Hands(clock.at - 3_650 * DAY_S)
    assert await retained_since_s(database, behind, 0) == behind.at


async def test_nothing_goes_that_could_not_be_noted(
    aged: AuditLog, database: Database, clock: Hands
) -> None:
    full = writer(database, clock, pruner_name(), queue=0)
    with pytest.raises(StoreUnavailable):
        await prune(database, full, clock.now() - 5 * DAY_S)
    assert await positions(database, "long") == [1, 2, 3, 4, 5, 6]


async def put(database: Database, writer_name: str, position: int, line: str, hash_: str) -> None:
    """A row, as somebody makes it who can write the database and has no key."""
    row = {
        "writer": writer_name,
        "position": position,
        "at_ms": milliseconds(json.loads(line)["at"]),
        "line": line,
        "hash": hash_,
    }
    async with database.transaction() as tx:
        await tx.many(
            "INSERT INTO audit_events (writer, position, at_ms, line, hash)"
            " VALUES (:writer, :position, :at_ms, :line, :hash)",
            [row],
        )


def event_line(at_s: float, event: str, **detail: object) -> str:
    at = datetime.fromtimestamp(at_s, UTC).isoformat(timespec="milliseconds")
    return json.dumps(
        {"at": at, "event": event, "result": "ok", "detail": detail}, separators=(",", ":")
    )


@pytest.mark.parametrize(("position", "days_ago"), [(3, 0), (3, 20), (4, 0), (4, 20)])
async def test_no_row_can_be_put_where_rows_were_pruned(
    aged: AuditLog, database: Database, clock: Hands, position: int, days_ago: int
) -> None:
    """Neither one of today, nor one as old as those that went that is no rest of a pruning."""
    async with database.read_transaction() as tx:
        (last,) = await tx.all(
            "SELECT hash FROM audit_events WHERE writer = :w AND position = 4", w=LONG
        )
    await pruned(database, clock, 5)
    line = event_line(clock.now() - days_ago * DAY_S, "role_changed", role="admin")
    await put(database, LONG, position, line, last["hash"])
    found = (await verify(database, [KEY])).problems
    if (position, days_ago) == (4, 20):
        # Nothing tells it from the last row of a pruning that was cut short; the next takes it.
        assert found == ()
        await pruned(database, clock, 5)
        assert await positions(database, "long") == [1, 5, 6]
    else:
        assert found != ()


async def test_a_restore_that_is_put_where_rows_were_pruned_explains_nothing(
    aged: AuditLog, database: Database, clock: Hands
) -> None:
    async with database.read_transaction() as tx:
        known = tuple(await heads(tx, 32))
        (last,) = await tx.all(
            "SELECT hash FROM audit_events WHERE writer = :w AND position = 4", w=LONG
        )
    await pruned(database, clock, 5)
    now_ms = int(clock.now() * 1000)
    times = {"backup_at_ms": now_ms - 1, "restored_at_ms": now_ms, "lost_rows": True}
    line = event_line(clock.now() - 20 * DAY_S, "restored", **times)
    await put(database, LONG, 4, line, last["hash"])
    await change(database, f"DELETE FROM audit_events WHERE writer = '{YOUNG}'")
    found = await verify(database, [KEY], known)
    assert any(f"{YOUNG}:3: missing" in problem for problem in found.problems)


async def test_a_pruning_that_is_put_where_rows_were_pruned_hides_nothing(
    aged: AuditLog, database: Database, clock: Hands
) -> None:
    """The chains of the prunings are pruned themselves."""
    await pruned(database, clock, 5)
    clock.move(10 * DAY_S)
    await tell(aged, 3)
    async with database.read_transaction() as tx:
        (pruner,) = await tx.all(
            "SELECT writer, hash FROM audit_events WHERE writer LIKE 'prune-%' AND position = 2"
        )
        (first,) = await tx.all(
            "SELECT line, hash FROM audit_events WHERE writer = :w AND position = 1",
            w=pruner["writer"],
        )
        (taken,) = await tx.all(
            "SELECT hash FROM audit_events WHERE writer = :w AND position = 8", w=LONG
        )
    await pruned(database, clock, 5)
    cut = f"{LONG}:8:{taken['hash']}"
    at_s = clock.now() - 20 * DAY_S
    line = event_line(at_s, "pruned", before="2027-01-10T00:00:00+00:00", cuts=[cut])
    await put(database, pruner["writer"], 1, first["line"], first["hash"])
    await put(database, pruner["writer"], 2, line, pruner["hash"])
    await change(database, f"DELETE FROM audit_events WHERE writer = '{LONG}' AND position = 8")
    found = await verify(database, [KEY])
    assert any(f"{LONG}:9: the rows after 7 are missing" in one for one in found.problems)


def _forged(text_key: bytes | None, name: str, line: str) -> dict[str, object]:
    """The first row of a chain, as somebody makes it who can write the database."""
    if text_key is None:
        joined = b"".join(
            len(part).to_bytes(8, "big") + part
            for part in (b"0" * 64, name.encode(), b"1", line.encode())
        )
        digest = hashlib.sha256(joined).hexdigest()
    else:
        name = name if "." in name else ChainKey(text_key).writer(name)
        digest = ChainKey(text_key).chained("0" * 64, name, 1, line)
    at_ms = milliseconds(json.loads(line)["at"])
    return {"writer": name, "position": 1, "at_ms": at_ms, "line": line, "hash": digest}


@pytest.mark.parametrize(
    ("key", "name"),
    [
        (None, "prune-0123456789abcdef"),
        (None, KEY.writer("prune-0123456789abcdef")),
        (b"x" * 32, "prune-0123456789abcdef"),
        (b"x" * 32, KEY.writer("prune-0123456789abcdef")),
    ],
    ids=["a plain hash", "a plain hash, our name", "a key of one's own", "and our name"],
)
@pytest.mark.parametrize("at", ["2027-01-15T08:00:00.000+00:00", "2001-01-15T08:00:00.000+00:00"])
async def test_a_made_up_pruning_hides_no_row_that_somebody_took(
    aged: AuditLog, database: Database, clock: Hands, key: bytes | None, name: str, at: str
) -> None:
    await tell(writer(database, clock, "later"), 1)
    async with database.read_transaction() as tx:
        (taken,) = await tx.all(
            "SELECT hash FROM audit_events WHERE writer = :w AND position = 3", w=LONG
        )
    cut = f"{LONG}:3:{taken['hash']}"
    line = json.dumps(
        {"at": at, "event": "pruned", "result": "ok", "detail": {"before": at, "cuts": [cut]}},
        separators=(",", ":"),
    )
    async with database.transaction() as tx:
        await tx.run("DELETE FROM audit_events WHERE writer = :w AND position IN (2, 3)", w=LONG)
        await tx.many(
            "INSERT INTO audit_events (writer, position, at_ms, line, hash)"
            " VALUES (:writer, :position, :at_ms, :line, :hash)",
            [_forged(key, name, line)],
        )
    assert (await verify(database, [KEY])).problems != ()


async def test_a_chain_of_before_there_was_a_key_is_a_note_and_no_alarm(
    database: Database, clock: Hands
) -> None:
    line = '{"at":"2001-01-15T08:00:00.000+00:00","event":"signed_in","result":"ok"}'
    async with database.transaction() as tx:
        await tx.many(
            "INSERT INTO audit_events (writer, position, at_ms, line, hash)"
            " VALUES (:writer, :position, :at_ms, :line, :hash)",
            [_forged(None, "0123456789abcdef", line)],
        )
    await tell(writer(database, clock, "young"), 1)
    found = await verify(database, [KEY])
    assert found.problems == ()
    assert "before there was a key" in found.notes[0]


async def test_a_key_of_before_a_reseal_still_verifies_its_chains(
    aged: AuditLog, database: Database, clock: Hands
) -> None:
    await tell(AuditLog(database, clock, PSEUDONYM_KEY, b"n" * 32), 1)
    now = ChainKey(b"n" * 32)
    assert (await verify(database, [now, KEY])).problems == ()
    assert any("unknown here" in problem for problem in (await verify(database, [now])).problems)


async def test_a_pruning_puts_its_name_to_no_cut_that_somebody_made_up(
    aged: AuditLog, database: Database, clock: Hands
) -> None:
    async with database.read_transaction() as tx:
        (taken,) = await tx.all(
            "SELECT hash FROM audit_events WHERE writer = :w AND position = 2", w=YOUNG
        )
    at, name = "2001-01-15T08:00:00.000+00:00", KEY.writer("prune-0123456789abcdef")
    told = {"before": at, "cuts": [f"{YOUNG}:2:{taken['hash']}"]}
    line = json.dumps({"at": at, "event": "pruned", "result": "ok", "detail": told})
    async with database.transaction() as tx:
        await tx.run("DELETE FROM audit_events WHERE writer = :w AND position = 2", w=YOUNG)
        await tx.many(
            "INSERT INTO audit_events (writer, position, at_ms, line, hash)"
            " VALUES (:writer, :position, :at_ms, :line, :hash)",
            [_forged(b"x" * 32, name, line)],
        )
    assert await pruned(database, clock, 5) > 0
    await change(database, f"DELETE FROM audit_events WHERE writer = '{name}'")
    assert (await verify(database, [KEY])).problems != ()


async def test_a_row_whose_time_was_moved_back_is_not_pruned_for_it(
    aged: AuditLog, database: Database, clock: Hands
) -> None:
    await change(
        database, f"UPDATE audit_events SET at_ms = 1 WHERE writer = '{YOUNG}' AND position < 3"
    )
    await pruned(database, clock, 5)
    assert await positions(database, "young") == [1, 2, 3]
    assert (await verify(database, [KEY])).problems != ()


@pytest.mark.parametrize(
    "line",
    ["no JSON", "[]", "{}", '{"event":"pruned","detail":[]}', '{"event":"pruned","detail":{"cuts":["a"]}}',
     '{"event":"restored","detail":{"lost_rows":true}}'],
)  # fmt: skip
async def test_whatever_somebody_puts_into_a_row_is_a_problem_and_no_failure(
    aged: AuditLog, database: Database, clock: Hands, line: str
) -> None:
    names = ("prune-0123456789abcdef", KEY.writer("prune-0123456789abcdef"), "0123456789abcdef")
    forged = []
    for name in names:
        digest = _forged(None, name, '{"at":"2001-01-15T08:00:00.000+00:00"}')
        forged.append({**digest, "line": line})
    async with database.transaction() as tx:
        await tx.many(
            "INSERT INTO audit_events (writer, position, at_ms, line, hash)"
            " VALUES (:writer, :position, :at_ms, :line, :hash)",
            forged,
        )
    assert len((await verify(database, [KEY])).problems) >= len(names)
    await pruned(database, clock, 5)

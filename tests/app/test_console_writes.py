"""Every action of the console, as a worker has it, by somebody who is signed in no more."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from gateway.app.bootstrap import BootstrapContext, initialize
from gateway.app.components import Components, build_components
from gateway.app.console import build_console
from gateway.app.data_dir import DataFolder
from gateway.app.settings import load
from gateway.app.status import WorkerStatus
from gateway.app.worker import App
from gateway.audit.log import AuditKind, newest
from gateway.audit.operator_events import operator_event
from gateway.cli.context import existing_database
from gateway.config.files import Files
from gateway.config.watcher import ConfigWatcher, LastKnownGood
from gateway.edge.console.operator_database import OperatorGone, acting_as
from gateway.edge.console.operators import ALL_PERMISSIONS
from gateway.edge.console.pages import (
    Acted,
    ConsoleRequest,
    NotDone,
    NotFound,
    Operator,
    PageRegistry,
)
from gateway.identity.accounts.account_rows import Account
from gateway.identity.accounts.accounts import Accounts
from gateway.identity.accounts.invitations import Invitations, InvitationTerms, NewInvitation
from gateway.identity.clients.api_keys import ApiKeys
from gateway.identity.clients.clients import Clients
from gateway.identity.clients.personal_keys import KeyLimits, NewPersonalKey, PersonalKeys
from gateway.identity.sessions.sessions import SIGN_OUT, end_one
from gateway.identity.sign_in.refresh_tokens import SessionGrant
from gateway.identity.sign_in.throttle import account_counters
from gateway.stores.attempts import RedisAttempts
from gateway.stores.backup import tables
from gateway.stores.protocols import Attempt
from tests.identity.begun_sessions import began, caller_of, run
from tests.identity.presented import call_with
from tests.servers import ValkeyServer

USER, CLIENT = "/admin/users/{id}", "/admin/clients/{id}"
TURN = "operators.turn"

ACTIONS: dict[tuple[str, str], Mapping[str, str]] = {
    ("/admin/users", "invite"): {"email": "eve@example.com"},
    (USER, "grant"): {"role": "pay"},
    (USER, "revoke"): {"role": "viewer"},
    (USER, "unlock"): {},
    (USER, "end-session"): {"session": "{session}"},
    (USER, "end-key"): {"key": "{personal_key}"},
    (USER, "reset-factors"): {},
    ("/admin/sessions", "end"): {"session": "{other_session}"},
    (USER, "end-all"): {},
    (USER, "disable"): {},
    (USER, "enable"): {},
    ("/admin/clients", "create"): {"name": "another"},
    (CLIENT, "rotate"): {},
    (CLIENT, "make-key"): {},
    (CLIENT, "end-key"): {"key": "{api_key}"},
    (CLIENT, "revoke"): {},
    (CLIENT, "delete"): {"name": "billing"},
    ("/admin/keys", "rotate"): {},
    ("/admin/keys", "revoke"): {"kid": "{kid}", "confirm-kid": "{kid}"},
    ("/admin/mail", "send"): {"mail": "{mail}"},
    ("/admin/mail", "drop"): {"mail": "{mail}"},
    ("/admin/audit", "check"): {},
}
"""Each with a form by which it does something, one after the other."""

WRITES_NOTHING = {("/admin/issuers", "check"), ("/admin/playground", "try")}


@dataclass
class Worker:
    components: Components
    pages: PageRegistry
    operator: SessionGrant
    names: Mapping[str, str]
    """What the forms name."""
    attempt: Attempt

    async def act(self, path: str, do: str) -> Acted | NotDone | NotFound:
        [action] = [page.actions[do] for page in self.pages.every if page.path == path]
        form = {name: value.format(**self.names) for name, value in ACTIONS[path, do].items()}
        grant = self.operator
        operator = Operator(grant.account.id, "op", ALL_PERMISSIONS, caller=caller_of(grant))
        parameters = {"id": self.names["client" if path == CLIENT else "account"]}
        request = ConsoleRequest(call_with(None), operator, "r" * 32, parameters, form)
        with acting_as(operator):
            return await action.act(request)

    async def written(self) -> Mapping[str, object]:
        """Whatever an action may change."""
        async with self.components.database.read_transaction() as tx:
            rows = {table.name: await tx.all(f"SELECT * FROM {table.name}") for table in tables()}
        rows["installation"] = [one for one in rows["installation"] if one["name"] != TURN]
        attempts = RedisAttempts(self.components.redis)
        counted = await attempts.keys_under(self.attempt.key)
        return {**{name: json.dumps(every) for name, every in rows.items()}, "attempts": counted}


@pytest.fixture
async def plan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[BootstrapContext]:
    """Of an installation that is there."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "policies").mkdir()
    (tmp_path / "routes.yaml").write_text("version: 1\nroutes: []\n")
    folder = DataFolder(tmp_path / "data")
    folder.make()
    settings = load(
        {"GATEWAY_DATA_DIR": str(folder.path), "GATEWAY_SIGNING_ALG": "ES256"}, env_file=None
    )
    files = Files(tmp_path / "routes.yaml", tmp_path / "policies")
    watcher = ConfigWatcher(files, LastKnownGood(folder.last_good))
    watcher.load()
    valkey = ValkeyServer(tmp_path / "valkey").start()
    made = BootstrapContext(settings, folder, watcher, redis_url=valkey.url)
    await asyncio.to_thread(initialize, made)
    yield made
    valkey.kill()


@pytest.fixture
async def worker(plan: BootstrapContext) -> AsyncIterator[Worker]:
    components = build_components(plan)
    status = WorkerStatus(components, ready=lambda: True, draining=lambda: False)
    parts = build_console(components, status)
    assert parts is not None
    database, attempts = components.database, RedisAttempts(components.redis)
    ada = await Accounts(database).register("ada@example.com", "hash", roles=["viewer"])
    boss = await Accounts(database).register("boss@example.com", "hash", roles=["admin"])
    assert isinstance(ada, Account)
    assert isinstance(boss, Account)
    grant, other = [await began(components.refresh_tokens, ada) for _ in range(2)]
    personal = await PersonalKeys(database).create(caller_of(grant), "laptop", KeyLimits(), 900)
    client = await Clients(database).create("billing", ["reader"])
    assert client is not None
    api_key = await ApiKeys(database).create(client.client_id)
    terms = InvitationTerms([], 900, by_mail=True, verified=False, invited_by="op")
    invited = await Invitations(database).invite("bob@example.com", terms)
    assert isinstance(invited, NewInvitation)
    assert isinstance(personal, NewPersonalKey)
    assert api_key is not None
    await run(database, "UPDATE outbox SET due_at = due_at + 900")
    attempt = Attempt(account_counters("ada@example.com", 0)[0], 5, 900)
    await attempts.reserve([attempt], "m")
    names = {
        "account": ada.id,
        "session": grant.session_id,
        "other_session": other.session_id,
        "personal_key": personal.key.id,
        "client": client.client_id,
        "api_key": api_key.id,
        "mail": invited.invitation.mail_id or "",
        "kid": (await components.key_rotation.listing())[0].kid,
    }
    operator = await began(components.refresh_tokens, boss)
    yield Worker(components, parts.pages, operator, names, attempt)
    await components.tasks.stop()
    await components.sql_watch.close()
    await components.redis.close()
    await components.database.close()


async def test_each_action_of_the_console_is_tried_here(worker: Worker) -> None:
    every = {
        (page.path, do): action.writes
        for page in worker.pages.every
        for do, action in page.actions.items()
    }
    assert every == dict.fromkeys(ACTIONS, True) | dict.fromkeys(WRITES_NOTHING, False)


async def test_who_is_signed_out_writes_nothing_by_any_action(worker: Worker) -> None:
    async with worker.components.database.transaction() as tx:
        await end_one(tx, worker.operator.session_id, SIGN_OUT)
    before = await worker.written()
    for path, do in ACTIONS:
        with pytest.raises(OperatorGone):
            await worker.act(path, do)
        assert await worker.written() == before, (path, do)


async def test_who_is_signed_in_writes_by_each(worker: Worker) -> None:
    for path, do in ACTIONS:
        before = await worker.written()
        assert isinstance(await worker.act(path, do), Acted), (path, do)
        assert await worker.written() != before, (path, do)


async def test_a_worker_that_stops_waits_for_what_operators_have_begun(
    plan: BootstrapContext,
) -> None:
    app, go_on = App(plan), asyncio.Event()
    parts = app.components

    async def act() -> None:
        await go_on.wait()
        await Clients(parts.database).create("billing")
        parts.audit.record(operator_event(AuditKind.CLIENT_CHANGED, None, "created"))

    acting = asyncio.ensure_future(parts.operator_writes(act()))
    await asyncio.sleep(0)
    acting.cancel()  # whoever asked has gone
    stopping = asyncio.ensure_future(app.stop())
    done, _ = await asyncio.wait([stopping], timeout=0.1)
    assert not done
    go_on.set()
    await stopping
    database = existing_database(plan.settings, parts.clock)
    async with database.read_transaction() as tx:
        events = await newest(tx, 10)
    await database.close()
    assert [event["detail"].get("change") for event in events][-1] == "created"

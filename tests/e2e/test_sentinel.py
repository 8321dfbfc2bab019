"""A gateway whose Redis fails over under it: the primary is killed, Sentinel names another."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.contract.running import Running, started
from tests.e2e.processes import until, workers
from tests.servers import SentinelServer, ValkeyServer, wait_until

pytestmark = pytest.mark.slow


@dataclass
class Town:
    """A gateway of two workers, and what it has answered to those who signed out."""

    gateway: Running
    primary: ValkeyServer
    promised: list[str] = field(default_factory=list)
    """Tokens whose sign-out was answered 204."""
    pending: list[str] = field(default_factory=list)

    def sign_out(self) -> bool:
        """Somebody signs in and out; whether it was promised that this holds.  Whoever was
        promised so is at once tried on both workers."""
        token = self.gateway.sign_in("leaving@example.com")["access_token"]
        answer = self.gateway.call("POST", "/auth/logout", token=token)
        if answer.status == 204:
            self.promised.append(token)
        else:
            assert (answer.status, answer.reason) == (503, "revocation_pending")
            self.pending.append(token)
        self.expect_promises_kept()
        return answer.status == 204

    def expect_promises_kept(self) -> None:
        for token in self.promised:
            assert self.reasons(token) <= {"token_revoked", "replica_stale"}

    def reasons(self, token: str) -> set[str | None]:
        """Why the workers refuse it; None stands for one that lets it pass."""
        answers = [self.gateway.call("GET", "/me", token=token) for _ in range(6)]
        return {None if answer.status == 200 else answer.reason for answer in answers}


@pytest.fixture
def town(tmp_path: Path) -> Iterator[Town]:
    with ExitStack() as stack:

        def valkey(name: str, **options: str) -> ValkeyServer:
            server = ValkeyServer(tmp_path / name, None, **options)
            stack.callback(server.kill)
            return server.start()

        primary = valkey("primary")
        # Two, so that the one that takes over has one of its own: without any it confirms nothing.
        for name in ("replica", "another"):
            valkey(name, replicaof=f"127.0.0.1 {primary.port}")
        sentinel = SentinelServer(tmp_path / "sentinel", primary.port)
        stack.callback(sentinel.kill)
        sentinel.start()
        wait_until(lambda: sentinel.knows(replicas=2), 20, "Sentinel to see the replicas")
        settings = {
            "GATEWAY_REDIS_URL": f"redis+sentinel://127.0.0.1:{sentinel.port}/main",
            "GATEWAY_MAX_STALENESS_S": "2",
        }
        gateway = stack.enter_context(started(tmp_path / "g", "--workers", "2", **settings))
        until(lambda: len(workers(gateway)) == 2, 20)
        yield Town(gateway, primary)


def test_a_primary_that_is_killed_lets_nobody_in_again_and_sign_outs_hold_on_the_next(
    town: Town,
) -> None:
    one = town.gateway
    before = sorted(workers(one))
    live = one.sign_in("live@example.com")["access_token"]
    assert all(town.sign_out() for _ in range(3))
    town.primary.kill()
    assert not town.sign_out()
    assert one.call("GET", "/public/x").status == 200
    until(town.sign_out, 30)
    until(lambda: town.reasons(live) == {None}, 10)
    # Those that were answered 503 meanwhile are relayed by the workers themselves.
    for token in town.pending:
        until(lambda token=token: town.reasons(token) == {"token_revoked"}, 10)  # type: ignore[misc]
    # It comes back with the memory that it had, and takes itself for the primary.
    town.primary.start()
    until(town.sign_out, 30)
    assert {reason for token in town.promised for reason in town.reasons(token)} == {
        "token_revoked"
    }
    assert sorted(workers(one)) == before

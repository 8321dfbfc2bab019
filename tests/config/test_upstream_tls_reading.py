"""`tls` of an upstream, as it is read from `routes.yaml`."""

from __future__ import annotations

import pytest

from gateway.access.definitions import Tls
from gateway.access.snapshot import Snapshot
from gateway.config.compile import Sources, compile_snapshot


def compiled(tls: str, target: str = "https://orders:8443") -> Snapshot | list[str]:
    text = f'version: 1\nupstreams:\n  orders: {{targets: ["{target}"], tls: {tls}}}\nroutes: []\n'
    made = compile_snapshot(Sources(("routes.yaml", text), ()))
    return made if isinstance(made, Snapshot) else [problem.text for problem in made]


def test_the_files_of_an_upstream_are_read() -> None:
    made = compiled("{ca: /etc/ca.pem, certificate: /etc/me.pem, key: /etc/me.key}")
    assert isinstance(made, Snapshot)
    assert made.upstreams["orders"].tls == Tls("/etc/ca.pem", "/etc/me.pem", "/etc/me.key")


@pytest.mark.parametrize(
    ("tls", "says"),
    [
        ("{ca: ca.pem}", "whole path"),
        ("{key: /etc/me.key}", "certificate"),
        ("{verify: false}", "verify"),
    ],
)
def test_what_cannot_be_meant_is_a_problem(tls: str, says: str) -> None:
    made = compiled(tls)
    assert isinstance(made, list)
    assert any(says in problem for problem in made)


def test_tls_beside_plain_targets_is_a_problem() -> None:
    made = compiled("{ca: /etc/ca.pem}", "http://orders:8080")
    assert isinstance(made, list)
    assert "https" in made[0]

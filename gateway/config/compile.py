"""One configuration, compiled whole: YAML texts in, a Snapshot or every problem out."""

from __future__ import annotations

import hashlib
import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass

from gateway.access.barring_roles import barring_roles
from gateway.access.conditions.conditions import ConditionCompiler
from gateway.access.conditions.engine_types import EngineTypes
from gateway.access.console import admin_policy
from gateway.access.policies import SIGNED_IN, Policy, signed_in_policy
from gateway.access.routing.own_paths import OwnPaths
from gateway.access.snapshot import Snapshot
from gateway.access.suggestions import suggestion
from gateway.config.attributes import read_attributes, read_tenants
from gateway.config.factor_rule import read_factor_rule
from gateway.config.identity_headers import IdentityReader
from gateway.config.issuer_warnings import issuer_notices
from gateway.config.issuers import IssuerReader
from gateway.config.policies import read_policies
from gateway.config.providers import ProviderReader
from gateway.config.resource_server import read_resources
from gateway.config.route_options import Names, cors_named
from gateway.config.routes import RouteReader
from gateway.config.secrets import SecretFiles, SecretSource
from gateway.config.session import read_shared_hosts
from gateway.config.upstreams import read_cors, read_limits, read_upstreams
from gateway.config.warnings import notices
from gateway.config.written_names import written_names
from gateway.config.yaml_reader import Node, Reader, check_version
from gateway.model import ConfigProblem

TOP_KEYS = (
    "version", "auth", "session", "console", "decision_api", "issuers", "providers", "attributes",
    "tenants", "require_factor", "defaults", "upstreams", "limits", "cors", "routes",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Sources:
    """The texts of a configuration, each with the name that problems and locations show.

    `routes` is `("routes.yaml", text)`.  `policies` holds every `*.yaml` below the policy
    folder, folders included, `tests/` excluded, names as they are shown
    (`policies/orders.yaml`, `policies/shop/orders.yaml`, `policies/data/teams.yaml`), sorted.
    `policies_root` is the folder's shown name (`policies`).
    """

    routes: tuple[str, str]
    policies: tuple[tuple[str, str], ...] = ()
    policies_root: str = "policies"

    @property
    def version(self) -> str:
        """12 hex digits that name exactly these texts, wherever the folder lies."""
        digest = hashlib.sha256()
        root = self.policies_root.rstrip("/") + "/"
        named = [("", self.routes[1])]
        named += [(name.removeprefix(root), text) for name, text in sorted(self.policies)]
        for pair in named:
            for part in pair:
                data = part.encode()
                digest.update(len(data).to_bytes(8, "big") + data)
        return digest.hexdigest()[:12]


def compile_snapshot(
    sources: Sources,
    own_paths: OwnPaths | None = None,
    secrets: SecretSource | None = None,
    own_issuer: str = "",
) -> Snapshot | list[ConfigProblem]:
    """The whole configuration, or every problem in it, ordered by location.

    `own_paths` are those of the gateway's settings; without them, the default ones.  Without
    `secrets` there are none.  `own_issuer` is the `iss` of our own tokens, which no other issuer
    may have.
    """
    problems: list[ConfigProblem] = []
    name, text = sources.routes
    reader = Reader(name, problems)
    root = reader.document(text)
    fields = reader.block(root, "the configuration", TOP_KEYS) if root is not None else {}
    if root is not None:
        check_version(reader, root, fields)
    types = EngineTypes()
    attributes = read_attributes(reader, fields.get("attributes"))
    tenants = read_tenants(reader, fields.get("tenants"))
    factor_rule = read_factor_rule(reader, fields.get("require_factor"))
    compiler = ConditionCompiler(types=types, attributes=attributes)
    secrets = secrets or SecretFiles()
    issuers = IssuerReader(reader, secrets, types, own_issuer).read(fields.get("issuers"))
    providers = ProviderReader(reader, secrets, types, attributes).read(fields.get("providers"))
    limits = read_limits(reader, fields.get("limits"), compiler)
    cors = read_cors(reader, fields.get("cors"))
    files = read_policies(sources.policies, sources.policies_root, limits, compiler, problems)
    policies = {SIGNED_IN: signed_in_policy(), **files.policies}
    identity = IdentityReader(reader, compiler, files.data, attributes)
    upstreams = read_upstreams(reader, fields.get("upstreams"), identity)
    names = Names(upstreams, limits, cors, policies, secrets, issuers)
    written = written_names(fields, policies.values())
    routes = RouteReader(reader, names, own_paths or OwnPaths(), written, identity)
    routes.defaults(fields.get("defaults"))
    table = routes.routes(fields.get("routes"))
    auth = reader.block(fields.get("auth"), "`auth`", ("cors",))
    auth_cors = cors_named(reader, reader.text(auth.get("cors"), "`cors`"), auth.get("cors"), cors)
    shared_hosts = read_shared_hosts(reader, fields.get("session"), table)
    resources = read_resources(reader, table)
    console_policy = _console_policy(reader, fields.get("console"), policies)
    peers = _trusted_peers(reader, fields.get("decision_api"))
    if problems:
        return sorted(set(problems))
    console = {console_policy or admin_policy()}
    return Snapshot(
        version=sources.version,
        routes=table,
        policies=policies,
        upstreams=upstreams,
        issuers=issuers,
        attributes=attributes,
        tenants=tenants,
        factor_rule=factor_rule,
        barring_roles=barring_roles({route.policy for route in table if route.policy} | console),
        providers=providers,
        resources=resources,
        limits=limits,
        cors=cors,
        auth_cors=auth_cors,
        shared_hosts=shared_hosts,
        sign_in_page=routes.default_sign_in_page,
        console_policy=console_policy,
        trusted_peers=peers,
        reads_bodies=any(route.reads_body for route in table),
        notices=(*notices(table, policies, attributes), *issuer_notices(table, issuers)),
        data_locations=files.data_locations,
    )


def _console_policy(
    reader: Reader, node: Node | None, policies: Mapping[str, Policy]
) -> Policy | None:
    fields = reader.block(node, "`console`", ("policy",))
    if node is None:
        return None
    name = reader.text(fields.get("policy"), "`policy`")
    if name is None:
        reader.error(
            node, "`console` needs `policy:`, a policy that judges admin:read, admin:write"
        )
    elif name == SIGNED_IN:
        reader.error(fields["policy"], "`signed-in` would let everybody with an account in")
    elif name not in policies:
        told = f"`console` names the unknown policy `{name}`{suggestion(name, policies)}"
        reader.error(fields["policy"], told)
    elif policies[name].shadow:
        told = f"`{name}` is in shadow, which lets every signed-in caller in: it guards nothing"
        reader.error(fields["policy"], told)
    return policies.get(name or "")


def _trusted_peers(reader: Reader, node: Node | None) -> tuple[str, ...]:
    fields = reader.block(node, "`decision_api`", ("trusted_peers",))
    peers: list[str] = []
    for text, item in reader.texts(fields.get("trusted_peers"), "`trusted_peers`") or []:
        try:
            network = ipaddress.ip_network(text)
        except ValueError as error:
            reader.error(item, f"`{text}` is no address block such as `127.0.0.1/32`: {error}")
            continue
        if network.prefixlen == 0:
            reader.error(
                item,
                f"`{text}` is everybody, so anyone could say what is to be judged;"
                " name the proxies, such as `127.0.0.1/32`",
            )
        peers.append(str(network))
    return tuple(peers)

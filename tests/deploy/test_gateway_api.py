"""The manifests of deploy/gateway-api: what Kubernetes takes, and what the proxies make of them."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
import yaml

from tests.contract.running import Running
from tests.deploy.helm import Helm, Manifest, example
from tests.deploy.proxies import (
    DEPLOY,
    TOLD_BY_PROXIES,
    Ports,
    Site,
    require,
    running,
    site,
    start_envoy,
    start_nginx,
)
from tests.deploy.test_proxies import SPELLINGS, received
from tests.kept import kept
from tests.node_packages import lacking
from tests.upstreams.clients import curl

pytestmark = pytest.mark.slow

FOLDER = DEPLOY / "gateway-api"
EMAIL = "ada@example.com"
IN_PACKAGES = ("gateway.networking.k8s.io", "traefik.io")
"""API groups whose types and schemas npm has (@kubernetes-models, made from the CRDs)."""


def resources(*names: str) -> list[Manifest]:
    """Of these files, or of all."""
    files = [FOLDER / f"{name}.yaml" for name in names] or sorted(FOLDER.glob("*.yaml"))
    return [one for file in files for one in yaml.safe_load_all(file.read_text("utf-8"))]


def group_of(resource: Manifest) -> str:
    return str(resource["apiVersion"]).partition("/")[0]


def the(kind: str, *names: str) -> Manifest:
    """The first resource of that kind."""
    return next(one for one in resources(*names) if one["kind"] == kind)


# --- what Kubernetes takes ---


def found_wrong(manifests: list[Manifest]) -> list[list[str]]:
    installed = kept("manifests")
    if problem := lacking(Path(__file__).parent / "manifests", installed):
        pytest.skip(problem)
    done = subprocess.run(
        ["node", str(installed / "check.mjs")],
        input=json.dumps(manifests),
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    found: list[list[str]] = json.loads(done.stdout)
    return found


ONLY_EXPERIMENTAL = "data/spec/rules/1/filters/0/type must be equal to one of the allowed values"
"""The package has the fields of the filter, and the kinds of the standard channel, where it is
not yet one."""


def test_gateway_api_and_traefik_know_every_field() -> None:
    manifests = [one for one in resources() if group_of(one) in IN_PACKAGES]
    wrong = json.loads(json.dumps(the("HTTPRoute", "httproute-grpc")))
    wrong["spec"]["rules"][0]["backendRef"] = wrong["spec"]["rules"][0].pop("backendRefs")[0]
    *found, of_wrong = found_wrong([*manifests, wrong])
    assert any("backendRef" in one for one in of_wrong)  # else nothing was looked at
    for manifest, problems in zip(manifests, found, strict=True):
        filters = str(manifest["spec"])
        expected = [ONLY_EXPERIMENTAL] if "'type': 'ExternalAuth'" in filters else []
        assert problems == expected, manifest["metadata"]["name"]


def test_kubernetes_takes_what_is_its_own(helm: Helm) -> None:
    own = [one for one in resources("ingress-nginx") if group_of(one) not in IN_PACKAGES]
    assert len(own) == 3
    for manifest in own:
        assert helm.problems(manifest, "1.37") == []


def closed(properties: Mapping[str, Any], *required: str) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": dict(properties),
        "required": list(required),
        "additionalProperties": False,
    }


TEXT = {"type": "string", "minLength": 1}
TEXTS = {"type": "array", "items": TEXT, "minItems": 1}
TARGETS = {"type": "array", "items": closed({"group": TEXT, "kind": TEXT, "name": TEXT})}
PORT = {"type": "integer", "minimum": 1, "maximum": 65535}
BACKENDS = {
    "type": "array",
    "minItems": 1,
    "items": closed({"name": TEXT, "namespace": TEXT, "port": PORT}, "name", "port"),
}
OF_ENVOY_GATEWAY = {
    # As far as the manifests use them; the CRDs are those of Envoy Gateway 1.5 to 1.9
    # (https://github.com/envoyproxy/gateway, charts/gateway-crds-helm).
    "SecurityPolicy": closed(
        {
            "targetRefs": TARGETS,
            "extAuth": {
                **closed(
                    {
                        "failOpen": {"const": False},
                        "statusOnError": {"enum": [503]},
                        "timeout": {"type": "string", "pattern": "^([0-9]{1,5}(h|m|s|ms)){1,4}$"},
                        "headersToExtAuth": TEXTS,
                        "grpc": closed({"backendRefs": BACKENDS}, "backendRefs"),
                        "http": closed(
                            {"backendRefs": BACKENDS, "path": TEXT, "headersToBackend": TEXTS},
                            "backendRefs",
                        ),
                    }
                ),
                "oneOf": [{"required": ["grpc"]}, {"required": ["http"]}],
            },
        },
        "targetRefs",
        "extAuth",
    ),
    "EnvoyExtensionPolicy": closed(
        {
            "targetRefs": TARGETS,
            "lua": {
                "type": "array",
                "minItems": 1,
                "maxItems": 16,
                "items": closed({"type": {"const": "Inline"}, "inline": TEXT}, "type", "inline"),
            },
        },
        "targetRefs",
    ),
    "ClientTrafficPolicy": closed(
        {
            "targetRefs": TARGETS,
            "headers": closed(
                {
                    "withUnderscoresAction": {"enum": ["Allow", "RejectRequest", "DropHeader"]},
                    "earlyRequestHeaders": closed(
                        {
                            "removeOnMatch": {
                                "type": "array",
                                "maxItems": 64,
                                "items": closed(
                                    {"type": {"enum": ["RegularExpression"]}, "value": TEXT},
                                    "type",
                                    "value",
                                ),
                            }
                        }
                    ),
                }
            ),
        },
        "targetRefs",
    ),
}


def test_envoy_gateway_knows_every_field() -> None:
    policies = [one for one in resources() if group_of(one) == "gateway.envoyproxy.io"]
    assert len(policies) == 5
    for one in policies:
        assert one["apiVersion"] == "gateway.envoyproxy.io/v1alpha1"
        jsonschema_rs.validate(OF_ENVOY_GATEWAY[one["kind"]], one["spec"])


def test_every_service_of_authgate_that_is_named_is_the_charts(helm: Helm) -> None:
    values = example("minimal") | {"decisions": {"enabled": True, "grpc": True}}
    rendered = helm.rendered(values, release="authgate")
    ports = {
        (one["metadata"]["name"], port["port"])
        for one in rendered
        if one["kind"] == "Service"
        for port in one["spec"]["ports"]
    }
    named = set[tuple[str, int]]()
    text = "".join(path.read_text("utf-8") for path in FOLDER.glob("*.yaml"))
    for name, port in re.findall(
        r"(authgate-decisions)\.authgate\.svc\.cluster\.local:(\d+)", text
    ):
        named.add((name, int(port)))
    for name, port in re.findall(
        r"\{name: (authgate[a-z-]*),[^{}]*port: (?:\{number: )?(\d+)", text
    ):
        named.add((name, int(port)))
    assert named == {("authgate", 80), ("authgate-decisions", 9901), ("authgate-decisions", 9191)}
    assert named <= ports


def test_traefik_is_told_what_its_file_is_told() -> None:
    file = yaml.safe_load((DEPLOY / "traefik" / "dynamic.yaml").read_text("utf-8"))["http"]
    middlewares = [one for one in resources("traefik") if one["kind"] == "Middleware"]
    told = {one["metadata"]["name"]: one["spec"]["forwardAuth"] for one in middlewares}
    expected = {name: one["forwardAuth"] for name, one in file["middlewares"].items()}
    for asked in (*told.values(), *expected.values()):
        assert asked.pop("address").endswith(":9901/decide/traefik")
    assert told == expected
    shop, bodiless = the("IngressRoute", "traefik")["spec"]["routes"]
    assert bodiless["match"] == f"{shop['match']} && ({file['routers']['shop-bodiless']['rule']})"
    for route, router in ((shop, "shop"), (bodiless, "shop-bodiless")):
        assert [one["name"] for one in route["middlewares"]] == file["routers"][router][
            "middlewares"
        ]
    assert bodiless["priority"] > shop["priority"]
    own = next(
        one
        for one in resources("traefik")
        if one["kind"] == "IngressRoute" and one["metadata"]["namespace"] == "authgate"
    )
    (route,) = own["spec"]["routes"]
    assert file["routers"]["own"]["rule"] in route["match"]
    assert "middlewares" not in route


# --- what the proxies make of them ---


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with site(tmp_path_factory.mktemp("gateway-api") / "site") as found:
        yield found


LUA = "type.googleapis.com/envoy.extensions.filters.http.lua.v3.Lua"


def envoy_of(name: str) -> Any:
    """How Envoy Gateway sets Envoy up by the manifests of that file: of the shipped example, with
    its defaults for paths and names, and the filter that it makes of the policy."""
    auth = the("SecurityPolicy", name)["spec"]["extAuth"]

    def patterns(headers: list[str]) -> dict[str, Any]:
        return {"patterns": [{"exact": one, "ignore_case": True} for one in headers]}

    def command(folder: Path, ports: Ports) -> tuple[list[str], Mapping[str, str]]:
        example = "envoy.yaml" if "http" in auth else "ext-authz-grpc.yaml"
        config = yaml.safe_load(ports.filled((DEPLOY / "envoy" / example).read_text("utf-8")))
        (listener,) = config["static_resources"]["listeners"]
        manager = listener["filter_chains"][0]["filters"][0]["typed_config"]
        manager["normalize_path"] = manager["merge_slashes"] = True
        manager["path_with_escaped_slashes_action"] = "UNESCAPE_AND_REDIRECT"
        options = manager["common_http_protocol_options"]
        options["headers_with_underscores_action"] = "REJECT_REQUEST"
        *_, mutation, ext_authz, router = manager["http_filters"]
        settings = ext_authz["typed_config"]
        for key in ("encode_raw_headers", "with_request_body", "allowed_headers"):
            settings.pop(key, None)
        (lua,) = the("EnvoyExtensionPolicy", name)["spec"]["lua"]
        script = {  # Envoy Gateway has it behind ext_authz, where no `filterOrder` says otherwise
            "name": "envoy.filters.http.lua",
            "typed_config": {"@type": LUA, "default_source_code": {"inline_string": lua["inline"]}},
        }
        if "headersToExtAuth" in auth:
            settings["allowed_headers"] = patterns(auth["headersToExtAuth"])
        if "http" in auth:
            service = settings["http_service"]
            service["path_prefix"] = auth["http"]["path"]
            service["authorization_response"] = {
                "allowed_upstream_headers": patterns(auth["http"]["headersToBackend"])
            }
            early = the("ClientTrafficPolicy", name)["spec"]["headers"]["earlyRequestHeaders"]
            mutation["typed_config"]["mutations"]["request_mutations"] = [
                {"remove_on_match": {"key_matcher": {"safe_regex": {"regex": one["value"]}}}}
                for one in early["removeOnMatch"]
            ]
            manager["http_filters"] = [mutation, ext_authz, script, router]
        else:
            manager["http_filters"] = [ext_authz, script, router]
        (folder / "envoy.yaml").write_text(yaml.safe_dump(config))
        return start_envoy(folder)

    return command


NGINX = """
pid nginx.pid;
error_log stderr;
events {{ }}
http {{
  access_log off;
  # As the controller knows them.
  map $scheme $pass_access_scheme {{ default $scheme; }}
  map $request_id $req_id {{ default $request_id; }}
  map $http_upgrade $connection_upgrade {{ default upgrade; "" ""; }}
  server {{
    listen 127.0.0.1:{proxy};
    location = /asked {{
      internal;
      proxy_pass_request_body off;
      proxy_set_header Content-Length "";
      proxy_set_header X-Forwarded-Proto "";
      proxy_set_header X-Request-Id $req_id;
      proxy_set_header Host {host};
      proxy_set_header X-Original-URL $scheme://$http_host$request_uri;
      proxy_set_header X-Original-Method $request_method;
      proxy_set_header X-Sent-From "nginx-ingress-controller";
      proxy_set_header X-Real-IP $remote_addr;
      proxy_set_header X-Forwarded-For $remote_addr;
      proxy_set_header X-Auth-Request-Redirect $request_uri;
{question}
      proxy_http_version 1.1;
      set $target {url};
      proxy_pass $target;
    }}
    location = /led {{
      internal;
      add_header Set-Cookie $auth_cookie;
      return 302 {sign_in}?rd=$pass_access_scheme://$http_host$request_uri;
    }}
    location ~ ^/(auth|\\.well-known)(/|$) {{
      proxy_set_header Host $http_host;
      proxy_set_header X-Forwarded-For $remote_addr;
      proxy_set_header X-Forwarded-Proto $scheme;
      proxy_pass http://127.0.0.1:{public};
    }}
    location / {{
      auth_request /asked;
      auth_request_set $auth_cookie $upstream_http_set_cookie;
      add_header Set-Cookie $auth_cookie always;
{answer}
      {error_page}
      proxy_set_header Host $http_host;
      proxy_set_header Upgrade $http_upgrade;
      proxy_set_header Connection $connection_upgrade;
      proxy_set_header X-Request-Id $req_id;
      proxy_set_header X-Real-IP $remote_addr;
      proxy_set_header X-Forwarded-For $remote_addr;
      proxy_set_header X-Forwarded-Host $http_host;
      proxy_set_header X-Forwarded-Port $server_port;
      proxy_set_header X-Forwarded-Proto $pass_access_scheme;
      proxy_set_header X-Forwarded-Scheme $pass_access_scheme;
      proxy_set_header Proxy "";
      proxy_http_version 1.1;
      proxy_pass http://127.0.0.1:{shop};
    }}
  }}
}}
"""
"""What the controller's template makes of the annotations, as far as they speak of authorization."""


def nginx_of(*, signs_in: bool) -> Any:
    annotations = {
        name.removeprefix("nginx.ingress.kubernetes.io/"): value
        for name, value in the("Ingress", "ingress-nginx")["metadata"]["annotations"].items()
    }
    question = the("ConfigMap", "ingress-nginx")
    namespace = question["metadata"]["namespace"]
    assert annotations["auth-proxy-set-headers"] == f"{namespace}/{question['metadata']['name']}"
    assert "auth-method" not in annotations
    assert annotations["auth-always-set-cookie"] == "true"
    headers = [name.strip() for name in annotations["auth-response-headers"].split(",")]

    def command(folder: Path, ports: Ports) -> tuple[list[str], Mapping[str, str]]:
        service, _, path = annotations["auth-url"].removeprefix("http://").partition("/")
        assert service == "authgate-decisions.authgate.svc.cluster.local:9901"
        answer = [
            line
            for n, name in enumerate(headers)
            for line in (
                f"auth_request_set $authHeader{n} $upstream_http_{name.lower().replace('-', '_')};",
                f"proxy_set_header '{name}' $authHeader{n};",
            )
        ]
        asked = [f'proxy_set_header "{k}" "{v}";' for k, v in question["data"].items()]
        (folder / "nginx.conf").write_text(
            NGINX.format(
                proxy=ports.proxy,
                public=ports.public,
                shop=ports.shop,
                host=service.partition(":")[0],
                url=f'"http://127.0.0.1:{ports.admin}/{path}"',
                question="\n".join(asked),
                answer="\n".join(answer),
                sign_in=annotations["auth-signin"],
                error_page="error_page 401 = /led;" if signs_in else "",
            )
        )
        return start_nginx(folder)

    return command


@contextmanager
def behind(house: Site, command: Any) -> Iterator[Running]:
    ports = house.ports()
    with running(command, ports, house.folder / f"proxy-{ports.proxy}"):
        yield house.seen_at(ports.proxy)


MADE: Mapping[str, tuple[str, Callable[[], Any]]] = {
    "envoy-gateway-grpc": ("envoy-grpc", lambda: envoy_of("envoy-gateway-grpc")),
    "envoy-gateway-http": ("envoy", lambda: envoy_of("envoy-gateway-http")),
    "ingress-nginx": ("nginx", lambda: nginx_of(signs_in=False)),
}


@pytest.fixture(scope="module", params=sorted(MADE))
def proxy(request: pytest.FixtureRequest, house: Site) -> Iterator[Running]:
    program, command = MADE[request.param]
    require(program)
    with behind(house, command()) as found:
        yield found


def test_who_calls_is_told_and_nothing_that_is_forged(proxy: Running) -> None:
    token = str(proxy.sign_in(EMAIL)["access_token"])
    fields = received(proxy.call("GET", "/me?a=b%20c", token=token))
    assert fields["x-auth-user-id"] == [proxy.users[EMAIL]["user_id"]]
    assert fields["x-auth-email"] == [EMAIL]
    assert len(fields["x-auth-assertion"]) == 1
    assert "authorization" not in fields
    spellings = [pair for pair in SPELLINGS if "_" not in pair[0]]
    lies = [("Cookie", "__Host-session=abc; theirs=1"), ("X-Original-URI", "/catalogue/a")]
    for who, target in ((None, "/catalogue/a"), (token, "/me")):
        fields = received(proxy.call("GET", target, *spellings, *lies, token=who))
        assert not [name for name, values in fields.items() if "forged" in values], fields
        assert ("x-auth-user-id" in fields) == (who is not None)
        assert fields["cookie"] == ["theirs=1"]


def test_no_word_of_a_client_on_how_it_came_arrives(proxy: Running) -> None:
    # From an address that is no trusted peer's, as clients have.
    forged = "for=6.6.6.6;host=evil.example"
    _, answer = curl(
        "GET",
        f"http://127.0.0.1:{proxy.port}/catalogue/a",
        [(name, forged) for name in TOLD_BY_PROXIES],
        words=["--interface", "127.0.0.2"],
    )
    assert [name for name, values in received(answer).items() if forged in values] == []


def test_what_may_not_pass_does_not(proxy: Running, request: pytest.FixtureRequest) -> None:
    nginx = "nginx" in request.node.name
    token = str(proxy.sign_in(EMAIL)["access_token"])
    before = len(proxy.echo.seen)
    lies = [("X-Original-URI", "/catalogue/a"), ("X-Forwarded-Uri", "/catalogue/a")]
    lies += [("X-Original-Method", "GET"), ("X-Original-Host", "elsewhere.example")]
    refused = proxy.call("GET", "/me", *lies)
    assert refused.status == 401
    assert refused.get("www-authenticate") == 'Bearer realm="authgate"'
    assert proxy.call("GET", "/users/somebody/orders", token=token).status == 403
    assert proxy.call("DELETE", "/catalogue/a", *lies).status == (403 if nginx else 405)
    assert proxy.call("GET", "/nowhere", token=token).status == (403 if nginx else 404)
    for target in ("/catalogue/%2e%2e/me", "/catalogue/..%2fme", "/catalogue/../me", "//me"):
        assert 300 <= proxy.call("GET", target).status < 500
    assert proxy.call("POST", "/auth/logout", token=token).status == 204
    assert proxy.call("GET", "/me", token=token).status == 401
    assert len(proxy.echo.seen) == before


def test_a_body_arrives_whole(proxy: Running) -> None:
    token = str(proxy.sign_in(EMAIL)["access_token"])
    user = proxy.users[EMAIL]["user_id"]
    body = b'{"n": 1}' * 5_000
    answer = proxy.call("POST", f"/users/{user}/orders", body=body, token=token)
    assert received(answer)["x-auth-user-id"] == [user]
    assert answer.json["body"] == body.decode()


def test_ingress_nginx_leads_a_browser_to_the_sign_in_page(house: Site) -> None:
    require("nginx")
    with behind(house, nginx_of(signs_in=True)) as front:
        led = front.call("GET", "/me")
        assert led.status == 302
        at = f"http://127.0.0.1:{front.port}/me"
        assert led.get("location") == f"https://127.0.0.1/auth/ui/sign-in?rd={at}"
        page = front.call("GET", f"/auth/ui/sign-in?rd={at}", ("Accept", "text/html"))
        assert (page.status, page.get("content-type")) == (200, "text/html; charset=utf-8")


@pytest.mark.parametrize("name", ["httproute-grpc", "httproute-http"])
def test_the_filter_of_gateway_api_is_told_what_envoy_gateway_is_told(name: str) -> None:
    (own, protected) = the("HTTPRoute", name)["spec"]["rules"]
    assert "filters" not in own
    auth = protected["filters"][0]["externalAuth"]
    policy = the("SecurityPolicy", name.replace("httproute", "envoy-gateway"))["spec"]["extAuth"]
    if auth["protocol"] == "GRPC":
        assert [auth["backendRef"]] == policy["grpc"]["backendRefs"]
        assert auth["grpc"] == {}
    else:
        assert [auth["backendRef"]] == policy["http"]["backendRefs"]
        assert auth["http"]["path"] == policy["http"]["path"]
        # `Authorization` is always sent.
        assert ["Authorization", *auth["http"]["allowedHeaders"]] == policy["headersToExtAuth"]
        assert auth["http"]["allowedResponseHeaders"] == policy["http"]["headersToBackend"]

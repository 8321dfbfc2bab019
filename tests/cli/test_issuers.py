"""`gateway issuers`: what an operator sees of an issuer, and of a token that is refused."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from gateway.access.issuers import Issuer
from gateway.cli import main
from gateway.identity.issuers.kept_keys import KeptKeys, KeptSet
from tests.identity.issuers.provider import CLAIMS, Signer, document, signer

Said = tuple[int, str, str]
Run = Callable[..., Said]

ROUTES = """
version: 1
issuers:
  company:
    issuer: ISSUER
    audience: api
    algorithms: [ES256]
    roles: claims.realm_access.roles
    email: claims.email
    require: {azp: shop}
routes:
  - {id: all, match: {prefix: /api}, issuers: [company], policy: signed-in, direct_response: {status: 204}}
"""


class Provider(HTTPServer):
    """Answers each path with a document, or 404."""

    def __init__(self) -> None:
        provider = self
        self.ahead_s = 0.0
        self.there: dict[str, bytes] = {}
        self.asked: list[tuple[str, str]] = []

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                body = provider.there.get(self.path)
                self.send_response(404 if body is None else 200)
                self.end_headers()
                self.wfile.write(body or b"")

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"])).decode()
                provider.asked.append((self.headers["Authorization"], body))
                self.do_GET()

            def date_time_string(self, timestamp: float | None = None) -> str:
                return super().date_time_string(time.time() + provider.ahead_s)

            def log_message(self, format: str, *args: object) -> None:
                pass

        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_port}"

    def publish(self, *keys: Any, **changed: Any) -> None:
        discovery = {"issuer": self.url, "jwks_uri": f"{self.url}/keys", **changed}
        self.there = {
            "/.well-known/openid-configuration": json.dumps(discovery).encode(),
            "/keys": document(*keys),
        }


@pytest.fixture
def provider() -> Iterator[Provider]:
    with Provider() as server:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        yield server
        server.shutdown()


@pytest.fixture
def run(
    provider: Provider,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Run:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "policies").mkdir()
    (tmp_path / "routes.yaml").write_text(ROUTES.replace("ISSUER", provider.url))

    def call(*words: str) -> Said:
        code = main(("issuers", *words))
        said = capsys.readouterr()
        return code, said.out, said.err

    return call


KEY = signer("ES256")


def token(provider: Provider, folder: Path, key: Signer = KEY, **claims: Any) -> str:
    """The file of one that is good, but for these claims."""
    now = int(time.time())
    times = {"iat": now, "exp": now + 300, "auth_time": now}
    (folder / "token").write_text(key.token(iss=provider.url, **{**times, **claims}) + "\n")
    return str(folder / "token")


def checks(out: str) -> dict[str, tuple[bool | None, str]]:
    return {row["check"]: (row["good"], row["detail"]) for row in json.loads(out)}


def test_an_issuer_is_listed_with_the_keys_that_are_kept(
    run: Run, provider: Provider, tmp_path: Path
) -> None:
    assert json.loads(run("list", "--json")[1]) == [
        {"name": "company", "issuer": provider.url, "keys": [], "age_s": None, "fetched_at": None}
    ]
    issuer = Issuer("company", provider.url, ("api",))
    at = time.time() - 60
    (tmp_path / ".gateway").mkdir()
    KeptKeys(tmp_path / ".gateway" / "issuers").write(issuer, KeptSet(document(KEY), at))
    [row] = json.loads(run("list", "--json")[1])
    assert (row["keys"], row["fetched_at"]) == (["k-1"], at)
    assert 60 <= row["age_s"] < 120
    code, out, _ = run("list")
    assert (code, out.split()[:5]) == (0, ["name", "issuer", "keys", "age", "s"])


def test_discovery_and_keys_are_fetched_and_shown(run: Run, provider: Provider) -> None:
    provider.publish(KEY, signer("RS256", "r"), {"kty": "oct", "kid": "o", "k": "c2VjcmV0"})
    code, out, err = run("check", "--json")
    assert (code, err) == (0, "")
    assert checks(out) == {
        "discovery": (True, f"{provider.url}/.well-known/openid-configuration"),
        "keys": (True, f"{provider.url}/keys, to be kept for 300 s"),
        "clock": (True, "in step with ours"),
        "key k-1": (True, "EC P-256, for ES256"),
        "key r": (None, "RSA 2048, for no alg that is taken"),
        "left out": (None, "key o: it is a shared secret, and no token is judged by one"),
    }


@pytest.mark.parametrize(
    ("ahead_s", "told"),
    [
        (60, " s ahead of ours; 10 s are the most, and its new tokens are refused"),
        (-60, " s behind ours; 10 s are the most, and its tokens end too early here"),
    ],
)
def test_the_clock_of_an_issuer_is_compared(
    run: Run, provider: Provider, ahead_s: float, told: str
) -> None:
    provider.publish(KEY)
    provider.ahead_s = ahead_s
    code, out, _ = run("check", "--json")
    good, detail = checks(out)["clock"]
    assert (code, good) == (1, False)
    assert told in detail


def test_a_table_shows_what_is_good_with_a_mark(run: Run, provider: Provider) -> None:
    provider.publish(KEY)
    lines = run("check", "company")[1].splitlines()
    assert lines[0].split() == ["issuer", "check", "good", "detail"]
    assert lines[1].split()[:3] == ["company", "discovery", "✓"]


def test_an_issuer_that_is_away_is_exit_code_3(run: Run, provider: Provider) -> None:
    code, out, err = run("check", "--json")
    assert (code, err) == (3, "error: an issuer does not answer\n")
    url = f"{provider.url}/.well-known/openid-configuration"
    assert checks(out) == {"discovery": (False, f"{url} answered 404")}


def test_an_issuer_that_is_not_to_be_believed_is_exit_code_1(run: Run, provider: Provider) -> None:
    provider.publish(KEY, issuer="https://evil.example")
    code, out, err = run("check", "--json")
    assert (code, err) == (1, "error: an issuer is not to be believed\n")
    assert "is of the issuer https://evil.example" in checks(out)["discovery"][1]
    provider.publish(KEY, KEY)
    code, out, _ = run("check", "--json")
    assert (code, checks(out)["keys"]) == (1, (False, "the key set names two keys k-1"))
    provider.publish(KEY, jwks_uri=None)
    code, out, _ = run("check", "--json")
    assert (code, checks(out)["keys"]) == (1, (False, "the discovery names no jwks_uri"))


def test_a_good_token_shows_whom_it_speaks_of(run: Run, provider: Provider, tmp_path: Path) -> None:
    provider.publish(KEY)
    roles = {"roles": ["viewer", "a b"]}
    file = token(provider, tmp_path, realm_access=roles)
    code, out, _ = run("check", "--token-file", file, "--json")
    found = checks(out)
    assert code == 0
    assert found["signature"] == (True, "ES256")
    assert found["claims.aud"] == (True, "")
    assert found["user.id"] == (None, "company:alice")
    assert found["user.roles"] == (None, "viewer")
    assert found["roles left out"] == (None, "a b")
    assert found["user.email"] == (None, "alice@example.com")


def test_a_refused_token_shows_each_claim_that_is_wrong_and_what_would_be_right(
    run: Run, provider: Provider, tmp_path: Path
) -> None:
    provider.publish(KEY)
    file = token(provider, tmp_path, aud="account", azp="till")
    code, out, err = run("check", "company", "--token-file", file, "--json")
    found = checks(out)
    assert (code, err) == (1, "error: the token is refused\n")
    assert found["claims.aud"] == (False, "it is account; one that names api would be right")
    assert found["azp"] == (False, "it is till; shop would be right")
    assert found["claims.sub"] == (True, "")
    assert "user.id" not in found


def test_a_token_of_another_key_is_told(run: Run, provider: Provider, tmp_path: Path) -> None:
    provider.publish(KEY)
    code, out, _ = run("check", "--token-file", token(provider, tmp_path, signer()), "--json")
    assert (code, checks(out)["signature"][0]) == (1, False)
    other = token(provider, tmp_path, signer(kid="other"))
    code, out, _ = run("check", "--token-file", other, "--json")
    told = "it is other; the issuer publishes no such key"
    assert (code, checks(out)["kid"]) == (1, (False, told))


def test_without_keys_no_signature_is_judged(run: Run, provider: Provider, tmp_path: Path) -> None:
    code, out, err = run("check", "--token-file", token(provider, tmp_path), "--json")
    assert (code, err) == (3, "error: an issuer does not answer\n")
    found = checks(out)
    assert found["signature"] == (None, "not judged: the keys of the issuer are not there")
    assert "kid" not in found
    assert found["claims.sub"] == (True, "")


def test_what_is_no_token_of_an_issuer_is_refused(
    run: Run, provider: Provider, tmp_path: Path
) -> None:
    provider.publish(KEY)
    file = tmp_path / "token"
    file.write_text(KEY.token(iss=f"{provider.url}/"))
    no = "error: this is no token of any issuer of the configuration: "
    right = f"{provider.url} would be right, to the byte\n"
    told = f"{no}its iss is {provider.url}/; {right}"
    assert run("check", "--token-file", str(file)) == (1, "", told)
    file.write_text("an-opaque-token")
    told = f"{no}it is no signed JWT that names its iss\n"
    assert run("check", "--token-file", str(file)) == (1, "", told)
    none = str(tmp_path / "none")
    told = f"error: --token-file {none}: No such file or directory\n"
    assert run("check", "company", "--token-file", none) == (2, "", told)


def test_an_unknown_issuer_is_wrong_usage(run: Run) -> None:
    code, _, err = run("check", "nobody")
    assert (code, err) == (2, "error: unknown issuer nobody; there are: company\n")


# An issuer that is asked


INTROSPECTION = """    introspection:
      client_id: gate
      client_secret: {secret: company}
"""


@pytest.fixture
def asked(run: Run, provider: Provider, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """`run`, where the issuer is asked of tokens."""
    text = ROUTES.replace("ISSUER", provider.url)
    text = text.replace("    audience: api\n", "    audience: api\n" + INTROSPECTION)
    (tmp_path / "routes.yaml").write_text(text.replace("    algorithms: [ES256]\n", ""))
    (tmp_path / "secrets").mkdir(mode=0o700)
    (tmp_path / "secrets" / "company").write_text("s")
    monkeypatch.setenv("GATEWAY_SECRETS_DIR", str(tmp_path / "secrets"))
    provider.publish(introspection_endpoint=f"{provider.url}/introspect")
    return run


def says(provider: Provider, **answer: Any) -> None:
    provider.there["/introspect"] = json.dumps(answer).encode()


def test_an_issuer_that_is_asked_is_asked(asked: Run, provider: Provider, tmp_path: Path) -> None:
    says(provider, active=False)
    code, out, err = asked("check", "--json")
    assert (code, err) == (0, "")
    assert checks(out) == {"introspection": (True, "it answers client_id gate")}
    assert provider.asked[0][0] == "Basic Z2F0ZTpz"
    (tmp_path / "token").write_text("an-opaque-token\n")
    told = "it names no iss; name the issuer that is to be asked about it\n"
    assert asked("check", "--token-file", str(tmp_path / "token"))[2].endswith(told)
    words = ("check", "company", "--token-file", str(tmp_path / "token"), "--json")
    code, out, _ = asked(*words)
    assert (code, checks(out)["active"]) == (1, (False, "the issuer says that it is not"))
    now = int(time.time())
    times = {"iat": now, "exp": now + 300, "auth_time": now, "iss": provider.url}
    says(provider, **{**CLAIMS, **times, "active": True, "token_type": "Bearer"})
    code, out, _ = asked(*words)
    assert (code, checks(out)["user.id"]) == (0, (None, "company:alice"))
    says(provider, **{**CLAIMS, **times, "active": True})
    code, out, _ = asked(*words)
    told = "it is not there; Bearer would be right"
    assert (code, checks(out)["token_type"]) == (1, (False, told))
    says(provider, **{**CLAIMS, **times, "active": True, "iss": "https://other.example"})
    code, out, _ = asked(*words)
    assert (code, checks(out)["iss"][0]) == (1, False)


def test_an_issuer_that_does_not_take_our_question_is_told(asked: Run) -> None:
    code, out, _ = asked("check", "--json")
    good, told = checks(out)["introspection"]
    assert (code, good) == (1, False)
    assert told.endswith("/introspect answered 404, to client_id gate")


def test_an_opaque_token_needs_the_name_of_its_issuer(asked: Run, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("an-opaque-token\n")
    assert asked("check", "--token-file", str(tmp_path / "token"))[0] == 1

"""Real frameworks and servers behind the gateway, each driven by a client people use with it.

What each has to be told, so that it knows the client's address and scheme, is in `apps/`, and in
the table of docs/edge.md.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from tests.contract.answers import Answer
from tests.contract.running import Running
from tests.upstreams.clients import Client, Curl, Fields, Httpx, Requests, multipart, node
from tests.upstreams.started import PACKED, Upstreams

pytestmark = pytest.mark.slow

CLIENTS: dict[str, Callable[[], Client]] = {
    "fastapi": Httpx,
    "django": Requests,
    "flask": Requests,
    "nginx": Curl,
    "caddy": Curl,
}
APPLICATIONS = ("fastapi", "django", "flask", "express")
SERVERS = ("nginx", "caddy")


@dataclass
class Pair:
    """One upstream, and its client on the other side of the gateway."""

    name: str
    client: Client
    origin: str
    token: str

    def call(
        self, method: str, path: str, *fields: tuple[str, str], body: bytes | None = None
    ) -> Answer:
        own: Fields = [("Authorization", f"Bearer {self.token}"), *fields]
        return self.client.call(method, f"{self.origin}/{self.name}{path}", own, body)

    def echo(self, method: str, path: str, *fields: tuple[str, str], **more: Any) -> Any:
        answer = self.call(method, f"/echo{path}", *fields, **more)
        assert answer.status == 200, answer
        return answer.json


def made(name: str, upstreams: Upstreams, front: Running, token: str) -> Iterator[Pair]:
    upstreams.start(name)
    origin = f"http://127.0.0.1:{front.port}"
    if name == "express":
        with node() as client:
            yield Pair(name, client, origin, token)
    else:
        yield Pair(name, CLIENTS[name](), origin, token)


@pytest.fixture(scope="module", params=(*APPLICATIONS, *SERVERS))
def pair(
    request: pytest.FixtureRequest, upstreams: Upstreams, front: Running, token: str
) -> Iterator[Pair]:
    yield from made(request.param, upstreams, front, token)


ONLY_APPLICATIONS = pytest.mark.parametrize("pair", APPLICATIONS, indirect=True)


# --- who calls ----------------------------------------------------------------------------------


def test_the_upstream_is_told_who_calls_and_no_forgery_reaches_it(pair: Pair, user: str) -> None:
    forged = [("X-Auth-User-Id", "root"), ("X_Auth_User_Id", "root"), ("x-auth-roles", "admin")]
    # WSGI and CGI make one name of both spellings.
    told = pair.echo("GET", "/a", *forged)
    assert told["user"] == [user]
    assert "root" not in json.dumps(told)


@ONLY_APPLICATIONS
@pytest.mark.parametrize("path", ["/told", "/untold"])
def test_no_spelling_of_another_proxys_identity_reaches_it(
    pair: Pair, user: str, path: str
) -> None:
    names = ("Remote-User", "REMOTE_USER", "remote.user", "X-WebAuth-User", "X_WEBAUTH_ROLE")
    seen = pair.echo("GET", path, *((name, "root") for name in names))
    assert "root" not in json.dumps(seen)
    told = {name.lower().replace("_", "-"): value for name, value in seen["fields"]}
    # Nobody has verified the address, so the account's name is its id.
    wanted = user if path == "/told" else None
    assert told.get("remote-user") == told.get("x-webauth-user") == wanted


def test_a_call_without_a_credential_does_not_reach_it(pair: Pair) -> None:
    answer = pair.client.call("GET", f"{pair.origin}/{pair.name}/echo/a")
    assert (answer.status, answer.reason) == (401, "no_credential")


def test_it_knows_the_client_behind_the_proxies_and_their_scheme(pair: Pair) -> None:
    forwarded = [("X-Forwarded-For", "203.0.113.7"), ("X-Forwarded-Proto", "https")]
    told = pair.echo("GET", "/a", *forwarded)
    assert told["scheme"] == "https"
    # Debian's Caddy only has the list to show: the client, then whoever stood between.
    assert told["client"].partition(",")[0] == "203.0.113.7"
    assert told["host"] == pair.origin.removeprefix("http://")


@ONLY_APPLICATIONS
@pytest.mark.parametrize("name", ["SCRIPT_NAME", "Script-Name", "script_name", "PATH_INFO"])
def test_nobody_cuts_the_path_short_that_it_serves(pair: Pair, name: str) -> None:
    told = pair.echo("GET", "/admin/a", (name, f"/{pair.name}/echo"))
    assert told["path"].removeprefix(f"/{pair.name}") == "/echo/admin/a"


@ONLY_APPLICATIONS
@pytest.mark.parametrize("path", ["/closed", "/CLOSED", "/closed/", "/Closed/"])
def test_no_spelling_of_a_protected_path_is_served(pair: Pair, path: str) -> None:
    assert pair.call("GET", f"/echo{path}").status in (400, 404)


@pytest.mark.parametrize("pair", ["fastapi", "flask"], indirect=True)
@pytest.mark.parametrize("text", ["%D9%A7", "%E0%A5%AD", "+7", "%2B7", "7.0", "%207", "0_7"])
def test_no_spelling_of_a_protected_number_is_served(pair: Pair, text: str) -> None:
    assert pair.call("GET", f"/books/{text}/pages").reason == "ambiguous_path"


@pytest.mark.parametrize("pair", ["fastapi"], indirect=True)
@pytest.mark.parametrize("form", ["{bare}", "urn:uuid:{uuid}", "%7B{uuid}%7D"])
def test_no_spelling_of_a_protected_uuid_is_served(pair: Pair, form: str) -> None:
    uuid = "3f2504e0-4f89-11d3-9a0c-0305e82c3301"
    text = form.format(uuid=uuid, bare=uuid.replace("-", ""))
    assert pair.call("GET", f"/documents/{text}/pages").reason == "ambiguous_path"


@ONLY_APPLICATIONS
def test_the_access_token_stays_with_the_gateway(pair: Pair) -> None:
    told = pair.echo("GET", "/a")
    assert "authorization" not in [name for name, _ in told["fields"]]


# --- what is asked ------------------------------------------------------------------------------


@ONLY_APPLICATIONS
@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"])
def test_the_method_arrives(pair: Pair, method: str) -> None:
    assert pair.echo(method, "/a")["method"] == method


@ONLY_APPLICATIONS
def test_paths_and_queries_with_odd_characters_mean_the_same(pair: Pair) -> None:
    query = "q=a%20b&q=c%2Bd&e=&x=%26%3D%C3%BC&y=a+b&z=%5B%5D&p=a/b?c"
    told = pair.echo("GET", f"/caf%C3%A9/a+b/c%20d/~e/%40/:@!$'()*,?{query}")
    assert told["path"] == f"/{pair.name}/echo/café/a+b/c d/~e/@/:@!$'()*,"
    assert told["query"] == [
        ["q", "a b"], ["q", "c+d"], ["e", ""], ["x", "&=ü"], ["y", "a b"], ["z", "[]"],
        ["p", "a/b?c"],
    ]  # fmt: skip


@pytest.mark.parametrize("pair", SERVERS, indirect=True)
def test_the_bytes_of_the_target_arrive(pair: Pair) -> None:
    target = "/caf%C3%A9/a+b/c%20d?q=a%20b&x=%26&&=?/"
    assert pair.echo("GET", target)["target"] == f"/{pair.name}/echo{target}"


@ONLY_APPLICATIONS
def test_json_arrives_as_it_was_sent(pair: Pair) -> None:
    text = json.dumps({"name": "Zoë", "n": [1, 2.5, None]}, ensure_ascii=False)
    json_type = ("Content-Type", "application/json")
    assert pair.echo("POST", "/a", json_type, body=text.encode())["body"] == text


@ONLY_APPLICATIONS
def test_a_form_with_a_file_of_several_megabytes_arrives_whole(pair: Pair) -> None:
    content = os.urandom(5_000_000)
    form_type, body = multipart("déjà vu", "a b.bin", content)
    answer = pair.call("POST", "/form", ("Content-Type", form_type), body=body)
    assert answer.status == 200, answer
    assert answer.json == {
        "note": "déjà vu",
        "name": "a b.bin",
        "size": len(content),
        "sha256": hashlib.sha256(content).hexdigest(),
    }


@ONLY_APPLICATIONS
def test_a_large_field_arrives(pair: Pair) -> None:
    told = pair.echo("GET", "/a", ("X-Large", "v" * 6000), ("Cookie", "a=1; b=" + "w" * 1000))
    fields = dict(told["fields"])
    assert fields["x-large"] == "v" * 6000
    assert fields["cookie"] == "a=1; b=" + "w" * 1000


# --- what is answered ---------------------------------------------------------------------------


def content(pair: Pair, answer: Answer) -> bytes:
    coded = answer.get("content-encoding") == "gzip" and not pair.client.decodes
    return gzip.decompress(answer.body) if coded else answer.body


def test_a_download_arrives_whole(pair: Pair, upstreams: Upstreams) -> None:
    answer = pair.call("GET", "/download")
    assert answer.status == 200
    assert answer.body == upstreams.file


def test_head_tells_what_get_would_and_nothing_more(pair: Pair, upstreams: Upstreams) -> None:
    answer = pair.call("HEAD", "/download")
    assert (answer.status, answer.body) == (200, b"")
    assert answer.get("content-length") == str(len(upstreams.file))
    assert pair.call("GET", "/none").status == 204


def test_what_the_client_has_already_is_304(pair: Pair) -> None:
    etag = pair.call("HEAD", "/download").get("etag")
    assert etag
    # Of its own node's fetch would say `no-cache`, which forbids the 304.
    again = [("If-None-Match", etag), ("Cache-Control", "max-age=0")]
    answer = pair.call("GET", "/download", *again)
    assert (answer.status, answer.body) == (304, b"")
    assert answer.get("etag") == etag


# Django's own FileResponse knows no ranges, and may (RFC 9110 section 14.2).
@pytest.mark.parametrize("pair", ["fastapi", "flask", "express", *SERVERS], indirect=True)
def test_a_part_of_a_file_is_206(pair: Pair, upstreams: Upstreams) -> None:
    answer = pair.call("GET", "/download", ("Range", "bytes=1000-1999"))
    assert (answer.status, answer.body) == (206, upstreams.file[1000:2000])
    assert answer.get("content-range") == f"bytes 1000-1999/{len(upstreams.file)}"


def test_an_answer_without_content_is_204(pair: Pair) -> None:
    answer = pair.call("GET", "/none")
    assert (answer.status, answer.body) == (204, b"")
    assert answer.get("transfer-encoding") is None


def test_a_redirect_leads_through_the_gateway_again(pair: Pair) -> None:
    answer = pair.call("GET", "/away")
    assert answer.status == 302
    location = answer.get("location")
    assert location in (f"/{pair.name}/echo/there", f"{pair.origin}/{pair.name}/echo/there")


def test_every_cookie_of_its_own_passes_and_none_of_ours(pair: Pair) -> None:
    names = [cookie.partition("=")[0] for cookie in pair.call("GET", "/cookies").all("set-cookie")]
    assert names == ["a", "b"]


@ONLY_APPLICATIONS
def test_an_answer_in_chunks_passes_whole(pair: Pair) -> None:
    answer = pair.call("GET", "/chunks")
    assert answer.body == b"".join(b"%d\n" % number for number in range(100))
    assert answer.get("content-length") is None


def test_a_coding_stays_as_it_is(pair: Pair) -> None:
    answer = pair.call("GET", "/packed", ("Accept-Encoding", "gzip"))
    assert answer.get("content-encoding") == "gzip"
    assert content(pair, answer) == (PACKED if pair.name in SERVERS else b"packed" * 1000)


@ONLY_APPLICATIONS
def test_a_large_field_of_an_answer_passes(pair: Pair) -> None:
    assert pair.call("GET", "/large").get("x-large") == "v" * 8000


def test_its_own_404_and_500_pass_unchanged(pair: Pair) -> None:
    for path, status in (("/absent", 404), ("/boom", 500)):
        answer = pair.call("GET", path)
        assert answer.status == status
        # The gateway's own would be application/problem+json.
        assert not (answer.get("content-type") or "").startswith("application/problem")


@pytest.mark.parametrize("pair", ["fastapi"], indirect=True)
def test_the_422_of_a_framework_passes_with_its_document(pair: Pair) -> None:
    json_type = ("Content-Type", "application/json")
    answer = pair.call("POST", "/judge", json_type, body=b'{"n": "x"}')
    assert answer.status == 422
    assert answer.json["detail"][0]["loc"] == ["body", "n"]

"""`/auth/*`, in the words of docs/accounts.md, over plain sockets."""

from __future__ import annotations

import json
import re
import threading
from typing import Any

import pytest

from tests.contract.answers import Answer
from tests.contract.running import Running, wait_as_told

PASSWORD = "correct horse 7 battery"


def bearer(alice: dict[str, Any]) -> str:
    return str(alice["access_token"])


def test_register_answers_201_with_the_account(gateway: Running) -> None:
    body = {"email": "Reg@Example.com", "password": PASSWORD}
    answer = gateway.call("POST", "/auth/register", json_body=body)
    assert answer.status == 201
    assert set(answer.json) == {"user_id", "email", "email_verified", "roles"}
    assert answer.json["email"] == "Reg@Example.com"
    assert answer.json["email_verified"] is False
    assert answer.json["roles"] == []
    again = gateway.call("POST", "/auth/register", json_body={**body, "email": "reg@EXAMPLE.com"})
    assert (again.status, again.reason) == (409, "email_taken")


def test_login_answers_tokens_and_the_user(gateway: Running) -> None:
    answer = gateway.sign_in("shape@example.com")
    assert set(answer) == {
        "access_token",
        "token_type",
        "expires_in",
        "refresh_token",
        "refresh_expires_in",
        "user",
    }
    assert answer["token_type"] == "Bearer"
    assert answer["expires_in"] == 900
    assert answer["refresh_expires_in"] == 604800
    assert set(answer["user"]) == {"user_id", "email", "roles"}


def test_the_access_token_is_an_rfc_9068_token(gateway: Running, alice: dict[str, Any]) -> None:
    import jwt

    text = bearer(alice)
    header = jwt.get_unverified_header(text)
    assert header["typ"] == "at+jwt"
    assert header["alg"] == "RS256"
    keys = gateway.call("GET", "/.well-known/jwks.json")
    assert keys.get("cache-control") == "public, max-age=300"
    assert keys.get("etag")
    found = next(k for k in keys.json["keys"] if k["kid"] == header["kid"])
    assert "d" not in found
    origin = f"http://127.0.0.1:{gateway.port}"
    claims = jwt.decode(
        text, jwt.PyJWK(found), algorithms=["RS256"], audience=origin, issuer=origin
    )
    assert set(claims) >= {
        "iss", "aud", "sub", "user_id", "roles", "email", "email_verified",
        "sid", "jti", "iat", "exp", "client_id", "amr", "acr", "auth_time",
    }  # fmt: skip
    assert claims["sub"] == claims["user_id"]
    assert claims["exp"] - claims["iat"] == 900


def test_me_says_who_calls(gateway: Running, alice: dict[str, Any]) -> None:
    answer = gateway.call("GET", "/auth/me", token=bearer(alice))
    assert answer.status == 200
    assert set(answer.json) == {
        "user_id",
        "email",
        "email_verified",
        "roles",
        "session_id",
        "expires_at",
    }
    assert answer.get("cache-control") == "no-store"


@pytest.mark.parametrize(
    ("email", "password"), [("alice@example.com", "wrong password 1"), ("no@example.com", PASSWORD)]
)
def test_known_and_unknown_addresses_get_the_same_refusal(
    gateway: Running, alice: dict[str, Any], email: str, password: str
) -> None:
    answer = gateway.call("POST", "/auth/login", json_body={"email": email, "password": password})
    assert (answer.status, answer.reason) == (401, "invalid_credentials")
    assert (
        answer.get(
            "www-authenticate",
        )
        is not None
    )
    assert email not in answer.body.decode()


def test_refresh_rotates_and_a_reuse_ends_the_family(gateway: Running) -> None:
    first = gateway.sign_in("rotate@example.com")
    second = gateway.call(
        "POST", "/auth/refresh", json_body={"refresh_token": first["refresh_token"]}
    )
    assert second.status == 200
    assert second.json["refresh_token"] != first["refresh_token"]
    assert second.json["refresh_expires_in"] <= 604800
    grace = gateway.call(
        "POST", "/auth/refresh", json_body={"refresh_token": first["refresh_token"]}
    )
    assert grace.status == 200
    assert grace.json["refresh_token"] == second.json["refresh_token"]
    reuse = gateway.call(
        "POST",
        "/auth/refresh",
        ("User-Agent", "a thief's"),
        json_body={"refresh_token": first["refresh_token"]},
    )
    assert (reuse.status, reuse.reason) == (401, "refresh_token_reused")
    dead = gateway.call("GET", "/me", token=second.json["access_token"])
    assert (dead.status, dead.reason) == (401, "token_revoked")
    gone = gateway.call(
        "POST", "/auth/refresh", json_body={"refresh_token": second.json["refresh_token"]}
    )
    assert gone.status == 401


def test_an_unknown_refresh_token_is_invalid(gateway: Running) -> None:
    answer = gateway.call("POST", "/auth/refresh", json_body={"refresh_token": "x" * 43})
    assert (answer.status, answer.reason) == (401, "invalid_refresh_token")


def test_logout_holds_at_once_and_may_be_repeated(gateway: Running) -> None:
    session = gateway.sign_in("leave@example.com")
    token = session["access_token"]
    assert gateway.call("GET", "/me", token=token).status == 200
    answer = gateway.call("POST", "/auth/logout", token=token)
    assert (answer.status, answer.body) == (204, b"")
    refused = gateway.call("GET", "/me", token=token)
    assert (refused.status, refused.reason) == (401, "token_revoked")
    assert 'error="invalid_token"' in (refused.get("www-authenticate") or "")
    assert gateway.call("POST", "/auth/logout", token=token).status == 204
    late = gateway.call(
        "POST", "/auth/refresh", json_body={"refresh_token": session["refresh_token"]}
    )
    assert late.status == 401


def test_logout_by_refresh_token_and_of_all_sessions(gateway: Running) -> None:
    one, two = gateway.sign_in("all@example.com"), gateway.sign_in("all@example.com")
    three = gateway.sign_in("all@example.com")
    body: dict[str, Any] = {"refresh_token": one["refresh_token"]}
    assert gateway.call("POST", "/auth/logout", json_body=body).status == 204
    assert gateway.call("GET", "/me", token=one["access_token"]).status == 401
    assert gateway.call("GET", "/me", token=two["access_token"]).status == 200
    answer = gateway.call(
        "POST", "/auth/logout", token=two["access_token"], json_body={"all": True}
    )
    assert answer.status == 204
    assert gateway.call("GET", "/me", token=three["access_token"]).status == 401


def test_own_sessions_are_listed_and_ended(gateway: Running) -> None:
    one, two = gateway.sign_in("many@example.com"), gateway.sign_in("many@example.com")
    me = gateway.call("GET", "/auth/me", token=two["access_token"]).json
    listed = gateway.call("GET", "/auth/sessions", token=one["access_token"])
    assert listed.status == 200
    assert me["session_id"] in listed.body.decode()
    ended = gateway.call("DELETE", f"/auth/sessions/{me['session_id']}", token=one["access_token"])
    assert ended.status == 204
    assert gateway.call("GET", "/me", token=two["access_token"]).status == 401
    other = gateway.sign_in("stranger@example.com")
    mine = gateway.call("GET", "/auth/me", token=one["access_token"]).json["session_id"]
    stolen = gateway.call("DELETE", f"/auth/sessions/{mine}", token=other["access_token"])
    assert stolen.status == 404
    assert gateway.call("GET", "/me", token=one["access_token"]).status == 200


@pytest.mark.parametrize(
    ("body", "content_type", "status", "reason"),
    [
        (b"{", "application/json", 400, "body_malformed"),
        (b'{"email":"a@b.co","email":"c@d.co"}', "application/json", 400, "body_malformed"),
        (b'{"email":"\xff"}', "application/json", 400, "body_malformed"),
        (b"[" * 40 + b"]" * 40, "application/json", 400, "body_malformed"),
        (b'{"email":NaN}', "application/json", 400, "body_malformed"),
        (b"", "application/json", 400, "body_malformed"),
        (b"[]", "application/json", 422, "body_invalid"),
        (b"{}", "application/json", 422, "body_invalid"),
        (b'{"email":1,"password":"x"}', "application/json", 422, "body_invalid"),
        (
            b'{"email":"a@b.co","password":"x","admin":true}',
            "application/json",
            422,
            "body_invalid",
        ),
        (b"email=a", "application/x-www-form-urlencoded", 415, "media_type_unsupported"),
        (b'{"email":"' + b"a" * 70_000 + b'"}', "application/json", 413, "body_too_large"),
    ],
)
@pytest.mark.parametrize("path", ["/auth/register", "/auth/login"])
def test_a_bad_body_gets_the_contracts_answer(
    gateway: Running, path: str, body: bytes, content_type: str, status: int, reason: str
) -> None:
    answer = gateway.call("POST", path, ("Content-Type", content_type), body=body)
    assert (answer.status, answer.reason) == (status, reason)
    if reason == "body_invalid":
        assert all(set(e) == {"field", "problem"} for e in answer.json["errors"])
        assert answer.json["errors"]


def test_a_weak_password_is_refused_with_a_hint(gateway: Running) -> None:
    body = {"email": "weak@example.com", "password": "password1"}
    answer = gateway.call("POST", "/auth/register", json_body=body)
    assert (answer.status, answer.reason) == (422, "weak_password")
    assert "password1" not in answer.body.decode()


def test_a_method_that_is_not_there_is_405_with_allow(gateway: Running) -> None:
    answer = gateway.call("GET", "/auth/login")
    assert (answer.status, answer.reason) == (405, "method_not_allowed")
    assert answer.get("allow") == "POST"
    assert gateway.call("GET", "/auth/nothing").reason == "route_unknown"
    assert gateway.call("GET", "/auth").reason == "route_unknown"
    assert gateway.call("GET", "/.well-known/other").reason == "route_unknown"


def test_no_more_than_five_of_thirty_guesses_are_evaluated(gateway: Running) -> None:
    gateway.sign_in("guess@example.com")
    answers: list[Answer] = []

    def guess(number: int) -> None:
        body = {"email": "guess@example.com", "password": f"wrong password {number}"}
        answers.append(gateway.call("POST", "/auth/login", json_body=body))

    threads = [threading.Thread(target=guess, args=(n,)) for n in range(30)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    evaluated = [a for a in answers if a.status == 401]
    assert len(answers) == 30
    assert 1 <= len(evaluated) <= 5
    refused = [a for a in answers if a.status == 429]
    assert len(refused) == 30 - len(evaluated)
    assert {a.reason for a in refused} == {"too_many_attempts"}
    assert all(int(a.get("retry-after") or 0) >= 1 for a in refused)


def test_a_role_change_outdates_live_tokens_at_once(gateway: Running) -> None:
    session = gateway.sign_in("roles@example.com")
    granted = gateway.cli("roles", "grant", "roles@example.com", "manager")
    assert granted.returncode == 0, granted.stderr
    old = gateway.call("GET", "/me", token=session["access_token"])
    assert (old.status, old.reason) == (401, "token_outdated")
    fresh = gateway.call(
        "POST", "/auth/refresh", json_body={"refresh_token": session["refresh_token"]}
    )
    assert fresh.status == 200
    assert fresh.json["user"]["roles"] == ["manager"]
    assert (
        gateway.call("GET", "/v1/users/other/orders/7", token=fresh.json["access_token"]).status
        == 200
    )


def test_a_disabled_account_is_out_at_once_and_told_only_after_its_password(
    gateway: Running,
) -> None:
    session = gateway.sign_in("off@example.com")
    assert gateway.cli("users", "disable", "off@example.com").returncode == 0
    dead = gateway.call("GET", "/me", token=session["access_token"])
    assert (dead.status, dead.reason) == (401, "token_revoked")
    right = gateway.call(
        "POST", "/auth/login", json_body={"email": "off@example.com", "password": PASSWORD}
    )
    assert (right.status, right.reason) == (403, "account_disabled")
    wrong = gateway.call(
        "POST", "/auth/login", json_body={"email": "off@example.com", "password": "wrong one 123"}
    )
    assert (wrong.status, wrong.reason) == (401, "invalid_credentials")


@pytest.mark.parametrize(
    ("kind", "target"), [("user", "revoke@example.com"), ("session", "sid"), ("token", "jti")]
)
def test_gateway_revoke_holds_at_once(gateway: Running, kind: str, target: str) -> None:
    import jwt

    session = gateway.sign_in("revoke@example.com")
    claims = jwt.decode(session["access_token"], options={"verify_signature": False})
    assert gateway.call("GET", "/me", token=session["access_token"]).status == 200
    done = gateway.confirmed("revoke", kind, claims.get(target, target))
    assert done.returncode == 0, done.stderr
    refused = gateway.call("GET", "/me", token=session["access_token"])
    assert (refused.status, refused.reason) == (401, "token_revoked")


def test_the_metadata_documents_name_the_issuer(gateway: Running) -> None:
    answer = gateway.call("GET", "/.well-known/oauth-authorization-server")
    assert answer.status == 200
    assert answer.json["issuer"] == f"http://127.0.0.1:{gateway.port}"
    assert answer.json["jwks_uri"].endswith("/.well-known/jwks.json")


def test_no_secret_is_ever_logged(gateway: Running) -> None:
    session = gateway.sign_in("logged@example.com")
    gateway.call("GET", "/me", token=session["access_token"])
    gateway.call("POST", "/auth/logout", token=session["access_token"])
    log = gateway.log.read_text()
    for secret in (session["access_token"], session["refresh_token"], PASSWORD):
        assert secret not in log
    assert "Traceback" not in log
    assert not re.search(r"eyJ[A-Za-z0-9_-]{20,}", log)


def test_problem_documents_have_every_member(gateway: Running) -> None:
    answer = gateway.call("GET", "/me")
    assert (answer.status, answer.reason) == (401, "no_credential")
    assert set(answer.json) == {"type", "title", "status", "detail", "reason", "request_id"}
    assert answer.json["status"] == 401
    assert answer.get("proxy-status")
    challenge = answer.get("www-authenticate") or ""
    assert challenge.startswith("Bearer realm=")
    assert "error=" not in challenge
    assert answer.json["request_id"] == answer.get("x-request-id")
    assert json.loads(answer.body)


def test_a_session_that_is_renewed_all_the_time_waits_and_goes_on(gateway: Running) -> None:
    token = gateway.sign_in("renewed@example.com")["refresh_token"]
    for _ in range(400):
        answer = gateway.call("POST", "/auth/refresh", json_body={"refresh_token": token})
        if answer.status == 429:
            break
        assert answer.status == 200
        token = answer.json["refresh_token"]
    assert answer.reason == "rate_limited"
    wait_as_told(answer)
    again = gateway.call("POST", "/auth/refresh", json_body={"refresh_token": token})
    assert again.status == 200

"""Settings that are secret: none is shown, none is weak, and each may lie in a file of its own."""

from __future__ import annotations

import base64
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.app.settings import SettingsError, load
from tests.app.test_settings import SECRET, problems, read


def test_no_secret_is_shown_by_repr() -> None:
    settings = read(
        key_secret=SECRET,
        password_pepper="p" * 20 + "pepper",
        database_url="postgresql://user:hunter2@db/gateway",
        redis_url="redis://:hunter2@cache",
        smtp_url="smtp://user:hunter2@mail",
        mail_from="a@example.com",
    )
    shown = repr(settings) + str(settings)
    for secret in (SECRET, "pppp", "hunter2"):
        assert secret not in shown


@pytest.mark.parametrize(
    "name", ["key_secret", "password_pepper", "database_url", "redis_url", "smtp_url"]
)
def test_no_secret_is_shown_by_a_problem(name: str) -> None:
    with pytest.raises(SettingsError) as caught:
        read(**{name: "hunter2"})
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    "weak",
    [
        "",
        "secret",
        "00" * 31,
        "00" * 32,
        "correct-horse-battery-staple-correct-horse",
        base64.b64encode(b"a" * 32).decode(),
        base64.b64encode(b"correct horse battery staple! and more").decode(),
        bytes(range(8)).hex() * 4,
    ],
)
def test_a_weak_key_secret_is_refused(weak: str) -> None:
    with pytest.raises(SettingsError):
        read(public_url="https://gateway.example.com", key_secret=weak)


@given(st.binary(min_size=32, max_size=64).filter(lambda b: len(set(b[:32])) >= 16))
def test_a_random_key_secret_is_taken_in_base64_and_hex(secret: bytes) -> None:
    if secret.isascii():
        return
    for text in (base64.b64encode(secret), base64.urlsafe_b64encode(secret).rstrip(b"=")):
        assert read(key_secret=text.decode()).key_secret_bytes() == secret
    assert read(key_secret=secret.hex()).key_secret_bytes() == secret


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://authgate:4711/hidden@db.internal/authgate",
        "postgresql://authgate:4711?hidden@db.internal/authgate",
        "redis://:4711/hidden@redis.internal/0",
    ],
)
def test_a_password_that_ends_the_name_of_the_host_is_refused_and_not_shown(url: str) -> None:
    """All behind it would be read, and shown, as the name of the database."""
    name = "GATEWAY_REDIS_URL" if url.startswith("redis") else "GATEWAY_DATABASE_URL"
    with pytest.raises(SettingsError) as refused:
        load({name: url}, env_file=None)
    assert "%2F" in str(refused.value)
    assert "hidden" not in str(refused.value)


def test_a_secret_may_be_in_a_file_of_its_own(tmp_path: Path) -> None:
    """As Docker, Compose and Kubernetes hand them over: no variable shows them."""
    for name, text in {
        "database_url": "postgresql://authgate:p%23w@db/authgate\n",
        "redis_url": "redis://:pw@redis:6379/0\r\n",
        "key_secret": SECRET,
        "password_pepper": "a pepper of two words\n",
        "smtp_url": "smtps://user:pw@mail.example.com\n",
    }.items():
        (tmp_path / name).write_text(text, newline="")
    files = {f"{path.name}_file": str(path) for path in tmp_path.iterdir()}
    settings = read(**files, mail_from="a@example.com")
    assert settings.database_url == "postgresql://authgate:p%23w@db/authgate"
    assert settings.redis_url == "redis://:pw@redis:6379/0"
    assert settings.key_secret_bytes() == base64.b64decode(SECRET)
    assert settings.password_pepper is not None
    assert settings.password_pepper.get_secret_value() == "a pepper of two words"
    assert settings.smtp_url == "smtps://user:pw@mail.example.com"


def test_a_file_of_settings_may_name_one_too(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text(SECRET)
    file = tmp_path / "env"
    file.write_text(f"GATEWAY_KEY_SECRET_FILE='{tmp_path}/secret'\n")
    assert load({}, env_file=file).key_secret_bytes() == base64.b64decode(SECRET)


def test_a_secret_that_cannot_be_read_from_its_file_is_a_problem_of_that_name(
    tmp_path: Path,
) -> None:
    (tmp_path / "empty").write_text("\n")
    (tmp_path / "long").write_text("x" * 9000)
    (tmp_path / "bytes").write_bytes(b"\xff\xfe")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "wrong").write_text("short")
    told = {
        name: problems(key_secret_file=str(tmp_path / name))
        for name in ("missing", "empty", "long", "bytes", "pipe", ".", "wrong")
    }
    assert told["missing"] == {
        "GATEWAY_KEY_SECRET_FILE": f"{tmp_path}/missing: No such file or directory"
    }
    assert told["empty"] == {"GATEWAY_KEY_SECRET_FILE": f"{tmp_path}/empty is empty"}
    assert told["long"] == {"GATEWAY_KEY_SECRET_FILE": f"{tmp_path}/long has more than 8192 bytes"}
    assert told["bytes"] == {"GATEWAY_KEY_SECRET_FILE": f"{tmp_path}/bytes is not UTF-8"}
    for name in ("pipe", "."):
        assert "is not a file" in told[name]["GATEWAY_KEY_SECRET_FILE"]
    assert "GATEWAY_KEY_SECRET" in told["wrong"]


def test_a_secret_that_is_given_twice_is_refused(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text(SECRET)
    assert problems(key_secret=SECRET, key_secret_file=str(tmp_path / "secret")) == {
        "GATEWAY_KEY_SECRET_FILE": "GATEWAY_KEY_SECRET is given too: only one of them can count"
    }


def test_only_a_secret_has_a_file() -> None:
    assert "GATEWAY_LISTEN_FILE" in problems(listen_file="/run/secrets/listen")

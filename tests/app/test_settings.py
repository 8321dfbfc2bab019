"""Settings: every problem at once, unsafe combinations refused, and each as the page says."""

from __future__ import annotations

import base64
import re
import secrets
from pathlib import Path
from typing import Any

import email_validator  # noqa: F401 (the deadline of a property is not for importing it)
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.app.env_file import PREFIX
from gateway.app.setting_types import Address, parse_address
from gateway.app.settings import (
    Settings,
    SettingsError,
    load,
    load_for_configuration,
    names,
)

SECRET = base64.b64encode(secrets.token_bytes(32)).decode()


def full(environ: dict[str, str]) -> dict[str, str]:
    return {PREFIX + name.upper(): value for name, value in environ.items()}


def read(**environ: str) -> Settings:
    """The settings of an environment that holds nothing else."""
    return load(full(environ), env_file=None)


def problems(**environ: str) -> dict[str, str]:
    return problems_of(environ)


def problems_of(environ: dict[str, str], *, dev: bool = False) -> dict[str, str]:
    with pytest.raises(SettingsError) as caught:
        load(full(environ), env_file=None, dev=dev)
    return {problem.name: problem.text for problem in caught.value.problems}


def test_an_empty_environment_serves_loopback_with_embedded_stores() -> None:
    settings = read()
    assert settings.public_url == "http://127.0.0.1:8080"
    assert str(settings.listen) == "127.0.0.1:8080"
    assert settings.embedded_redis
    assert settings.database_url == "sqlite:///.gateway/gateway.db"
    assert not settings.off_loopback


def test_the_database_of_an_installation_that_names_none_lies_in_its_data_folder() -> None:
    assert read(data_dir="/var/lib/authgate").database_url == (
        "sqlite:////var/lib/authgate/gateway.db"
    )
    assert read(data_dir="kept").database_url == "sqlite:///kept/gateway.db"
    elsewhere = read(data_dir="/var/lib/authgate", database_url="sqlite:///other.db")
    assert elsewhere.database_url == "sqlite:///other.db"


def test_every_problem_is_listed_at_once() -> None:
    found = problems(
        listen="8080", workers="many", access_ttl_s="soon", signing_alg="none", drain_s="-1"
    )
    assert set(found) == {
        "GATEWAY_LISTEN",
        "GATEWAY_WORKERS",
        "GATEWAY_ACCESS_TTL_S",
        "GATEWAY_SIGNING_ALG",
        "GATEWAY_DRAIN_S",
    }


def test_a_problem_says_what_would_be_right() -> None:
    assert "RS256, ES256 or EdDSA" in problems(signing_alg="HS256")["GATEWAY_SIGNING_ALG"]
    assert "127.0.0.1:8080" in problems(listen="8080")["GATEWAY_LISTEN"]


def test_keys_rotate_each_quarter_and_an_operator_may_choose_another_period() -> None:
    assert read().key_rotation_s == 90 * 86_400
    assert read(key_rotation_s="0").key_rotation_s == 0
    assert read(key_rotation_s="86400").key_rotation_s == 86_400
    for wrong in ("3600", "-1", "90d", "1000000000"):
        assert "86400" in problems(key_rotation_s=wrong)["GATEWAY_KEY_ROTATION_S"]


def test_an_unknown_name_is_refused_and_the_nearest_one_named() -> None:
    assert "GATEWAY_LISTEN" in problems(lisetn="127.0.0.1:1")["GATEWAY_LISETN"]


def test_an_unknown_name_that_resembles_nothing_is_refused_all_the_same() -> None:
    assert problems(qqqqqqqq="1") == {"GATEWAY_QQQQQQQQ": "there is no such setting"}


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("CLIENT_STALL_S", "GATEWAY_CLIENT_WRITE_TIMEOUT_S"),
        ("AUDIT_KEEP_DAYS", "GATEWAY_AUDIT_RETENTION_DAYS"),
    ],
)
def test_a_renamed_setting_is_refused_and_its_new_name_told(old: str, new: str) -> None:
    assert problems(**{old.lower(): "60"}) == {
        f"GATEWAY_{old}": f"renamed to `{new}` in 0.1; `gateway config migrate` writes it"
    }


def test_a_secret_for_an_upstream_is_no_setting() -> None:
    assert "hidden" not in repr(read(SECRET_API_TOKEN="hidden"))


def test_an_empty_value_counts_as_not_given() -> None:
    assert read(workers="", key_secret="") == read()


def test_a_variable_of_another_program_is_none_of_ours() -> None:
    assert load({"GATEWA_LISTEN": "x", "PATH": "/bin"}, env_file=None) == read()


def test_the_file_is_read_and_the_environment_wins(tmp_path: Path) -> None:
    file = tmp_path / ".env"
    file.write_text("GATEWAY_WORKERS=3\nGATEWAY_DRAIN_S=7 # a remark\nOTHER=1\n")
    settings = load({"GATEWAY_WORKERS": "2"}, env_file=file)
    assert (settings.workers, settings.drain_s) == (2, 7)


def test_the_file_is_never_expanded(tmp_path: Path) -> None:
    """A secret may hold a dollar sign."""
    file = tmp_path / ".env"
    file.write_text("GATEWAY_PASSWORD_PEPPER='0123456789abcdef$HOME'\n")
    pepper = load({}, env_file=file).password_pepper
    assert pepper is not None
    assert pepper.get_secret_value() == "0123456789abcdef$HOME"


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://user:hunter2@db:543x/gateway",
        "postgresql://user:hunter2@db:99999/gateway",
        "postgresql://user:hunter2@[::1/gateway",
        "postgresql://user:hunter2/@db/gateway",
        "redis://:hunter2@cache:abc",
        "rediss://:hunter2@cache:0/1",
        "redis+sentinel://:hunter2@one:26379,two:x/main",
    ],
)
def test_a_store_that_no_waiting_brings_is_a_problem_and_its_password_is_not_shown(
    url: str,
) -> None:
    """Such a gateway would start, and say for ever that it waits for the store."""
    name = "redis_url" if url.startswith("redis") else "database_url"
    found = problems(**{name: url})
    assert set(found) == {PREFIX + name.upper()}
    assert "HOST:PORT" in str(found)
    assert "hunter2" not in str(found)


@pytest.mark.parametrize(
    ("name", "url"),
    [
        ("database_url", "postgresql://user:p%2Fw@db.example.com:5432/gateway?sslmode=require"),
        ("database_url", "postgresql://one:5432,two:5433/gateway?target_session_attrs=primary"),
        ("database_url", "postgresql://user@[::1]:5432/gateway"),
        ("database_url", "postgresql:///gateway?host=/run/postgresql"),
        ("database_url", "postgresql://user:a:b@db/gateway"),
        ("redis_url", "redis://:p@ss@cache:6379/1"),
        ("redis_url", "rediss://[::1]:6380"),
        ("redis_url", "unix:///run/valkey.sock?db=1"),
        ("redis_url", "redis+sentinel://one:26379,two:26379/main"),
    ],
)
def test_every_form_of_a_store_that_can_be_there_is_taken(name: str, url: str) -> None:
    assert getattr(read(**{name: url}), name) == url


@pytest.mark.parametrize("name", ["issuer", "audience"])
@pytest.mark.parametrize("value", [" ", " https://a.example.com", "https://a.example.com\n", "a\0"])
def test_an_issuer_or_audience_that_no_eye_tells_from_another_is_refused(
    name: str, value: str
) -> None:
    assert set(problems(**{name: value})) == {PREFIX + name.upper()}


@pytest.mark.parametrize(
    "value", ["nonsense", "a@b@c", "<a@b", "A a@example.com", "a@example.com\r\nBcc: b@example.com"]
)
def test_a_sender_that_no_letter_can_have_is_refused(value: str) -> None:
    assert set(problems(mail_from=value)) == {PREFIX + "MAIL_FROM"}


@pytest.mark.parametrize("value", ["no-reply@example.com", "Example, Inc. <it@example.com>"])
def test_a_sender_is_an_address_with_or_without_a_name(value: str) -> None:
    assert read(mail_from=value).mail_from == value


def test_settings_cannot_be_changed() -> None:
    with pytest.raises(ValueError, match="frozen"):
        read().workers = 2


@pytest.mark.parametrize(
    ("environ", "named"),
    [
        ({"public_url": "http://gateway.example.com", "key_secret": SECRET}, "PUBLIC_URL"),
        ({"listen": "0.0.0.0:8080", "key_secret": SECRET}, "PUBLIC_URL"),
        ({"public_url": "https://gateway.example.com"}, "KEY_SECRET"),
        ({"listen": "[::]:8080", "public_url": "https://127.0.0.1"}, "KEY_SECRET"),
        ({"tls_cert": __file__}, "TLS_KEY"),
        ({"tls_key": __file__}, "TLS_CERT"),
        ({"tls_cert": "/nowhere.pem", "tls_key": __file__}, "TLS_CERT"),
        ({"listen": "127.0.0.1:1", "admin_listen": "127.0.0.1:1"}, "ADMIN_LISTEN"),
        ({"access_ttl_s": "900", "max_token_life_s": "600"}, "ACCESS_TTL_S"),
        ({"access_ttl_s": "900", "refresh_ttl_s": "600"}, "REFRESH_TTL_S"),
        ({"smtp_url": "smtp://mail.example.com"}, "MAIL_FROM"),
        ({"admin_url": "http://admin.example.com"}, "ADMIN_URL"),
        ({"admin_url": "http://127.0.0.1:8080"}, "ADMIN_URL"),
        ({"admin_url": "https://admin.example.com/admin"}, "ADMIN_URL"),
    ],
)
def test_an_unsafe_combination_is_refused(environ: dict[str, str], named: str) -> None:
    assert set(problems(**environ)) == {PREFIX + named}


def test_a_gateway_behind_tls_may_listen_everywhere() -> None:
    settings = read(
        listen="0.0.0.0:8080", public_url="https://gateway.example.com", key_secret=SECRET
    )
    assert settings.off_loopback
    assert settings.token_issuer == settings.token_audience == "https://gateway.example.com"


@pytest.mark.parametrize(
    ("environ", "named"),
    [
        ({"listen": "0.0.0.0:8080"}, "LISTEN"),
        ({"admin_listen": "10.0.0.1:9901"}, "ADMIN_LISTEN"),
        ({"public_url": "https://gateway.example.com"}, "PUBLIC_URL"),
        ({"database_url": "postgresql://db/gateway"}, "DATABASE_URL"),
        ({"redis_url": "redis://cache"}, "REDIS_URL"),
        ({"workers": "2"}, "WORKERS"),
    ],
)
def test_dev_serves_loopback_with_its_own_stores_only(environ: dict[str, str], named: str) -> None:
    assert PREFIX + named in problems_of(environ, dev=True)


def test_dev_neither_verifies_addresses_nor_waits_to_drain() -> None:
    settings = load({}, env_file=None, dev=True)
    assert (settings.email_verification, settings.drain_s) == ("off", 0)
    assert read().email_verification == "required"


def test_the_public_url_follows_the_listener_on_loopback() -> None:
    assert read(listen="127.0.0.1:9999").public_url == "http://127.0.0.1:9999"
    assert read(listen="[::1]:9999").public_url == "http://[::1]:9999"


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1:80", Address("127.0.0.1", 80)),
        ("[::1]:80", Address("::1", 80)),
        ("localhost:80", Address("127.0.0.1", 80)),
        ("0.0.0.0:65535", Address("0.0.0.0", 65535)),
    ],
)
def test_an_address_is_host_and_port(text: str, address: Address) -> None:
    assert parse_address(text) == address
    assert parse_address(str(address)) == address


@pytest.mark.parametrize(
    "text", ["", ":80", "80", "127.0.0.1:", "127.0.0.1:65536", "127.0.0.1:８0", "a.example:80"]
)
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"must|is not"):
        parse_address(text)


@pytest.mark.parametrize(
    "url",
    ["gateway", "ftp://h", "http://", "http://u@127.0.0.1", "http://127.0.0.1/path", "http://h:x"],
)
def test_a_public_url_is_an_origin_alone(url: str) -> None:
    assert "GATEWAY_PUBLIC_URL" in problems(public_url=url)


def test_the_default_port_and_the_final_slash_are_dropped_from_the_public_url() -> None:
    assert read(public_url="HTTPS://LocalHost:443/").public_url == "https://localhost"


def test_networks_are_a_list_of_addresses_and_blocks() -> None:
    settings = read(trusted_proxies="10.0.0.0/8, 192.0.2.1,2001:db8::/32")
    assert [str(network) for network in settings.trusted_proxies] == [
        "10.0.0.0/8",
        "192.0.2.1/32",
        "2001:db8::/32",
    ]


@pytest.mark.parametrize("everybody", ["0.0.0.0/0", "::/0", "10.0.0.0/8, 0.0.0.0/0"])
def test_everybody_is_no_trusted_proxy(everybody: str) -> None:
    assert "that is everybody" in problems(trusted_proxies=everybody)["GATEWAY_TRUSTED_PROXIES"]


@given(st.dictionaries(st.sampled_from(names()), st.text(max_size=40)))
def test_any_values_give_settings_or_a_list_of_problems(environ: dict[str, str]) -> None:
    found: list[str] = []
    try:
        load(environ, env_file=None)
    except SettingsError as error:
        found = [problem.name for problem in error.problems] or ["an error without a problem"]
    assert all(name.startswith(PREFIX) for name in found)


def documented() -> dict[str, str]:
    """name -> default, from the table of docs/configuration.md."""
    page = Path(__file__).parents[2] / "docs" / "configuration.md"
    rows = re.findall(r"^\| `(GATEWAY_[A-Z_]+)` \| ([^|]*) \|", page.read_text("utf-8"), re.M)
    return {name: default.strip() for name, default in rows}


def test_the_documentation_lists_exactly_the_settings_there_are() -> None:
    assert sorted(documented()) == sorted(names())


@pytest.mark.parametrize("name", names())
def test_the_documented_default_is_the_default(name: str) -> None:
    field = Settings.model_fields[name.removeprefix(PREFIX).lower()]
    # The database's follows the data folder's.
    default: Any = read().database_url if name == "GATEWAY_DATABASE_URL" else field.default
    shown = {None: "none", (): "empty", "": "the public URL"}.get(default, f"`{default}`")
    assert documented()[name] == shown


def test_an_option_of_a_url_may_hold_an_at_sign() -> None:
    url = "redis+sentinel://s1:26379/main?sentinel_password=a@b"
    assert load({"GATEWAY_REDIS_URL": url}, env_file=None).redis_url == url


@pytest.mark.parametrize("prefix", ["/auth", "/_auth", "/a/b-c/d~", "/AUTH2"])
def test_the_endpoints_lie_at_a_plain_path(prefix: str) -> None:
    assert read(auth_prefix=prefix).own_paths.endpoint("login") == f"{prefix}/login"


@pytest.mark.parametrize(
    "prefix",
    ["auth", "/", "/auth/", "//auth", "/{a}", "/a.b", "/..", "/.well-known", "/.well-known/x", "/a%2fb",
     "/a b", "/a?b", "/ä", "/a;b", "/" + "a" * 64, "/healthz", "/readyz/x", "/metrics", "/admin", "/decide"],
)  # fmt: skip
def test_no_other_path_can_be_the_prefix(prefix: str) -> None:
    assert list(problems(auth_prefix=prefix)) == ["GATEWAY_AUTH_PREFIX"]


@pytest.mark.parametrize(
    ("environ", "hosts"),
    [
        ({}, {"127.0.0.1", "[::1]", "localhost"}),
        ({"listen": "[::1]:80"}, {"127.0.0.1", "[::1]", "localhost"}),
        ({"public_url": "https://Gate.example.com:8443"}, {"gate.example.com"}),
        (
            {"public_url": "https://gate.example.com", "issuer": "https://id.example.com/a"},
            {"gate.example.com", "id.example.com"},
        ),
        ({"public_url": "https://gate.example.com", "issuer": "corp"}, {"gate.example.com"}),
        ({"public_url": "https://[2001:db8::1]"}, {"[2001:db8::1]"}),
    ],
)
def test_documents_are_on_the_hosts_of_the_public_url_and_of_the_issuer(
    environ: dict[str, str], hosts: set[str]
) -> None:
    assert load_for_configuration(full(environ), env_file=None).own_paths.hosts == frozenset(hosts)


def test_who_reads_a_configuration_needs_no_other_setting_to_be_good() -> None:
    environ = full({"auth_prefix": "/_auth", "workers": "many", "tls_cert": "/nowhere"})
    assert load_for_configuration(environ, env_file=None).auth_prefix == "/_auth"


def test_serve_is_for_the_invited_and_dev_for_everybody() -> None:
    assert read().registration == "invited"
    assert load({}, env_file=None, dev=True).registration == "open"
    assert load(full({"registration": "closed"}), env_file=None, dev=True).registration == "closed"


def test_domains_are_kept_as_addresses_have_them() -> None:
    settings = read(registration_domains="Example.com, bücher.example,")
    assert settings.registration_rules.domains == {"example.com", "xn--bcher-kva.example"}
    wrong = problems(registration_domains="example.com,*.example.com,@x.com")
    assert "holds *.example.com, @x.com" in wrong["GATEWAY_REGISTRATION_DOMAINS"]


def test_domains_of_open_registration_need_confirmed_addresses() -> None:
    open_to_some = {"registration": "open", "registration_domains": "example.com"}
    for verification in ("off", "optional"):
        wrong = problems_of(open_to_some | {"email_verification": verification})
        assert list(wrong) == ["GATEWAY_REGISTRATION_DOMAINS"]
    assert (
        read(**open_to_some).registration_rules.anybody == "anybody with an address of example.com"
    )
    assert read(
        registration_domains="example.com", email_verification="off"
    ).registration_rules.domains


@pytest.mark.parametrize(
    ("chosen", "uses_pages", "pages"),
    [
        ("auto", True, "/sso/ui"),
        ("auto", False, None),
        ("pages", False, "/sso/ui"),
        ("application", True, None),
    ],
)
def test_mailed_links_lead_where_the_setting_or_else_the_configuration_says(
    chosen: str, uses_pages: bool, pages: str | None
) -> None:
    settings = read(mail_links=chosen, auth_prefix="/sso")
    assert settings.pages_of_links(lambda: uses_pages) == pages


def test_the_listener_of_grpc_has_an_address_of_its_own() -> None:
    def problem(**environ: str) -> str:
        with pytest.raises(SettingsError) as error:
            load(environ, env_file=None)
        return str(error.value)

    name = "GATEWAY_EXT_AUTHZ_LISTEN"
    assert load({}, env_file=None).ext_authz_listen is None
    assert load({name: "127.0.0.1:9191"}, env_file=None).ext_authz_listen is not None
    for taken in ("127.0.0.1:8080", "127.0.0.1:9901"):
        assert f"{name}: must differ from" in problem(**{name: taken})
    assert f"{name}: must name a port" in problem(**{name: "127.0.0.1:0"})
    assert f"{name}: is not HOST:PORT" in problem(**{name: "9191"})


def test_without_its_library_grpc_is_refused_with_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def find_spec(name: str) -> None:
        del name

    monkeypatch.setattr("gateway.app.setting_types.find_spec", find_spec)
    with pytest.raises(SettingsError, match=r"pip install 'authgate\[grpc\]'"):
        load({"GATEWAY_EXT_AUTHZ_LISTEN": "127.0.0.1:9191"}, env_file=None)

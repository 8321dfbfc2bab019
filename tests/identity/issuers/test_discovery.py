"""Where an issuer may say that its keys are."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gateway.identity.issuers.discovery import (
    DISCOVERY_BYTES_MAX,
    discovery_url,
    origin,
    read_discovery,
)
from gateway.identity.issuers.jwk_set import DocumentRefused
from tests.identity.issuers.provider import KEYS_URL, URL, discovery, issuer


def refused(raw: bytes, **changed: Any) -> str:
    with pytest.raises(DocumentRefused) as told:
        read_discovery(raw, issuer(**changed))
    return str(told.value)


@pytest.mark.parametrize(
    ("of", "url"),
    [
        ({"issuer": "https://a.example"}, "https://a.example/.well-known/openid-configuration"),
        ({"issuer": "https://a.example/"}, "https://a.example/.well-known/openid-configuration"),
        ({"issuer": "https://a.example/b"}, "https://a.example/b/.well-known/openid-configuration"),
        ({"discovery": "https://x.example/d"}, "https://x.example/d"),
    ],
)
def test_the_discovery_is_where_the_specification_says(of: dict[str, str], url: str) -> None:
    assert discovery_url(issuer(**of)) == url


def test_the_endpoints_are_read() -> None:
    found = read_discovery(discovery(introspection_endpoint=f"{URL}/introspect"), issuer())
    assert (found.jwks_uri, found.introspection) == (KEYS_URL, f"{URL}/introspect")
    found = read_discovery(json.dumps({"issuer": URL}).encode(), issuer())
    assert (found.jwks_uri, found.introspection) == (None, None)


@pytest.mark.parametrize("named", [URL + "/", URL.upper(), "https://evil.example", None, [URL]])
def test_a_discovery_of_another_issuer_is_refused(named: Any) -> None:
    told = refused(discovery(issuer=named))
    assert told.startswith("the discovery is of the issuer ")
    assert told.endswith(f"not of {URL}")


@pytest.mark.parametrize(
    "elsewhere",
    [
        "https://evil.example/certs",
        "https://id.example.com:8443/certs",
        "https://sub.id.example.com/certs",
    ],
)
def test_keys_of_another_origin_must_be_named_by_the_configuration(elsewhere: str) -> None:
    told = refused(discovery(jwks_uri=elsewhere))
    assert "has another origin than the issuer" in told
    assert "name it as jwks_uri" in told
    told = refused(discovery(introspection_endpoint=elsewhere))
    assert "name it as introspection.endpoint" in told


def test_the_standard_port_is_the_same_origin() -> None:
    url = "https://ID.example.com:443/certs"
    assert read_discovery(discovery(jwks_uri=url), issuer()).jwks_uri == url


@pytest.mark.parametrize(
    "url",
    [
        "http://id.example.com/certs",
        "ftp://id.example.com/certs",
        "file:///etc/passwd",
        "//id.example.com/certs",
        "https:///certs",
        "https://user@id.example.com/certs",
        "https://id.example.com/certs#x",
        "https://id.example.com\\@evil.example/",
        "https://id.example.com/a b",
        "https://id.example.com/é",
        "https://id.example.com:port/",
        "https://[::1/",
        "https://id.example.com/" + "x" * 2048,
        7,
        ["https://id.example.com/certs"],
        "",
    ],
)
def test_what_is_no_https_url_is_refused(url: Any) -> None:
    assert refused(discovery(jwks_uri=url)) == "the jwks_uri of the discovery is no https URL"


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "127.1.2.3", "[::1]"])
def test_http_is_good_for_this_machine_alone(host: str) -> None:
    assert origin(f"http://{host}:8080/x") == ("http", host.strip("[]"), 8080)
    assert origin(f"http://{host}/x") == ("http", host.strip("[]"), 80)


@pytest.mark.parametrize("host", ["localhost.example.com", "10.0.0.1", "127.0.0.1.example.com"])
def test_http_is_good_for_nobody_else(host: str) -> None:
    assert origin(f"http://{host}/") is None


@pytest.mark.parametrize("raw", [b"", b"\xff", b"[]", b"<html>", b'{"issuer":1,"issuer":2}'])
def test_what_is_no_discovery_is_refused(raw: bytes) -> None:
    assert refused(raw).startswith("the discovery is ")


def test_a_discovery_is_read_up_to_64_kib() -> None:
    raw = discovery()
    read_discovery(raw + b" " * (DISCOVERY_BYTES_MAX - len(raw)), issuer())
    told = refused(raw + b" " * (DISCOVERY_BYTES_MAX - len(raw) + 1))
    assert told == "the discovery has more than 64 KiB"


def test_a_discovery_with_half_of_a_surrogate_pair_is_refused() -> None:
    raw = discovery(name="x").replace(b'"x"', b'"\\ud800"')
    assert refused(raw).startswith("the discovery is no JSON")


def test_whose_discovery_it_is_is_told_as_far_as_a_line_goes() -> None:
    told = refused(discovery(issuer="https://e.example/" + "x" * 300))
    assert told == f"the discovery is of the issuer https://e.example/{'x' * 182}, not of {URL}"


def test_every_name_below_localhost_is_this_machine() -> None:
    # RFC 6761 section 6.3
    assert origin("http://id.localhost/") == ("http", "id.localhost", 80)


def test_the_longest_url_is_taken() -> None:
    url = "https://id.example.com/X"
    assert origin(url + "x" * (2048 - len(url)))
    assert origin(url + "x" * (2049 - len(url))) is None

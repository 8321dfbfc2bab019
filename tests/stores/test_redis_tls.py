"""rediss://: only the server that the CA vouches for is spoken to."""

from __future__ import annotations

import datetime
import ipaddress
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from gateway.stores.protocols import StoreUnavailable
from gateway.stores.redis import open_redis
from tests.servers import ServerEnded, ValkeyServer, free_port


def certificate(folder: Path, address: str) -> tuple[Path, Path]:
    """A self-signed one for an address, with its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "valkey")])
    now = datetime.datetime.now(datetime.UTC)
    signed = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(address))]), False
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), True)
        .sign(key, hashes.SHA256())
    )
    pem = folder / f"{address}.pem"
    pem.write_bytes(signed.public_bytes(serialization.Encoding.PEM))
    private = folder / f"{address}.key"
    private.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return pem, private


@pytest.fixture
def tls_port(own_valkey: Callable[..., ValkeyServer], tmp_path: Path) -> int:
    pem, private = certificate(tmp_path, "127.0.0.1")
    port = free_port()
    try:
        own_valkey(
            tls_port=str(port),
            tls_cert_file=str(pem),
            tls_key_file=str(private),
            tls_auth_clients="no",
        )
    except ServerEnded:
        pytest.skip("no server with TLS is here: apt-get install valkey-server")
    return port


async def test_a_server_that_the_ca_vouches_for_is_spoken_to(tls_port: int, tmp_path: Path) -> None:
    redis = open_redis(f"rediss://127.0.0.1:{tls_port}?ssl_ca_certs={tmp_path}/127.0.0.1.pem")
    assert await redis.call("ECHO", "a") == "a"
    await redis.close()


async def test_another_server_is_not(tls_port: int, tmp_path: Path) -> None:
    stranger, _ = certificate(tmp_path, "127.0.0.2")
    redis = open_redis(f"rediss://127.0.0.1:{tls_port}?ssl_ca_certs={stranger}")
    with pytest.raises(StoreUnavailable):
        await redis.call("PING")
    await redis.close()

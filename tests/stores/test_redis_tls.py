"""rediss://: only the server that the CA vouches for is spoken to."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from gateway.stores.protocols import StoreUnavailable
from gateway.stores.redis import open_redis
from tests.certificates import self_signed
from tests.ports import free_port
from tests.servers import ServerEnded, ValkeyServer


@pytest.fixture
def tls_port(own_valkey: Callable[..., ValkeyServer], tmp_path: Path) -> int:
    pem, private = self_signed("127.0.0.1").write(tmp_path)
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
    redis = open_redis(f"rediss://127.0.0.1:{tls_port}?ssl_ca_certs={tmp_path}/cert.pem")
    assert await redis.call("ECHO", "a") == "a"
    await redis.close()


async def test_another_server_is_not(tls_port: int, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    stranger, _ = self_signed("127.0.0.2").write(elsewhere)
    redis = open_redis(f"rediss://127.0.0.1:{tls_port}?ssl_ca_certs={stranger}")
    with pytest.raises(StoreUnavailable):
        await redis.call("PING")
    await redis.close()

"""HEALTHCHECK of the image: exit code 0 while the gateway of this container lives.

Asks /healthz where GATEWAY_ADMIN_LISTEN is.  Whether it can decide (/readyz) is for whoever
sends calls: a gateway whose store is away must not be restarted for it.
"""

import os
import socket
import sys

TIMEOUT_S = 4


def main() -> int:
    host, _, port = os.environ.get("GATEWAY_ADMIN_LISTEN", "127.0.0.1:9901").rpartition(":")
    host = host.strip("[]")
    # What listens on every address is asked on loopback, of the same family.
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    try:
        with socket.create_connection((host, int(port)), TIMEOUT_S) as connection:
            connection.settimeout(TIMEOUT_S)
            connection.sendall(
                b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
            )
            status = connection.recv(12)
    except (OSError, ValueError) as error:
        sys.stderr.write(f"/healthz at {host}:{port}: {error}\n")
        return 1
    if not status.endswith(b" 200"):
        sys.stderr.write(f"/healthz at {host}:{port}: {status!r}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Whether this container's role answers: exit status 0, or 1 with the reason.

    healthcheck.py [PORT PATH]

Without arguments: the metrics of a role that serves them on a port of its own, else the API's /livez. Only the standard
library, without its site packages: this runs every few seconds in every container.
"""
# ruff: noqa: INP001 - a script, in no package

from __future__ import annotations

import os
import socket
import sys

_TIMEOUT_S = 2.5


def where(arguments: list[str], environ: dict[str, str]) -> tuple[int, str]:
    """The port and path to ask, by arguments or as the role's settings say."""
    if arguments:
        port, path = arguments
        return int(port), path
    metrics = environ.get("TOCSIN_METRICS_PORT", "") or "0"
    return (int(metrics), "/metrics") if metrics != "0" else (int(environ.get("TOCSIN_PORT", "") or "8000"), "/livez")


def status_line(port: int, path: str) -> str:
    """The first line of the answer. Raises OSError when there is none."""
    with socket.create_connection(("127.0.0.1", port), timeout=_TIMEOUT_S) as connection:
        connection.sendall(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n".encode())
        return connection.makefile("r", encoding="latin-1").readline().strip()


def main() -> int:
    """Ask, and say what came."""
    port, path = where(sys.argv[1:], dict(os.environ))  # noqa: TID251 - no part of the product, which it asks from outside
    try:
        line = status_line(port, path)
    except OSError as error:
        line = f"no answer: {error}"
    print(f"port {port} {path}: {line}")  # noqa: T201 - Docker keeps it beside the state
    return 0 if line.startswith(("HTTP/1.0 200", "HTTP/1.1 200")) else 1


if __name__ == "__main__":
    sys.exit(main())

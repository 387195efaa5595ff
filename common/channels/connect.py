"""A TCP connection for channels that do not speak HTTP: resolve, judge by the egress policy, connect to just that."""

from __future__ import annotations

import asyncio
import socket

from common.channels.base import Network
from common.clock import monotonic_s
from common.domain.checks import Reason
from common.domain.egress import judge
from common.http.oserrors import OS_ERRORS

#: As the HTTP engine does: another address is tried when one refuses, not when one is silent.
_MAX_ADDRESSES = 3


class NoConnection(Exception):
    """There is no connection; the text says why, in the words that probes use."""


async def connect(network: Network, host: str, port: int, timeout_s: float) -> socket.socket:
    """A connected, non-blocking socket to a permitted address of `host`. Raises NoConnection."""
    deadline = monotonic_s() + timeout_s
    resolution = await network.resolver.resolve(host, timeout_s)
    if resolution.reason:
        raise NoConnection(f"{resolution.reason.label}: {resolution.message}")
    addresses = [address for address in resolution.addresses if judge(address, network.rules) is None]
    if not addresses:
        raise NoConnection(f"{Reason.EGRESS_DENIED.label}: the egress policy does not allow {host}")
    problem = ""
    for address in addresses[:_MAX_ADDRESSES]:
        try:
            return await _open(address, port, deadline - monotonic_s())
        except TimeoutError:
            problem = f"{Reason.CONNECT_TIMEOUT.label}: no connection to {host} in time"
            break
        except OSError as error:
            reason, words = OS_ERRORS.get(error.errno or 0, (Reason.UNREACHABLE, "could not connect to"))
            problem = f"{reason.label}: {words} {host}"
    raise NoConnection(problem)


async def _open(address: str, port: int, timeout_s: float) -> socket.socket:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        async with asyncio.timeout(max(timeout_s, 0.0)):
            await asyncio.get_running_loop().sock_connect(sock, (address, port))
    except BaseException:
        # A cancelled attempt must not leave its socket behind either.
        sock.close()
        raise
    return sock

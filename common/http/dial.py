"""A connected socket to a host that a user named: resolve, judge by the egress policy, connect to just that address."""

from __future__ import annotations

import asyncio
import socket
import time
from dataclasses import dataclass

from common.domain.checks import Phases, Reason
from common.domain.egress import EgressRules, judge
from common.http.oserrors import OS_ERRORS
from common.http.resolver import Resolver
from common.http.target import Host

#: As the HTTP engine does: another address is tried when one refuses, not when one is silent.
MAX_ADDRESSES = 3


class Trouble(Exception):
    """Why a target is not well; only between a conversation and whoever makes an observation of it."""

    def __init__(self, reason: Reason, message: str, *, address: str = "") -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message
        self.address = address


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a target is, as its monitor names it."""

    host: Host
    port: int

    def at(self, address: str) -> str:
        """Host, address and port, for messages."""
        place = f"[{address}]:{self.port}" if ":" in address else f"{address}:{self.port}"
        return place if self.host.address else f"{self.host.name} ({place})"


@dataclass(frozen=True, slots=True)
class Way:
    """What a connection is made with: names, rules, until when (`time.perf_counter`) and how long that was to be."""

    resolver: Resolver
    rules: EgressRules
    deadline: float
    timeout_s: float


async def permitted(host: Host, way: Way, phases: Phases) -> list[str]:
    """The addresses of a host that may be connected to, at least one. Raises Trouble."""
    asked = time.perf_counter()
    resolution = await way.resolver.resolve(host.name, way.deadline - asked)
    if not host.address:
        phases.dns_ms = (time.perf_counter() - asked) * 1000
    if resolution.reason:
        raise Trouble(resolution.reason, resolution.message)
    allowed = [address for address in resolution.addresses if judge(address, way.rules) is None]
    if not allowed:
        # The same words whatever the reason: what lies behind a name is not for strangers to map.
        raise Trouble(Reason.EGRESS_DENIED, f"the egress policy does not allow {host.name}")
    return allowed[:MAX_ADDRESSES]


async def dial(endpoint: Endpoint, way: Way, phases: Phases) -> tuple[socket.socket, str]:
    """A connected, non-blocking socket and the address it leads to. Raises Trouble."""
    trouble: Trouble | None = None
    for address in await permitted(endpoint.host, way, phases):
        begun = time.perf_counter()
        try:
            sock = await connect(address, endpoint.port, way.deadline - begun)
        except OSError as error:
            trouble = Trouble(*_explain(error, endpoint.at(address), way.timeout_s), address=address)
            if isinstance(error, TimeoutError):
                break
        else:
            phases.connect_ms = (time.perf_counter() - begun) * 1000
            return sock, address
    assert trouble is not None
    raise trouble


async def connect(address: str, port: int, timeout_s: float) -> socket.socket:
    """A connection to an address that was judged before. Raises OSError, TimeoutError without errno when time is up."""
    sock = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        async with asyncio.timeout(max(timeout_s, 0.0)):
            await asyncio.get_running_loop().sock_connect(sock, (address, port))
    except BaseException:
        # A cancelled attempt must not leave its socket behind either.
        sock.close()
        raise
    return sock


def _explain(error: OSError, where: str, timeout_s: float) -> tuple[Reason, str]:
    # Our own deadline has no errno; the kernel's ETIMEDOUT is in the table.
    if error.errno is None and isinstance(error, TimeoutError):
        return Reason.CONNECT_TIMEOUT, f"no connection to {where} within {timeout_s:.3g} s"
    reason, words = OS_ERRORS.get(error.errno or 0, (Reason.UNREACHABLE, "could not connect to"))
    return reason, f"{words} {where}"

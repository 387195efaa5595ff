"""Look names up without blocking anything: c-ares on its own event thread, answers cached, queries shared.

libcurl's resolver has a small thread pool in which dead names keep healthy ones waiting; c-ares has sockets and
timers only, so a name server that never answers for one name costs nobody else anything. A look-up is a name, both
families, IPv4 first; /etc/hosts, `localhost` and search domains count as they do for every other program.
"""

from __future__ import annotations

import asyncio
import functools
import socket
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import pycares

from common import log
from common.domain.checks import Reason
from common.http.target import parse_host

#: Per try. c-ares adapts it to what each server needs (250 ms at least) and doubles it from try to try.
TRY_TIMEOUT_S = 1.0
TRIES = 3
MIN_TTL_S = 1.0
MAX_TTL_S = 300.0
NEGATIVE_TTL_S = 1.0
#: c-ares keeps "no such name" for as long as the zone says, an hour maybe; we drop its cache this often instead.
FLUSH_S = 1.0
#: How often a channel is given up because no server takes a question (seconds).
RENEW_S = 5.0
_RECEIVE_BYTES = 1024 * 1024
#: ARES_AI_NOSORT of ares.h, which pycares does not name: sorting costs a socket per address, our order is IPv4 first.
_FLAGS = 1 << 7

_errno = pycares.errno
_NOT_FOUND = frozenset({_errno.ARES_ENOTFOUND, _errno.ARES_ENODATA, _errno.ARES_ENONAME, _errno.ARES_EBADNAME})
_REASONS: dict[int, tuple[Reason, str]] = {
    **dict.fromkeys(_NOT_FOUND, (Reason.DNS_NOT_FOUND, "no such host: {host}")),
    _errno.ARES_ETIMEOUT: (Reason.DNS_TIMEOUT, "no answer from DNS for {host}"),
    _errno.ARES_ESERVFAIL: (Reason.DNS_FAILED, "DNS could not resolve {host} (server failure)"),
    _errno.ARES_EREFUSED: (Reason.DNS_FAILED, "DNS refused to resolve {host}"),
    _errno.ARES_ECONNREFUSED: (Reason.DNS_UNREACHABLE, "no DNS server could be reached for {host}"),
}


@dataclass(frozen=True, slots=True)
class Resolution:
    """Addresses (IPv4 first, at least one) or the reason why there are none."""

    addresses: tuple[str, ...] = ()
    reason: Reason = Reason.NONE
    message: str = ""


class Resolver:
    """Resolves for one event loop; c-ares starts with the first look-up. `nameservers` like "127.0.0.1:5353"."""

    def __init__(
        self,
        nameservers: Sequence[str] = (),
        *,
        max_entries: int = 200_000,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._nameservers = tuple(nameservers)
        self._max_entries = max_entries
        self._monotonic = monotonic
        self._channel: pycares.Channel | None = None
        self._cache: dict[str, tuple[float, Resolution]] = {}
        self._in_flight: dict[str, asyncio.Future[Resolution]] = {}
        self._retired: pycares.Channel | None = None
        self._flushed_at = self._renewed_at = float("-inf")
        self._broken = False

    def cached(self, host: str) -> Resolution | None:
        """A fresh answer that needs no waiting, if there is one: the hot path, without a coroutine."""
        entry = self._cache.get(host)
        return entry[1] if entry is not None and entry[0] > self._monotonic() else None

    def own_server(self) -> str | None:
        """The first name server that we ask ourselves, as host:port; None when there is none."""
        try:
            self._channel = self._channel or self._open_channel()
        except (pycares.AresError, OSError, RuntimeError):
            return None
        return next(iter(self._nameservers or self._channel.servers), None)

    async def resolve(self, host: str, timeout_s: float) -> Resolution:
        """Resolve a name or literal in any form. Never raises for a bad name; a timeout leaves the query running."""
        parsed = parse_host(host)
        if isinstance(parsed, str):
            return Resolution(reason=Reason.INVALID_TARGET, message=parsed)
        if parsed.address:
            return Resolution((parsed.address,))
        known = self.cached(parsed.name)
        if known is not None:
            return known
        query = self._in_flight.get(parsed.name) or self._start(parsed.name)
        # wait() leaves the query alone when this waiter is cancelled or late: others may share it.
        done, _ = await asyncio.wait((query,), timeout=max(0.0, timeout_s))
        if done:
            return query.result()
        # The next look-up asks anew: c-ares waits ever longer between its tries of a server that may be back by now.
        if self._in_flight.get(parsed.name) is query:
            del self._in_flight[parsed.name]
        message = f"no answer from DNS for {parsed.name} within {timeout_s:.3g} s"
        return Resolution(reason=Reason.DNS_TIMEOUT, message=message)

    def close(self) -> None:
        """Give up what is under way; waiters get DNS_FAILED."""
        channel, self._channel = self._channel, None
        if channel is not None:
            channel.cancel()
            channel.close()
        for host, query in self._in_flight.items():
            if not query.done():
                query.set_result(_failure(host, _errno.ARES_EDESTRUCTION))
        self._in_flight.clear()
        self._cache.clear()

    def _start(self, host: str) -> asyncio.Future[Resolution]:
        loop = asyncio.get_running_loop()
        query: asyncio.Future[Resolution] = loop.create_future()
        self._in_flight[host] = query
        self._ask(loop, host, query, again=False)
        return query

    def _ask(
        self, loop: asyncio.AbstractEventLoop, host: str, query: asyncio.Future[Resolution], *, again: bool
    ) -> None:
        try:
            channel = self._channel = self._channel or self._open_channel()
        except (pycares.AresError, OSError, RuntimeError) as error:
            # No file descriptor, no thread, no usable name server: nothing was asked, so it is nobody's fault but ours.
            self._give_up(host, query, str(error.args[-1] if error.args else error))
            return
        settle = functools.partial(self._settle, loop, host, query, again)
        callback = functools.partial(self._answered_in_thread, loop, settle)
        try:
            channel.getaddrinfo(host, None, flags=_FLAGS, callback=callback)
        except pycares.AresError as error:
            # Some failures come by callback as well; the first one counts.
            settle(None, error.args[0] if error.args else _errno.ARES_EBADNAME)

    def _give_up(self, host: str, query: asyncio.Future[Resolution], why: str) -> None:
        """End a question that could not be asked; the next look-up tries anew."""
        if not self._broken:  # once, not with every check
            self._broken = True
            log.get_logger().error("resolver_cannot_ask", error=why, servers=list(self._nameservers))
        if self._in_flight.get(host) is query:
            del self._in_flight[host]
        query.set_result(Resolution(reason=Reason.INTERNAL, message=f"Tocsin could not ask DNS for {host}: {why}"))

    def _open_channel(self) -> pycares.Channel:
        return pycares.Channel(
            timeout=TRY_TIMEOUT_S,
            tries=TRIES,
            servers=self._nameservers or None,
            # A burst of answers must fit in: a lost one costs its check a second.
            socket_receive_buffer_size=_RECEIVE_BYTES,
            # Hosts file before DNS. Whatever resolv.conf says of search domains and options still counts.
            lookups="fb",
        )

    def _answered_in_thread(
        self,
        loop: asyncio.AbstractEventLoop,
        settle: Callable[[pycares.AddrInfoResult | None, int | None], None],
        answer: pycares.AddrInfoResult | None,
        error: int | None,
    ) -> None:
        try:
            loop.call_soon_threadsafe(settle, answer, error)
        except RuntimeError:
            # The loop was closed while c-ares was still asking; nobody waits any more.
            return

    def _settle(  # noqa: PLR0913, PLR0917 - the last two are c-ares' answer, the others were bound when it was asked
        self,
        loop: asyncio.AbstractEventLoop,
        host: str,
        query: asyncio.Future[Resolution],
        again: bool,  # noqa: FBT001 - bound by _ask
        answer: pycares.AddrInfoResult | None,
        error: int | None,
    ) -> None:
        if query.done():
            return
        if error == _errno.ARES_ECONNREFUSED and not again:
            # No server took the question: a second one, on a channel that knows nothing of the first.
            self._renew_channel()
            self._ask(loop, host, query, again=True)
            return
        if error == _errno.ARES_ECONNREFUSED and (ours := _no_socket()):
            self._give_up(host, query, ours)
            return
        if self._broken:
            self._broken = False
            log.get_logger().info("resolver_asks_again")
        resolution, ttl_s = _read(host, answer, error)
        if self._in_flight.get(host) is query:
            del self._in_flight[host]
        # A timeout says nothing about the name, so the next check asks again.
        if resolution.reason is not Reason.DNS_TIMEOUT:
            self._remember(host, resolution, ttl_s)
        query.set_result(resolution)
        if resolution.reason is Reason.DNS_NOT_FOUND:
            self._flush()

    def _renew_channel(self) -> None:
        """Begin a channel anew, at most every few seconds; the old one stays until its questions are answered."""
        now = self._monotonic()
        if now - self._renewed_at >= RENEW_S:
            self._renewed_at = now
            self._retired, self._channel = self._channel, None

    def _remember(self, host: str, resolution: Resolution, ttl_s: float) -> None:
        # Out and in again: the dictionary's order is the age of its entries, and the oldest goes first.
        self._cache.pop(host, None)
        if len(self._cache) >= self._max_entries:
            del self._cache[next(iter(self._cache))]
        self._cache[host] = (self._monotonic() + ttl_s, resolution)

    def _flush(self) -> None:
        """Make c-ares forget (it reads its configuration anew, on a thread of its own); at most once a second."""
        now = self._monotonic()
        if self._channel is not None and now - self._flushed_at >= FLUSH_S:
            self._flushed_at = now
            try:
                self._channel.reinit()
            except pycares.AresError:
                self._retired, self._channel = self._channel, None  # what it cannot forget goes with it


def _no_socket() -> str:
    """Why this process has no socket to ask through, "" when it has: c-ares says "refused" to both."""
    try:
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM).close()
    except OSError as error:
        return error.strerror or str(error)
    return ""


def _read(host: str, answer: pycares.AddrInfoResult | None, error: int | None) -> tuple[Resolution, float]:
    """Turn c-ares' answer into ours and the seconds it may be kept."""
    nodes = answer.nodes if answer is not None else ()
    if error or not nodes:
        return _failure(host, error or _errno.ARES_ENODATA), NEGATIVE_TTL_S
    # A link-local IPv6 address needs a zone, which `addr[0]` lacks: egress denies it in any case.
    ordered = sorted(nodes, key=lambda node: len(node.addr))
    addresses = tuple(dict.fromkeys(node.addr[0].decode("ascii") for node in ordered))
    ttl_s = float(min(node.ttl for node in nodes))
    return Resolution(addresses), min(max(ttl_s, MIN_TTL_S), MAX_TTL_S)


def _failure(host: str, error: int) -> Resolution:
    reason, message = _REASONS.get(error, (Reason.DNS_FAILED, "DNS failed for {host}"))
    return Resolution(reason=reason, message=message.format(host=host))

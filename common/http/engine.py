"""The one way out over HTTP: resolve, judge, connect to exactly that address, follow redirects, keep the deadline.

One request runs through `send` → `_hop` (one per redirect) → `_attempt` (one per address). A failing target is an
HttpExchange with a reason, never an exception.
"""

from __future__ import annotations

import asyncio
import functools
import ipaddress
import time
from collections.abc import Callable

import certifi

from common.domain.checks import Reason
from common.domain.egress import EgressRules, judge
from common.http.curl import Handle
from common.http.curlerrors import Scene, explain
from common.http.exchange import MAX_HEADER_BYTES, HttpExchange, HttpRequest
from common.http.extras import Via, explain_proxy, version_problem
from common.http.multi import Multi, Outcome
from common.http.redirects import DeadEnd, Hop, first_hop, next_hop
from common.http.resolver import Resolver
from common.http.target import Host, parse_target

#: Of a host with many addresses: how many are tried when one refuses. Silence is not tried twice, the time is gone.
MAX_ADDRESSES = 3
_TRY_NEXT = frozenset({Reason.CONNECT_REFUSED, Reason.UNREACHABLE})
_JUDGED_ADDRESSES = 16_384


class HttpEngine:
    """Sends requests on the loop that first uses it; one engine per process is enough."""

    def __init__(  # noqa: PLR0913 - the composition root names each
        self,
        resolver: Resolver,
        rules: EgressRules,
        *,
        user_agent: str,
        ca_file: str | None = None,
        max_handles: int = 1024,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._resolver = resolver
        self._judge = functools.lru_cache(maxsize=_JUDGED_ADDRESSES)(functools.partial(judge, rules=rules))
        self._user_agent = user_agent
        self._ca_file = ca_file or certifi.where()
        self._clock = clock
        self._idle: list[Handle] = []
        self._free = asyncio.Semaphore(max_handles)
        self._multi: Multi | None = None

    async def send(self, request: HttpRequest) -> HttpExchange:
        """Carry out one request, redirects included. Only CancelledError passes; the engine is usable after it."""
        exchange = HttpExchange()
        started = self._clock()
        deadline = started + request.timeout_s
        step: Hop | DeadEnd | None = first_hop(request)
        while isinstance(step, Hop):
            exchange.url = step.target.url
            await self._hop(step, request, exchange, deadline)
            if exchange.reason:
                break
            step = next_hop(step, request, exchange)
            if isinstance(step, Hop):
                exchange.begin_redirect()
        if isinstance(step, DeadEnd):
            exchange.fail(step.reason, step.message)
        exchange.phases.total_ms = (self._clock() - started) * 1000
        return exchange

    def close(self) -> None:
        """Break off what is under way (its callers get INTERNAL) and let go of all handles."""
        if self._multi is not None:
            self._multi.close()
            self._multi = None
        for handle in self._idle:
            handle.curl.close()
        self._idle.clear()

    async def _hop(self, hop: Hop, request: HttpRequest, exchange: HttpExchange, deadline: float) -> None:
        """One request-response, to the first permitted address that takes the connection."""
        via: Via | None = None
        if request.extras is not None and request.extras.proxy is not None:
            via = await self._proxy(request.extras.proxy, exchange, deadline)
            if via is None:
                return
        host = hop.target.host
        addresses = (host.address,) if host.address else await self._look_up(host.name, exchange, deadline)
        for address in self._permitted(host, addresses, exchange):
            exchange.reason = Reason.NONE
            await self._attempt(hop, request, exchange, address, deadline, via)
            if exchange.reason not in _TRY_NEXT:
                return

    async def _proxy(self, url: str, exchange: HttpExchange, deadline: float) -> Via | None:
        """The proxy at one of its permitted addresses; None when the exchange has failed for want of one."""
        proxy = parse_target(url)
        if isinstance(proxy, str) or proxy.scheme != "http":
            exchange.fail(Reason.INVALID_TARGET, "the proxy is not a URL like http://host:port")
            return None
        host = proxy.host
        addresses = (host.address,) if host.address else await self._look_up(host.name, exchange, deadline)
        permitted = self._permitted(host, addresses, exchange)
        return Via(host.name, permitted[0], proxy.port) if permitted else None

    async def _look_up(self, name: str, exchange: HttpExchange, deadline: float) -> tuple[str, ...]:
        resolution = self._resolver.cached(name)
        phases = exchange.phases
        so_far_ms = max(phases.dns_ms, 0.0)
        if resolution is None:
            asked = self._clock()
            resolution = await self._resolver.resolve(name, deadline - asked)
            so_far_ms += (self._clock() - asked) * 1000
        phases.dns_ms = so_far_ms
        if resolution.reason:
            exchange.fail(resolution.reason, resolution.message)
        return resolution.addresses

    def _permitted(self, host: Host, addresses: tuple[str, ...], exchange: HttpExchange) -> list[str]:
        """The addresses that may be connected to; when all are denied, the exchange says so."""
        allowed = [address for address in addresses if self._judge(address) is None]
        if addresses and not allowed:
            exchange.denial = self._judge(addresses[0])
            # The same words whatever the reason: what lies behind a name is not for strangers to map.
            exchange.fail(Reason.EGRESS_DENIED, f"the egress policy does not allow {host.name}")
        return allowed[:MAX_ADDRESSES]

    async def _attempt(  # noqa: PLR0913, PLR0917 - the hot path: no object for each attempt
        self,
        hop: Hop,
        request: HttpRequest,
        exchange: HttpExchange,
        address: str,
        deadline: float,
        via: Via | None,
    ) -> None:
        """One transfer on a pooled handle, which is back in the pool whatever happens."""
        if not await self._acquire(deadline):
            exchange.fail(Reason.INTERNAL, "this worker was too busy to send the request in time")
            return
        handle = self._idle.pop() if self._idle else Handle(self._user_agent, self._ca_file)
        multi = self._multi or self._open()
        try:
            remaining_ms = int((deadline - self._clock()) * 1000)
            # libcurl takes 0 for "no limit at all"; a millisecond ends in the right timeout, with its words.
            problem = handle.prepare(hop, request, address, max(remaining_ms, 1), via)
            if problem is not None:
                exchange.fail(Reason.INVALID_TARGET, problem)
                return
            exchange.address = address
            outcome = await multi.start(handle.curl)
            handle.report(exchange, secure=hop.target.scheme == "https")
            _conclude(handle, outcome, hop, request, exchange, via)
            if request.want_certificate:
                exchange.cert_days = handle.certificate_days()
                exchange.session = handle.session()
        finally:
            # Does nothing unless we were cancelled while libcurl was at work.
            multi.abandon(handle.curl)
            self._idle.append(handle)
            self._free.release()

    async def _acquire(self, deadline: float) -> bool:
        """Wait for a free handle; false when all were busy until the deadline."""
        if not self._free.locked():
            return await self._free.acquire()
        try:
            async with asyncio.timeout(max(0.0, deadline - self._clock())):
                return await self._free.acquire()
        except TimeoutError:
            return False

    def _open(self) -> Multi:
        self._multi = Multi(asyncio.get_running_loop())
        return self._multi


def _conclude(  # noqa: PLR0913, PLR0917 - the same
    handle: Handle, outcome: Outcome, hop: Hop, request: HttpRequest, exchange: HttpExchange, via: Via | None
) -> None:
    """Decide whether what arrived is a response that may be used."""
    code, text = outcome
    target = hop.target
    if handle.too_large:
        exchange.fail(Reason.BODY_TOO_LARGE, f"the body is larger than {request.max_body_bytes} bytes")
    elif code:
        scene = Scene(target.host.name, exchange.address, target.port, target.scheme == "https", request.timeout_s)
        trouble = explain_proxy(handle.curl, code, text, scene, via) if via is not None else None
        exchange.fail(*(trouble or explain(handle.curl, code, text, scene)))
    elif handle.headers_too_large:
        exchange.fail(Reason.HEADERS_TOO_LARGE, f"the response header is larger than {MAX_HEADER_BYTES // 1024} KiB")
    elif not _same(handle.address, exchange.address if via is None else via.address):
        # Second line of defence, 0.2 µs: what we judged must be what libcurl connected to.
        exchange.discard_response()
        exchange.fail(Reason.EGRESS_DENIED, f"the connection did not go to the address of {target.host.name}")
    elif request.extras is not None and (problem := version_problem(request.extras, exchange.http_version)):
        exchange.fail(Reason.PROTOCOL_ERROR, f"{target.host.name} {problem}")


def _same(seen: str, wanted: str) -> bool:
    """One address? IPv6 has several spellings."""
    if seen == wanted:
        return True
    return ":" in seen and ":" in wanted and ipaddress.ip_address(seen) == ipaddress.ip_address(wanted)

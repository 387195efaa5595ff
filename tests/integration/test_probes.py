"""One conformance suite for all probes: a failing target is an observation, in time, in words, and leaves nothing."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
import tracemalloc
from collections.abc import AsyncIterator
from typing import Any

import pytest

from common.domain.checks import NOT_REACHED, Reason, Verdict
from common.domain.monitors import Assertion
from common.domain.sources import SOURCES, TYPES
from tests.dns_server import DnsServer
from tests.probing import (
    DATAGRAMS,
    STREAMS,
    ZONES,
    Handler,
    Peer,
    config,
    context,
    drip,
    endless,
    garbage,
    hang_up,
    leaving_nothing,
    look,
    mute,
    peer,
    reset,
    run,
)
from tests.targets import Authority, deaf_port, free_port, make_authority
from worker.probes.registry import PROBES

#: Far more than a busy machine adds to a deadline of half a second, far less than what never ends.
LATE_S = 20.0

every_stream = pytest.mark.parametrize("type_", sorted(STREAMS))
#: Those that name a host to connect to.
every_host = pytest.mark.parametrize("type_", [*sorted(STREAMS), "icmp"])
every_probe = pytest.mark.parametrize("type_", sorted(PROBES))


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return make_authority(tmp_path_factory.mktemp("ca"))


@contextlib.asynccontextmanager
async def healthy(type_: str, authority: Authority) -> AsyncIterator[Any]:
    """A target of the type that is well, as far as loopback has one."""
    if type_ == "icmp":
        _skip_without_icmp()
        yield Peer(port=1)
    elif type_ == "dns":
        server = await DnsServer(dict(ZONES)).start()
        yield Peer(port=int(server.address.rpartition(":")[2]))
        server.close()
    else:
        case = STREAMS[type_]
        async with peer(case.well, authority.context("127.0.0.1") if case.secure else None) as target:
            yield target


def _skip_without_icmp() -> None:
    for kind in (socket.SOCK_DGRAM, socket.SOCK_RAW):
        try:
            socket.socket(socket.AF_INET, kind, socket.IPPROTO_ICMP).close()
        except PermissionError:
            continue
        return
    pytest.skip("this kernel lets us send no ICMP (net.ipv4.ping_group_range, CAP_NET_RAW)")


def test_each_type_of_the_registry_is_in_this_suite_and_has_sources() -> None:
    assert set(PROBES) == set(STREAMS) | set(DATAGRAMS) == set(TYPES) == set(SOURCES)


@every_probe
def test_a_healthy_target_is_up_with_phases_and_address(type_: str, authority: Authority) -> None:
    async def main() -> None:
        async with healthy(type_, authority) as target, context() as ctx:
            for host, has_dns in (("127.0.0.1", False), ("web.test", True)):
                found = await look(config(type_, host, target.port), ctx)
                assert (found.verdict, found.reason, found.message) == (Verdict.UP, Reason.NONE, "")
                assert found.address == "127.0.0.1"
                assert (found.phases.dns_ms != NOT_REACHED) is has_dns
                if type_ in STREAMS:
                    assert 0 <= found.phases.connect_ms <= found.phases.total_ms
                assert found.phases.total_ms > 0

    run(main())


@every_stream
def test_a_refused_connection_is_down_and_says_by_whom(type_: str) -> None:
    async def main() -> None:
        async with context() as ctx:
            port = free_port()
            found = await look(config(type_, "127.0.0.1", port), ctx)
            assert (found.verdict, found.reason) == (Verdict.DOWN, Reason.CONNECT_REFUSED)
            assert found.message == f"connection refused by 127.0.0.1:{port}"
            found = await look(config(type_, "web.test", port), ctx)
            assert found.message == f"connection refused by web.test (127.0.0.1:{port})"

    run(main())


@every_stream
def test_silence_ends_at_the_monitors_timeout_and_at_the_batchs_deadline(type_: str) -> None:
    async def main() -> None:
        with deaf_port() as port:
            async with context() as ctx:
                for timeout_s, deadline_s in ((0.3, 60.0), (60.0, 0.3)):
                    started = time.perf_counter()
                    found = await look(config(type_, "127.0.0.1", port, timeout_s=timeout_s), ctx, deadline_s)
                    assert 0.28 < time.perf_counter() - started < LATE_S
                    assert (found.verdict, found.reason) == (Verdict.DOWN, Reason.CONNECT_TIMEOUT)
                    assert found.message == f"no connection to 127.0.0.1:{port} within 0.3 s"
                    assert found.phases.connect_ms == NOT_REACHED

    run(main())


#: What each type makes of a server that …
_GARBAGE = {"http": {Reason.PROTOCOL_ERROR}, "tcp": {Reason.ANSWER_MISMATCH}, "tls": {Reason.TLS_HANDSHAKE}}
_ENDLESS = {
    "http": {Reason.PROTOCOL_ERROR, Reason.HEADERS_TOO_LARGE},
    "tcp": {Reason.ANSWER_MISMATCH, Reason.BODY_TOO_LARGE},
    "tls": {Reason.TLS_HANDSHAKE},
}
_CLOSED = {Reason.CONNECTION_RESET, Reason.EMPTY_REPLY, Reason.ANSWER_MISMATCH}
#: … how it misbehaves, and the reasons that are right, by type or for all.
MISBEHAVIOUR: list[tuple[str, Handler, dict[str, set[Reason]], set[Reason]]] = [
    ("accepts and says nothing", mute, {}, {Reason.TIMEOUT}),
    ("hangs up", hang_up, {"tls": {Reason.TLS_HANDSHAKE}}, _CLOSED),
    ("resets", reset, {"tls": {Reason.TLS_HANDSHAKE, Reason.CONNECTION_RESET}}, _CLOSED),
    ("speaks garbage", garbage, _GARBAGE, {Reason.PROTOCOL_ERROR}),
    ("never ends", endless, _ENDLESS, {Reason.PROTOCOL_ERROR, Reason.BODY_TOO_LARGE}),
]


@every_stream
@pytest.mark.parametrize(
    ("handler", "by_type", "others"), [row[1:] for row in MISBEHAVIOUR], ids=[row[0] for row in MISBEHAVIOUR]
)
def test_a_server_that_misbehaves_gets_its_reason_in_time_and_leaves_nothing(
    type_: str, handler: Handler, by_type: dict[str, set[Reason]], others: set[Reason]
) -> None:
    timeout_s = 0.4 if handler is mute else 5.0  # all others are found out long before, on whatever machine

    async def main() -> None:
        async with peer(handler) as target, context() as ctx:
            await look(config(type_, "127.0.0.1", target.port, timeout_s=0.4), ctx)  # contexts, handles, look-ups
            tracemalloc.start()
            async with leaving_nothing():
                started = time.perf_counter()
                found = await look(config(type_, "127.0.0.1", target.port, timeout_s=timeout_s), ctx)
                assert time.perf_counter() - started < LATE_S
            peak = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
            assert (found.verdict, found.reason) in {(Verdict.DOWN, reason) for reason in by_type.get(type_, others)}
            assert "127.0.0.1" in found.message
            assert len(found.message) < 400
            assert found.phases.total_ms < LATE_S * 1000
            assert peak < 4_000_000, f"{peak} bytes"

    run(main())


#: A good beginning that is never finished: a byte at a time.
DRIPS = {
    "http": b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n",
    "tcp": b"hell",
    "tls": b"\x16\x03\x03\x3f\xff\x02",
    "websocket": b"HTTP/1.1 101 Switching Protocols\r\nX: ",
    "smtp": b"220-",
    "postgres": b"NR\0\0\1\0",
    "redis": b"$100000\r\n",
}


@every_stream
def test_a_slow_drip_ends_at_the_deadline(type_: str) -> None:
    async def main() -> None:
        async with peer(drip(DRIPS[type_])) as target, context() as ctx:
            await look(config(type_, "127.0.0.1", target.port, timeout_s=0.3), ctx)
            async with leaving_nothing():
                started = time.perf_counter()
                found = await look(config(type_, "127.0.0.1", target.port, timeout_s=0.5), ctx)
                assert 0.45 < time.perf_counter() - started < LATE_S
            assert (found.verdict, found.reason) == (Verdict.DOWN, Reason.TIMEOUT)
            assert "within 0.5 s" in found.message

    run(main())


@every_stream
def test_a_probe_that_is_cancelled_leaves_nothing(type_: str) -> None:
    async def main() -> None:
        with deaf_port() as deaf:
            async with peer(mute) as target, context() as ctx:
                await look(config(type_, "127.0.0.1", target.port, timeout_s=0.2), ctx)
                for port in (deaf, target.port):
                    async with leaving_nothing():
                        task = asyncio.create_task(look(config(type_, "127.0.0.1", port), ctx))
                        await asyncio.sleep(0.05)
                        task.cancel()
                        with pytest.raises(asyncio.CancelledError):
                            await task

    run(main())


#: name → reason
DNS = [("missing.test", Reason.DNS_NOT_FOUND), ("mute.test", Reason.DNS_TIMEOUT), ("broken.test", Reason.DNS_FAILED)]


@every_probe
@pytest.mark.parametrize(("host", "reason"), DNS)
def test_a_name_that_does_not_resolve_is_down_with_a_reason_of_its_own(type_: str, host: str, reason: Reason) -> None:
    async def main() -> None:
        async with context() as ctx:
            timeout_s = 0.5 if reason is Reason.DNS_TIMEOUT else 5.0
            found = await look(config(type_, host, 80, timeout_s=timeout_s), ctx)
            assert (found.verdict, found.reason) == (Verdict.DOWN, reason)
            assert host in found.message
            assert found.phases.total_ms < LATE_S * 1000

    run(main())


@every_probe
@pytest.mark.parametrize("host", ["169.254.169.254", "0xA9FEA9FE", "metadata.test", "[::ffff:169.254.169.254]", "0"])
def test_the_egress_policy_stops_every_probe(type_: str, host: str) -> None:
    async def main() -> None:
        async with context() as ctx:
            found = await look(config(type_, host, 80), ctx)
            assert (found.verdict, found.reason, found.address) == (Verdict.DOWN, Reason.EGRESS_DENIED, "")
            assert found.phases.connect_ms == NOT_REACHED

    run(main())


NO_TARGETS = ["", "://", "http://", "tcp://", "a b", "tcp://h:0", "http://h:99999/", "x" * 9000, "h\r\nX: y"]


@every_probe
@pytest.mark.parametrize("target", NO_TARGETS)
def test_a_target_that_is_none_is_an_observation_too(type_: str, target: str) -> None:
    async def main() -> None:
        async with context() as ctx:
            found = await look(config(type_, "127.0.0.1", 1, target=target), ctx)
            assert (found.verdict, found.reason) == (Verdict.DOWN, Reason.INVALID_TARGET)
            assert 0 < len(found.message) < 200

    run(main())


@every_probe
def test_a_slow_target_is_degraded_if_the_monitor_says_so(type_: str, authority: Authority) -> None:
    async def main() -> None:
        async with healthy(type_, authority) as target, context() as ctx:
            slow = (Assertion("latency_ms", "lt", 0.0001, on_fail="degraded"),)
            found = await look(config(type_, "127.0.0.1", target.port, assertions=slow), ctx)
            assert (found.verdict, found.reason) == (Verdict.DEGRADED, Reason.LATENCY_EXCEEDED)
            assert found.failed_assertion is not None
            assert "took" in found.message

    run(main())


@every_probe
def test_an_assertion_that_cannot_be_judged_is_our_fault_and_never_down(type_: str, authority: Authority) -> None:
    async def main() -> None:
        async with healthy(type_, authority) as target, context() as ctx:
            wrong = (Assertion("no such source", "eq", 1),)
            found = await look(config(type_, "127.0.0.1", target.port, assertions=wrong), ctx)
            assert (found.verdict, found.reason) == (Verdict.UNKNOWN, Reason.INTERNAL)

    run(main())

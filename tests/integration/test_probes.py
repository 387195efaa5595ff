"""One conformance suite for all probes: a failing target is an observation, in time, in words; then what each adds."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Coroutine
from typing import Any

import pytest
import uvloop

from common.domain.checks import NOT_REACHED, Observation, Reason, Verdict
from common.domain.egress import EgressMode, EgressRules
from common.domain.health import Policy
from common.domain.monitors import Assertion, HttpOptions, MonitorConfig
from common.http.engine import HttpEngine
from common.http.resolver import Resolver
from tests.dns_server import SERVFAIL, SILENT, DnsServer, Zone
from tests.targets import answer, deaf_port, free_port, hang, serving
from worker.probes.base import ProbeContext
from worker.probes.registry import PROBES

TRACE_ID = "0123456789abcdef0123456789abcdef"
ZONES = {
    "web.test": Zone(("127.0.0.1",)),
    "mute.test": Zone(mute=SILENT),
    "broken.test": Zone(rcode=SERVFAIL),
    "metadata.test": Zone(("169.254.169.254",)),
}
#: How each type writes a target.
TARGETS = {"http": "http://{}:{}/", "tcp": "tcp://{}:{}"}

every_probe = pytest.mark.parametrize("type_", sorted(PROBES))


def config(type_: str, host: str, port: int, **changes: Any) -> MonitorConfig:
    values = {
        "monitor_no": 1,
        "monitor_id": "m",
        "org_id": "o",
        "config_version": 1,
        "type": type_,
        "name": "n",
        "target": TARGETS[type_].format(host, port),
        "interval_s": 30,
        "timeout_s": 2.0,
        "policy": Policy(),
    }
    return MonitorConfig(**(values | changes))


@contextlib.asynccontextmanager
async def context(mode: EgressMode = EgressMode.INTERNAL) -> AsyncIterator[ProbeContext]:
    server = await DnsServer(dict(ZONES)).start()
    resolver = Resolver([server.address])
    rules = EgressRules(mode)
    engine = HttpEngine(resolver, rules, user_agent="Tocsin-Test")
    try:
        yield ProbeContext(engine, resolver, rules)
    finally:
        engine.close()
        resolver.close()
        server.close()


async def look(monitor: MonitorConfig, ctx: ProbeContext, deadline_s: float = 5.0) -> Observation:
    return await PROBES[monitor.type](monitor, deadline_s, ctx, TRACE_ID)


def run(main: Coroutine[Any, Any, None]) -> None:
    uvloop.run(main)


def test_each_type_of_the_registry_is_in_this_suite() -> None:
    assert set(PROBES) == set(TARGETS)


@every_probe
def test_a_healthy_target_is_up_with_phases_and_address(type_: str) -> None:
    async def main() -> None:
        async with serving({"*": answer()}) as target, context() as ctx:
            for host, has_dns in (("127.0.0.1", False), ("web.test", True)):
                found = await look(config(type_, host, target.port), ctx)
                assert (found.verdict, found.reason, found.message) == (Verdict.UP, Reason.NONE, "")
                assert found.address == "127.0.0.1"
                assert (found.phases.dns_ms != NOT_REACHED) is has_dns
                assert 0 <= found.phases.connect_ms <= found.phases.total_ms

    run(main())


@every_probe
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


@every_probe
def test_silence_ends_at_the_monitors_timeout_and_at_the_batchs_deadline(type_: str) -> None:
    async def main() -> None:
        with deaf_port() as port:
            async with context() as ctx:
                for timeout_s, deadline_s in ((0.3, 5.0), (5.0, 0.3)):
                    started = time.perf_counter()
                    found = await look(config(type_, "127.0.0.1", port, timeout_s=timeout_s), ctx, deadline_s)
                    assert 0.28 < time.perf_counter() - started < 0.4
                    assert (found.verdict, found.reason) == (Verdict.DOWN, Reason.CONNECT_TIMEOUT)
                    assert found.message == f"no connection to 127.0.0.1:{port} within 0.3 s"
                    assert found.phases.connect_ms == NOT_REACHED

    run(main())


#: name → reason
DNS = [("missing.test", Reason.DNS_NOT_FOUND), ("mute.test", Reason.DNS_TIMEOUT), ("broken.test", Reason.DNS_FAILED)]


@every_probe
@pytest.mark.parametrize(("host", "reason"), DNS)
def test_a_name_that_does_not_resolve_is_down_with_a_reason_of_its_own(type_: str, host: str, reason: Reason) -> None:
    async def main() -> None:
        async with context() as ctx:
            found = await look(config(type_, host, 80, timeout_s=0.5), ctx)
            assert (found.verdict, found.reason) == (Verdict.DOWN, reason)
            assert host in found.message
            assert found.phases.total_ms < 600

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


@every_probe
def test_public_mode_stops_every_probe_at_loopback(type_: str) -> None:
    async def main() -> None:
        async with serving({"*": answer()}) as target, context(EgressMode.PUBLIC) as ctx:
            for host in ("127.0.0.1", "localhost", "2130706433", "[::1]", "web.test"):
                found = await look(config(type_, host, target.port), ctx)
                assert found.reason is Reason.EGRESS_DENIED
            assert target.connections == 0

    run(main())


NO_TARGETS = ["", "nonsense", "://", "http://", "tcp://", "a:b:c", "tcp://h:0", "http://h:99999/", "x" * 9000]


@every_probe
@pytest.mark.parametrize("target", NO_TARGETS)
def test_a_target_that_is_none_is_an_observation_too(type_: str, target: str) -> None:
    async def main() -> None:
        async with context() as ctx:
            found = await look(config(type_, "h", 1, target=target), ctx)
            assert (found.verdict, found.reason) == (Verdict.DOWN, Reason.INVALID_TARGET)
            assert 0 < len(found.message) < 200

    run(main())


@every_probe
def test_a_slow_target_is_degraded_if_the_monitor_says_so(type_: str) -> None:
    async def main() -> None:
        async with serving({"*": answer()}) as target, context() as ctx:
            slow = (Assertion("latency_ms", "lt", 0.0001, on_fail="degraded"),)
            found = await look(config(type_, "127.0.0.1", target.port, assertions=slow), ctx)
            assert (found.verdict, found.reason) == (Verdict.DEGRADED, Reason.LATENCY_EXCEEDED)
            assert found.failed_assertion is not None
            assert "took" in found.message

    run(main())


@every_probe
def test_an_assertion_that_cannot_be_judged_is_our_fault_and_never_down(type_: str) -> None:
    async def main() -> None:
        async with serving({"*": answer()}) as target, context() as ctx:
            wrong = (Assertion("no such source", "eq", 1),)
            found = await look(config(type_, "127.0.0.1", target.port, assertions=wrong), ctx)
            assert (found.verdict, found.reason) == (Verdict.UNKNOWN, Reason.INTERNAL)

    run(main())


@every_probe
def test_cancellation_passes_and_the_next_probe_works(type_: str) -> None:
    async def main() -> None:
        with deaf_port() as deaf:
            async with serving({"*": answer()}) as target, context() as ctx:
                task = asyncio.create_task(look(config(type_, "127.0.0.1", deaf), ctx))
                await asyncio.sleep(0.05)
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task
                assert (await look(config(type_, "127.0.0.1", target.port), ctx)).verdict is Verdict.UP

    run(main())


# -- http only ---------------------------------------------------------------------------------------------------


def test_http_sends_the_options_and_the_trace_of_the_check() -> None:
    async def main() -> None:
        async with serving({"*": answer()}) as target, context() as ctx:
            options = HttpOptions("POST", (("X-A", "1"),), '{"ü": 1}')
            await look(config("http", "127.0.0.1", target.port, http=options), ctx)
            (seen,) = target.seen
            assert (seen.method, seen.headers["x-a"], seen.body) == ("POST", "1", '{"ü": 1}'.encode())
            assert seen.headers["traceparent"] == f"00-{TRACE_ID}-{TRACE_ID[16:]}-01"

    run(main())


def test_http_judges_status_headers_and_body() -> None:
    async def main() -> None:
        async with serving({"*": answer(503, b"database away", "X-Mode: red\r\n")}) as target, context() as ctx:
            found = await look(config("http", "127.0.0.1", target.port), ctx)
            assert (found.verdict, found.reason, found.code) == (Verdict.DOWN, Reason.STATUS_MISMATCH, 503)
            assert found.message == "expected status 200-299, got 503"
            holds = (
                Assertion("status", "in", ["5xx"]),
                Assertion("body", "contains", "away"),
                Assertion("header", "eq", "red", "x-mode"),
            )
            monitor = config("http", "127.0.0.1", target.port, assertions=holds, config_version=2)
            assert (await look(monitor, ctx)).verdict is Verdict.UP
            one_more = (*holds, Assertion("body", "matches", "^ok"))
            monitor = config("http", "127.0.0.1", target.port, assertions=one_more, config_version=3)
            found = await look(monitor, ctx)
            assert (found.reason, found.failed_assertion and found.failed_assertion.seen) == (
                Reason.BODY_MISMATCH,
                "database away",
            )

    run(main())


def test_http_counts_a_body_up_to_ten_mebibytes() -> None:
    async def main() -> None:
        paths = {"/fits": answer(200, bytes(10 * 2**20)), "/*": answer(), "/over": answer(200, bytes(10 * 2**20 + 1))}
        async with serving(paths) as target, context() as ctx:
            assert (await look(config("http", "", 0, target=target.url("/fits")), ctx)).verdict is Verdict.UP
            assert (await look(config("http", "", 0, target=target.url("/over")), ctx)).reason is Reason.BODY_TOO_LARGE

    run(main())


def test_http_with_a_hanging_server_is_a_timeout_and_not_a_connect_timeout() -> None:
    async def main() -> None:
        async with serving({"*": hang}) as target, context() as ctx:
            found = await look(config("http", "127.0.0.1", target.port, timeout_s=0.3), ctx)
            assert (found.reason, found.phases.connect_ms >= 0) == (Reason.TIMEOUT, True)

    run(main())


def test_assertions_are_compiled_once_per_version() -> None:
    async def main() -> None:
        async with context() as ctx:
            ctx.max_compiled = 2
            first = ctx.compiled(config("http", "h", 1))
            assert ctx.compiled(config("http", "h", 1)) is first
            assert ctx.compiled(config("http", "h", 1, config_version=2)) is not first
            for number in range(2, 9):
                ctx.compiled(config("http", "h", 1, monitor_no=number))
            assert len(ctx._compiled) == 2

    run(main())

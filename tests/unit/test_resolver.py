"""The resolver against a name server of the test's own: answers, failures, silence, caching, sharing."""

from __future__ import annotations

import asyncio
import resource
import socket
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import pycares
import pytest
import structlog

import common.http.resolver as resolver_module
from common.domain.checks import NETWORK_CLASS, Reason
from common.http.resolver import Resolution, Resolver
from tests.dns_server import AAAA, SERVFAIL, SILENT, DnsServer, Zone
from tests.targets import free_port
from tests.timing import kept_now_and_then

Scene = Callable[[DnsServer, Resolver], Awaitable[None]]


def run(scene: Scene, **zones: Zone) -> None:
    """Run a scene with the given zones under example.test (`_` in a name stands for `-`)."""

    async def main() -> None:
        named = {f"{name.replace('_', '-')}.example.test": zone for name, zone in zones.items()}
        server = await DnsServer(named).start()
        resolver = Resolver([server.address])
        try:
            await scene(server, resolver)
        finally:
            resolver.close()
            server.close()

    asyncio.run(main())


async def ask(resolver: Resolver, names: list[str], timeout_s: float) -> list[asyncio.Task[Resolution]]:
    """Start many look-ups, in a trickle: a burst would overflow the test server's socket, not the resolver."""
    tasks = []
    for name in names:
        tasks.append(asyncio.create_task(resolver.resolve(name, timeout_s)))
        if len(tasks) % 20 == 0:
            await asyncio.sleep(0.001)
    return tasks


def test_both_families_are_found_and_ipv4_comes_first() -> None:
    async def scene(_server: DnsServer, resolver: Resolver) -> None:
        found = await resolver.resolve("web.example.test", 2)
        assert found.addresses == ("192.0.2.1", "192.0.2.2", "2001:db8::1")
        assert found.reason is Reason.NONE

    run(scene, web=Zone(("2001:db8::1", "192.0.2.1", "192.0.2.2")))


def test_a_host_with_ipv6_only_is_found() -> None:
    async def scene(_server: DnsServer, resolver: Resolver) -> None:
        assert (await resolver.resolve("six.example.test", 2)).addresses == ("2001:db8::1",)

    run(scene, six=Zone(("2001:db8::1",)))


def test_a_name_that_does_not_exist_is_not_found() -> None:
    async def scene(_server: DnsServer, resolver: Resolver) -> None:
        found = await resolver.resolve("nothing.example.test", 2)
        assert (found.reason, found.addresses) == (Reason.DNS_NOT_FOUND, ())
        assert "nothing.example.test" in found.message

    run(scene)


def test_a_name_without_addresses_is_not_found() -> None:
    async def scene(_server: DnsServer, resolver: Resolver) -> None:
        assert (await resolver.resolve("bare.example.test", 2)).reason is Reason.DNS_NOT_FOUND

    run(scene, bare=Zone())


def test_a_failing_server_is_a_failure_and_not_a_missing_name() -> None:
    async def scene(_server: DnsServer, resolver: Resolver) -> None:
        assert (await resolver.resolve("broken.example.test", 5)).reason is Reason.DNS_FAILED

    run(scene, broken=Zone(rcode=SERVFAIL))


def test_no_server_to_ask_is_no_answer_of_one() -> None:
    async def scene() -> None:
        resolver = Resolver([f"127.0.0.1:{free_port()}"])
        try:
            found = await resolver.resolve("shop.example.test", 5)
        finally:
            resolver.close()
        # What our own network may have caused: of the class that is doubted before it pages.
        assert found.reason is Reason.DNS_UNREACHABLE
        assert found.reason in NETWORK_CLASS

    asyncio.run(scene())


@kept_now_and_then
def test_silence_ends_at_the_callers_own_deadline() -> None:
    async def scene(_server: DnsServer, resolver: Resolver) -> None:
        started = time.perf_counter()
        found = await resolver.resolve("mute.example.test", 0.2)
        assert found.reason is Reason.DNS_TIMEOUT
        assert 0.19 < time.perf_counter() - started < 0.4

    run(scene, mute=Zone(mute=SILENT))


def test_a_server_that_drops_ipv6_questions_still_gives_the_ipv4_address() -> None:
    async def scene(_server: DnsServer, resolver: Resolver) -> None:
        assert (await resolver.resolve("half.example.test", 3)).addresses == ("192.0.2.1",)

    run(scene, half=Zone(("192.0.2.1",), mute=frozenset({AAAA})))


@kept_now_and_then
def test_mute_names_do_not_delay_healthy_ones() -> None:
    async def scene(server: DnsServer, resolver: Resolver) -> None:
        mute = await ask(resolver, [f"mute-{i}.example.test" for i in range(300)], 2)
        await asyncio.sleep(0.1)
        started = time.perf_counter()
        found = await asyncio.gather(*await ask(resolver, [f"well-{i}.example.test" for i in range(300)], 2))
        assert time.perf_counter() - started < 0.5
        assert all(one.addresses == ("192.0.2.1",) for one in found)
        # And again while c-ares is in the middle of its retries.
        await asyncio.sleep(0.8)
        server.zones["late.example.test"] = Zone(("192.0.2.9",))
        started = time.perf_counter()
        assert (await resolver.resolve("late.example.test", 2)).addresses == ("192.0.2.9",)
        assert time.perf_counter() - started < 0.3
        for task in mute:
            assert (await task).reason is Reason.DNS_TIMEOUT

    mute = {f"mute_{i}": Zone(mute=SILENT) for i in range(300)}
    run(scene, **mute, **{f"well_{i}": Zone(("192.0.2.1",)) for i in range(300)})


def test_an_answer_is_kept_and_asked_for_only_once() -> None:
    async def scene(server: DnsServer, resolver: Resolver) -> None:
        await asyncio.gather(*(resolver.resolve("web.example.test", 2) for _ in range(50)))
        await resolver.resolve("WEB.example.test.", 2)
        assert resolver.cached("web.example.test") is not None
        # One question for each family, however many were waiting.
        assert server.asked["web.example.test"] == 2

    run(scene, web=Zone(("192.0.2.1",)))


def test_an_answer_is_kept_for_its_ttl_and_at_most_five_minutes() -> None:
    async def main() -> None:
        now = 1000.0
        zones = {"a.example.test": Zone(("192.0.2.1",), ttl=20), "b.example.test": Zone(("192.0.2.1",), ttl=86400)}
        server = await DnsServer(zones).start()
        resolver = Resolver([server.address], monotonic=lambda: now)
        await resolver.resolve("a.example.test", 2)
        await resolver.resolve("b.example.test", 2)
        now += 19
        assert resolver.cached("a.example.test") is not None
        now += 2
        assert resolver.cached("a.example.test") is None
        now += 270
        assert resolver.cached("b.example.test") is not None
        now += 20
        assert resolver.cached("b.example.test") is None
        resolver.close()
        server.close()

    asyncio.run(main())


def test_a_missing_name_is_found_soon_after_it_appears_whatever_its_zone_says() -> None:
    async def scene(server: DnsServer, resolver: Resolver) -> None:
        assert (await resolver.resolve("new.example.test", 30)).reason is Reason.DNS_NOT_FOUND
        server.zones["new.example.test"] = Zone(("192.0.2.7",))
        started = time.perf_counter()
        while (await resolver.resolve("new.example.test", 30)).reason is not Reason.NONE:
            assert time.perf_counter() - started < 60  # the zone says an hour
            await asyncio.sleep(0.1)

    run(scene)


def test_a_timeout_is_not_kept() -> None:
    async def scene(server: DnsServer, resolver: Resolver) -> None:
        assert (await resolver.resolve("slow.example.test", 0.1)).reason is Reason.DNS_TIMEOUT
        assert resolver.cached("slow.example.test") is None
        server.zones["slow.example.test"] = Zone(("192.0.2.1",))
        # The retry of the shared query gets through.
        assert (await resolver.resolve("slow.example.test", 30)).addresses == ("192.0.2.1",)

    run(scene, slow=Zone(mute=SILENT))


def test_a_cancelled_waiter_does_not_cancel_the_query_of_others() -> None:
    async def scene(server: DnsServer, resolver: Resolver) -> None:
        first = asyncio.create_task(resolver.resolve("slow.example.test", 30))
        second = asyncio.create_task(resolver.resolve("slow.example.test", 30))
        await asyncio.sleep(0.05)
        first.cancel()
        server.zones["slow.example.test"] = Zone(("192.0.2.1",))
        assert (await second).addresses == ("192.0.2.1",)
        with pytest.raises(asyncio.CancelledError):
            await first

    run(scene, slow=Zone(mute=SILENT))


def test_the_cache_is_bounded() -> None:
    async def main() -> None:
        server = await DnsServer({f"n{i}.example.test": Zone(("192.0.2.1",)) for i in range(20)}).start()
        resolver = Resolver([server.address], max_entries=5)
        for i in range(20):
            await resolver.resolve(f"n{i}.example.test", 2)
        known = [i for i in range(20) if resolver.cached(f"n{i}.example.test") is not None]
        assert known == [15, 16, 17, 18, 19]
        resolver.close()
        server.close()

    asyncio.run(main())


def test_localhost_needs_no_name_server() -> None:
    async def scene(server: DnsServer, resolver: Resolver) -> None:
        assert "127.0.0.1" in (await resolver.resolve("localhost", 2)).addresses
        assert not server.asked

    run(scene)


def test_names_of_the_hosts_file_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hosts = tmp_path / "hosts"
    hosts.write_text("192.0.2.55 printer.lan\n", encoding="ascii")
    # c-ares' own way to another hosts file: ARES_AI_ENVHOSTS.
    monkeypatch.setattr(resolver_module, "_FLAGS", resolver_module._FLAGS | 1 << 8)
    monkeypatch.setenv("CARES_HOSTS", str(hosts))

    async def scene(server: DnsServer, resolver: Resolver) -> None:
        assert (await resolver.resolve("printer.lan", 2)).addresses == ("192.0.2.55",)
        assert not server.asked

    run(scene)


def test_literals_need_no_question_and_are_normalised() -> None:
    async def scene(server: DnsServer, resolver: Resolver) -> None:
        for spelling in ("127.0.0.1", "2130706433", "0x7f.1", "0177.0.0.1", "127.1", "127。0。0。1"):
            assert (await resolver.resolve(spelling, 0)).addresses == ("127.0.0.1",)
        assert (await resolver.resolve("[::1]", 0)).addresses == ("::1",)
        assert not server.asked

    run(scene)


def test_an_international_name_is_asked_for_in_punycode() -> None:
    async def scene(_server: DnsServer, resolver: Resolver) -> None:
        assert (await resolver.resolve("Bücher.example.test", 2)).addresses == ("192.0.2.1",)

    run(scene, xn__bcher_kva=Zone(("192.0.2.1",)))


@pytest.mark.parametrize("host", ["", "a..b", "a b", "x" * 64 + ".test", "256.256.256.256", "ab\x00c", "[::1%eth0]"])
def test_an_impossible_host_is_an_invalid_target_at_once(host: str) -> None:
    async def scene(server: DnsServer, resolver: Resolver) -> None:
        assert (await resolver.resolve(host, 1)).reason is Reason.INVALID_TARGET
        assert not server.asked

    run(scene)


def test_a_resolver_that_cannot_start_is_our_own_failure_each_time_and_said_once() -> None:
    async def main() -> None:
        resolver = Resolver(["dns.example"])  # the settings refuse a name; what we are given is not always from there
        with structlog.testing.capture_logs() as lines:
            for _ in range(3):
                started = time.perf_counter()
                found = await resolver.resolve("web.example.test", 60)
                assert (found.reason, found.addresses) == (Reason.INTERNAL, ())
                assert time.perf_counter() - started < 40  # nobody waits for a question that was not asked
            assert (await resolver.resolve("other.example.test", 5)).reason is Reason.INTERNAL
        assert [line["event"] for line in lines] == ["resolver_cannot_ask"]
        assert resolver._in_flight == {}
        resolver.close()

    asyncio.run(main())


def test_a_host_asked_for_while_no_file_can_be_opened_is_found_as_soon_as_one_can() -> None:
    async def scene(_server: DnsServer, resolver: Resolver) -> None:
        limits = resource.getrlimit(resource.RLIMIT_NOFILE)
        with structlog.testing.capture_logs() as lines:
            resource.setrlimit(resource.RLIMIT_NOFILE, (3, limits[1]))
            try:
                found = await resolver.resolve("web.example.test", 2)
            finally:
                resource.setrlimit(resource.RLIMIT_NOFILE, limits)
            assert found.reason is Reason.INTERNAL
            assert (await resolver.resolve("web.example.test", 2)).addresses == ("192.0.2.1",)
        assert [line["event"] for line in lines] == ["resolver_cannot_ask", "resolver_asks_again"]

    run(scene, web=Zone(("192.0.2.1",)))


def test_no_file_for_a_question_is_our_own_failure_and_not_that_of_the_name_servers() -> None:
    async def scene(_server: DnsServer, resolver: Resolver) -> None:
        assert (await resolver.resolve("web.example.test", 2)).addresses
        limits = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (3, limits[1]))
        resolver._renewed_at = float("inf")  # the channel stays: it is its sockets that cannot be opened
        try:
            found = await resolver.resolve("other.example.test", 2)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        assert found.reason is Reason.INTERNAL
        assert (await resolver.resolve("other.example.test", 2)).addresses == ("192.0.2.2",)

    run(scene, web=Zone(("192.0.2.1",)), other=Zone(("192.0.2.2",)))


def test_a_second_question_on_a_channel_that_cannot_be_opened_ends_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as nobody:  # its port is closed when we ask
            nobody.bind(("127.0.0.1", 0))
            address = f"127.0.0.1:{nobody.getsockname()[1]}"
        resolver, opened = Resolver([address]), []
        really = Resolver._open_channel

        def once(self: Resolver) -> pycares.Channel:
            opened.append(1)
            if len(opened) > 1:
                raise pycares.AresError("Failed to initialize c-ares channel")
            return really(self)

        monkeypatch.setattr(Resolver, "_open_channel", once)
        found = await resolver.resolve("web.example.test", 5)
        assert (found.reason, len(opened)) == (Reason.INTERNAL, 2)
        assert resolver._in_flight == {}
        resolver.close()

    asyncio.run(main())


def test_closing_answers_those_who_wait() -> None:
    async def scene(_server: DnsServer, resolver: Resolver) -> None:
        waiting = asyncio.create_task(resolver.resolve("mute.example.test", 60))
        await asyncio.sleep(0.05)
        resolver.close()
        assert (await asyncio.wait_for(waiting, 30)).reason is Reason.DNS_FAILED

    run(scene, mute=Zone(mute=SILENT))

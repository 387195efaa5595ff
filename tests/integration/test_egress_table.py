"""One table of places that must not be reached, over every way out: probes, redirects, proxies, channels."""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from common.channels.base import Destination
from common.channels.connect import NoConnection, connect
from common.channels.registry import CHANNELS
from common.domain.checks import Reason
from common.domain.egress import EgressMode
from common.domain.options import DnsOptions, HttpExtras, HttpOptions
from common.http.resolver import MIN_TTL_S
from notifier.messages import build
from tests.dns_server import Zone
from tests.probing import STREAMS, Peer, config, context, look, mute, peer, run
from tests.targets import redirect, serving
from tests.telling import CLAIM
from tests.wire import SECRET, context_over
from worker.probes.base import ProbeContext

INTERNAL, PUBLIC = EgressMode.INTERNAL, EgressMode.PUBLIC
DENIED = Reason.EGRESS_DENIED.label

ZONES = {
    "loopback.test": Zone(("127.0.0.1",)),
    "metadata.test": Zone(("169.254.169.254",)),
    "metadata6.test": Zone(("fd00:ec2::254",)),
    "private.test": Zone(("10.0.0.1", "fd12::1")),
    "mapped.test": Zone(("::ffff:169.254.169.254",)),
}

#: Never, in either mode.
NEVER = [
    "169.254.169.254", "0xA9FEA9FE", "2852039166", "0251.0376.0251.0376", "169.254.43518",
    "\uff11\uff16\uff19\u3002254\u3002169\u3002254", "[::ffff:169.254.169.254]", "[::ffff:a9fe:a9fe]",
    "[64:ff9b::a9fe:a9fe]", "[64:ff9b:1::a9fe:a9fe]", "[2002:a9fe:a9fe::1]", "[fd00:ec2::254]", "100.100.100.200",
    "168.63.129.16", "169.254.1.1", "[fe80::1]", "0.0.0.0", "0", "[::]", "224.0.0.1", "[ff02::1]", "255.255.255.255",
    "metadata.test", "metadata6.test", "mapped.test", "METADATA.TEST.",
]  # fmt: skip
#: Only for the operator.
OPERATORS = [
    "127.0.0.1", "2130706433", "0x7f.1", "0177.0.0.1", "127.1", "127\u30020\u30020\u30021", "[::1]",
    "[::ffff:7f00:1]", "[64:ff9b::7f00:1]", "[2002:7f00:1::]", "10.0.0.1", "172.16.0.1", "192.168.1.1", "100.64.0.1",
    "[fd12::1]", "192.0.2.1", "240.0.0.1", "localhost", "loopback.test", "private.test",
]  # fmt: skip


async def _probe(type_: str, host: str, port: int, ctx: ProbeContext, **changes: Any) -> str:
    found = await look(config(type_, host, port, timeout_s=1.0, **changes), ctx)
    if found.reason is Reason.EGRESS_DENIED:
        # One and the same sentence for all of them, and nothing of where the name leads.
        assert found.message.startswith("the egress policy does not allow ")
        assert found.address == ""
    return found.reason.label


def _by(type_: str) -> Callable[[str, int, ProbeContext], Awaitable[str]]:
    async def go(host: str, port: int, ctx: ProbeContext) -> str:
        return await _probe(type_, host, port, ctx)

    return go


async def _redirected(host: str, port: int, ctx: ProbeContext) -> str:
    # The policy would deny the first hop as well in public mode, loopback as it is: of that one it is not asked.
    judge = ctx.engine._judge
    ctx.engine._judge = lambda address: None if address == "127.0.0.9" else judge(address)  # type: ignore[assignment]
    async with serving({"*": redirect(302, f"http://{host}:{port}/")}, "127.0.0.9") as target:
        return await _probe("http", "127.0.0.9", target.port, ctx)


async def _proxied(host: str, port: int, ctx: ProbeContext) -> str:
    options = HttpOptions(extras=HttpExtras(proxy=f"http://{host}:{port}"))
    return await _probe("http", "192.0.2.7", 80, ctx, options=options)


async def _name_server(host: str, port: int, ctx: ProbeContext) -> str:
    return await _probe("dns", "h", 1, ctx, options=DnsOptions(resolver=f"{host}:{port}"))


async def _webhook(host: str, port: int, ctx: ProbeContext) -> str:
    destination = Destination(CLAIM.channel_id, {"url": f"http://{host}:{port}/"}, {"secret": SECRET})
    attempt = await CHANNELS["webhook"].send(build((CLAIM,)), destination, context_over(ctx.engine))  # type: ignore[arg-type]
    return attempt.error.partition(":")[0]


async def _mail(host: str, port: int, ctx: ProbeContext) -> str:
    try:
        (await connect(ctx, host, port, 1.0)).close()  # type: ignore[arg-type]
    except NoConnection as error:
        return str(error).partition(":")[0]
    return ""


WAYS: dict[str, Callable[[str, int, ProbeContext], Awaitable[str]]] = {
    **{type_: _by(type_) for type_ in (*sorted(STREAMS), "icmp")},
    "redirect": _redirected,
    "proxy": _proxied,
    "name server": _name_server,
    "webhook": _webhook,
    "mail channel": _mail,
}
every_way = pytest.mark.parametrize("way", list(WAYS))


@every_way
@pytest.mark.parametrize("mode", [INTERNAL, PUBLIC])
def test_what_nobody_may_reach_is_reached_by_no_way(way: str, mode: EgressMode) -> None:
    async def main() -> None:
        async with context(mode, zones=ZONES) as ctx:
            for host in NEVER:
                if way == "redirect" and not host.isascii():
                    continue  # a Location is made of bytes
                assert await WAYS[way](host, 80, ctx) == DENIED, host

    run(main())


@every_way
def test_what_strangers_may_not_reach_is_reached_by_no_way_in_public_mode(way: str) -> None:
    async def main() -> None:
        async with peer(mute) as target, context(PUBLIC, zones=ZONES) as ctx:
            for host in OPERATORS:
                if way == "redirect" and not host.isascii():
                    continue
                assert await WAYS[way](host, target.port, ctx) == DENIED, host
            assert target.connections == 0

    run(main())


async def _hang_up(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
    await reader.read(1)


async def _accepted(target: Peer, *, reached: bool) -> None:
    """Who connected may be done before the server has looked; who did not is waited for a moment."""
    for _ in range(1_000 if reached else 1):
        await asyncio.sleep(0.02)
        if target.connections:
            return


#: mode, allowed, denied, host: may it be reached?
LISTS = [
    (INTERNAL, (), (), "127.0.0.1", True),
    (INTERNAL, (), ("127.0.0.0/8",), "127.0.0.1", False),
    (INTERNAL, ("127.0.0.1/32",), ("127.0.0.0/8",), "127.0.0.1", False),  # deny wins
    (PUBLIC, ("127.0.0.1/32",), (), "127.0.0.1", True),
    (PUBLIC, ("127.0.0.1/32",), (), "loopback.test", True),
    (PUBLIC, ("127.0.0.2/32",), (), "127.0.0.1", False),
    (PUBLIC, ("127.0.0.0/8",), ("127.0.0.1/32",), "[::ffff:127.0.0.1]", False),  # in any spelling
    (PUBLIC, ("0.0.0.0/0", "::/0"), (), "169.254.169.254", False),  # no list opens the cloud's secrets
    (PUBLIC, ("0.0.0.0/0", "::/0"), (), "metadata6.test", False),
]


@pytest.mark.parametrize("way", [way for way in WAYS if way not in ("icmp", "redirect", "proxy", "name server")])
@pytest.mark.parametrize(("mode", "allow", "deny", "host", "reached"), LISTS)
def test_the_operators_lists_count_on_every_way(
    way: str, mode: EgressMode, allow: tuple[str, ...], deny: tuple[str, ...], host: str, reached: bool
) -> None:
    rules = {"allow": tuple(map(ipaddress.ip_network, allow)), "deny": tuple(map(ipaddress.ip_network, deny))}

    async def main() -> None:
        async with peer(_hang_up) as target, context(mode, zones=ZONES, **rules) as ctx:
            assert (await WAYS[way](host, target.port, ctx) == DENIED) is not reached
            await _accepted(target, reached=reached)
            assert (target.connections > 0) is reached

    run(main())


@pytest.mark.parametrize("way", [*sorted(STREAMS), "webhook", "mail channel"])
def test_of_a_name_with_good_and_bad_addresses_only_the_good_is_connected_to(way: str) -> None:
    zones = {"mixed.test": Zone(("169.254.169.254", "127.0.0.1", "10.0.0.1"))}
    allow = (ipaddress.ip_network("127.0.0.1/32"),)

    async def main() -> None:
        async with peer(_hang_up) as target, context(PUBLIC, zones=zones, allow=allow) as ctx:
            assert await WAYS[way]("mixed.test", target.port, ctx) != DENIED
            await _accepted(target, reached=True)
            assert target.connections == 1

    run(main())


@pytest.mark.parametrize("way", ["http", "tcp", "webhook"])
def test_a_name_that_changes_its_mind_gains_nothing(way: str) -> None:
    zones = {"rebinding.test": Zone(("127.0.0.1",), ttl=0)}
    allow = (ipaddress.ip_network("127.0.0.1/32"),)

    async def main() -> None:
        async with peer(_hang_up) as target, context(PUBLIC, zones=zones, allow=allow) as ctx:
            assert await WAYS[way]("rebinding.test", target.port, ctx) != DENIED
            zones["rebinding.test"] = Zone(("10.0.0.1",), ttl=0)
            await asyncio.sleep(MIN_TTL_S + 0.3)
            assert await WAYS[way]("rebinding.test", target.port, ctx) == DENIED

    run(main())


#: A Location that leads out of HTTP, and one with somebody's credentials.
LOCATIONS = [
    ("file:///etc/passwd", Reason.REDIRECT_INVALID),
    ("gopher://127.0.0.1:70/", Reason.REDIRECT_INVALID),
    ("//169.254.169.254/", Reason.EGRESS_DENIED),
    ("http://public.example@169.254.169.254/", Reason.EGRESS_DENIED),
    ("http://169.254.169.254\\@127.0.0.1/", Reason.REDIRECT_INVALID),
]


@pytest.mark.parametrize(("location", "reason"), LOCATIONS)
def test_a_redirect_is_judged_like_a_target(location: str, reason: Reason) -> None:
    async def main() -> None:
        async with serving({"*": redirect(302, location)}) as target, context() as ctx:
            found = await look(config("http", "127.0.0.1", target.port), ctx)
            assert found.reason is reason

    run(main())

"""The dns and icmp probes: name servers that misbehave, packets that are lost, a kernel that forbids."""

from __future__ import annotations

import asyncio
import socket
import time
from typing import Any

import pytest

from common.domain.checks import Reason, Verdict
from common.domain.egress import EgressMode
from common.domain.monitors import Assertion
from common.domain.options import DnsOptions
from tests.probing import (
    config,
    context,
    leaving_nothing,
    look,
    run,
    udp_peer,
)
from tests.targets import free_port
from worker.probes import icmp, icmp_echo

#: Far more than a busy machine adds to a deadline of half a second.
LATE_S = 20.0

#: What a name server sends back → reason
NAME_SERVERS = [
    ("nothing", None, Reason.DNS_TIMEOUT),
    ("garbage", b"garbage", Reason.PROTOCOL_ERROR),
    ("garbage with our id", b"ID\x81\x80\xff\xff\xff\xff", Reason.PROTOCOL_ERROR),
    ("another question's answer", b"ID\x81\x80\0\1\0\0\0\0\0\0\1x\0\0\1\0\1", Reason.PROTOCOL_ERROR),
    ("an empty datagram", b"", Reason.PROTOCOL_ERROR),
]  # fmt: skip


@pytest.mark.parametrize(("answer", "reason"), [row[1:] for row in NAME_SERVERS], ids=[row[0] for row in NAME_SERVERS])
def test_a_name_server_that_misbehaves_gets_its_reason_in_time(answer: bytes | None, reason: Reason) -> None:
    async def main() -> None:
        async with context() as ctx:
            with udp_peer(answer) as port:
                async with leaving_nothing():
                    started = time.perf_counter()
                    found = await look(config("dns", "127.0.0.1", port, timeout_s=0.5), ctx)
                    assert time.perf_counter() - started < LATE_S
                assert (found.verdict, found.reason) == (Verdict.DOWN, reason)

    run(main())


def test_a_name_server_that_is_not_there_refuses_and_cancellation_leaves_nothing() -> None:
    async def main() -> None:
        async with context() as ctx:
            found = await look(config("dns", "127.0.0.1", free_port()), ctx)
            assert (found.verdict, found.reason) == (Verdict.DOWN, Reason.CONNECT_REFUSED)
            with udp_peer(None) as port:
                async with leaving_nothing():
                    task = asyncio.create_task(look(config("dns", "127.0.0.1", port), ctx))
                    await asyncio.sleep(0.05)
                    task.cancel()
                    with pytest.raises(asyncio.CancelledError):
                        await task

    run(main())


def test_the_own_name_server_answers_the_operators_monitors_and_no_strangers() -> None:
    async def main() -> None:
        own = DnsOptions()
        async with context() as ctx:
            assert (await look(config("dns", "h", 1, options=own), ctx)).verdict is Verdict.UP
        async with context(EgressMode.PUBLIC) as ctx:
            found = await look(config("dns", "h", 1, options=own), ctx)
            assert (found.verdict, found.reason) == (Verdict.DOWN, Reason.EGRESS_DENIED)

    run(main())


class Pretended(socket.socket):
    """One end of a pair in place of an ICMP socket: what is sent is read at the other end."""

    def connect(self, _address: Any) -> None:
        return


def icmp_over_a_pair(monkeypatch: pytest.MonkeyPatch) -> socket.socket:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    ours.setblocking(False)
    theirs.setblocking(False)
    pretended = Pretended(fileno=ours.detach())
    monkeypatch.setattr(icmp, "open_to", lambda _address: pretended)
    return theirs


def answering(theirs: socket.socket, numbers: set[int]) -> None:
    """Answer these requests, by their number, with what other pings might get before."""

    def react() -> None:
        request = theirs.recv(2048)
        theirs.send(b"\x00" * 20)
        if request[7] in numbers:
            theirs.send(b"\x00" + request[1:])

    asyncio.get_running_loop().add_reader(theirs, react)


#: Which of three requests are answered → verdict, reason
LOST = [
    ({0, 1, 2}, Verdict.UP, Reason.NONE),
    ({0, 2}, Verdict.DEGRADED, Reason.PACKET_LOSS),
    (set(), Verdict.DOWN, Reason.NO_REPLY),
]


@pytest.mark.parametrize(("numbers", "verdict", "reason"), LOST)
def test_lost_packets_are_counted_within_the_deadline(
    numbers: set[int], verdict: Verdict, reason: Reason, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        theirs = icmp_over_a_pair(monkeypatch)
        answering(theirs, numbers)
        loss = (Assertion("packet_loss", "lt", 10, on_fail="degraded"),)
        options = icmp.IcmpOptions(count=3)
        timeout_s = 0.5 if verdict is not Verdict.UP else 5.0  # with all answers nobody waits for its end
        monitor = config("icmp", "127.0.0.1", 1, options=options, assertions=loss, timeout_s=timeout_s)
        async with context() as ctx:
            started = time.perf_counter()
            found = await look(monitor, ctx)
            assert time.perf_counter() - started < LATE_S
        assert (found.verdict, found.reason) == (verdict, reason)
        asyncio.get_running_loop().remove_reader(theirs)
        theirs.close()

    run(main())


def test_a_kernel_that_forbids_icmp_is_our_fault_and_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    real = socket.socket

    def forbidden(family: int = -1, type_: int = -1, protocol: int = -1, *rest: Any) -> socket.socket:
        if protocol == socket.IPPROTO_ICMP:
            raise PermissionError(1, "Operation not permitted")
        return real(family, type_, protocol, *rest)

    async def main() -> None:
        async with context() as ctx:
            monkeypatch.setattr(icmp_echo.socket, "socket", forbidden)
            found = await look(config("icmp", "127.0.0.1", 1), ctx)
            monkeypatch.undo()
            assert (found.verdict, found.reason) == (Verdict.UNKNOWN, Reason.WORKER_NOT_PERMITTED)
            assert "ping_group_range" in found.message

    run(main())

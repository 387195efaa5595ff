"""TLS of every probe that speaks it: what is wrong with it has a reason of its own, and nothing is taken on trust."""

from __future__ import annotations

import asyncio
import struct
from pathlib import Path
from typing import Any

import pytest

from common.domain.checks import Reason, Verdict
from common.domain.monitors import Assertion
from common.domain.options import PostgresOptions, SmtpOptions, TcpOptions
from tests.probing import (
    STREAMS,
    Handler,
    config,
    context,
    look,
    peer,
    run,
)
from tests.targets import Authority, make_authority
from worker.probes import starttls


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return make_authority(tmp_path_factory.mktemp("ca"))


#: Who speaks TLS, and how it is asked to.
SECURE: dict[str, tuple[str, dict[str, Any]]] = {
    "http": ("https://{}:{}/", {}),
    "tcp": ("{}:{}", {"tls": True}),
    "tls": ("{}:{}", {}),
    "websocket": ("wss://{}:{}/", {}),
    "smtp": ("{}:{}", {"security": "tls"}),
    "redis": ("{}:{}", {"tls": True}),
}
#: How the server's certificate is wrong → reason
WRONG_TLS: list[tuple[str, dict[str, Any], str, Reason]] = [
    ("expired", {"expired": True}, "127.0.0.1", Reason.TLS_CERTIFICATE_EXPIRED),
    ("self-signed", {"self_signed": True}, "127.0.0.1", Reason.TLS_CERTIFICATE_UNTRUSTED),
    ("of another host", {}, "other.test", Reason.TLS_HOSTNAME_MISMATCH),
]


@pytest.mark.parametrize("type_", sorted(SECURE))
@pytest.mark.parametrize(("flaws", "host", "reason"), [row[1:] for row in WRONG_TLS], ids=[row[0] for row in WRONG_TLS])
def test_wrong_tls_has_a_reason_of_its_own(
    type_: str, flaws: dict[str, Any], host: str, reason: Reason, authority: Authority
) -> None:
    async def main() -> None:
        case, (target, extra) = STREAMS[type_], SECURE[type_]
        options = type(case.options)(**extra)
        async with peer(case.well, authority.context(host, **flaws)) as server, context(ca=authority.ca_file) as ctx:
            monitor = config(type_, "h", 1, target=target.format("127.0.0.1", server.port), options=options)
            found = await look(monitor, ctx)
            assert (found.verdict, found.reason) == (Verdict.DOWN, reason)
            assert f"127.0.0.1:{server.port}" in found.message

    run(main())


@pytest.mark.parametrize("type_", sorted(SECURE))
def test_good_tls_is_up_and_its_certificate_is_judged(type_: str, authority: Authority) -> None:
    async def main() -> None:
        case, (target, extra) = STREAMS[type_], SECURE[type_]
        options = type(case.options)(**extra)
        async with peer(case.well, authority.context("127.0.0.1")) as server, context(ca=authority.ca_file) as ctx:
            where = target.format("127.0.0.1", server.port)
            good = (
                Assertion("cert_days", "gt", 0.9),
                Assertion("cert_days", "lt", 1.1),
                Assertion("tls_ms", "gt", 0.001),
            )
            found = await look(config(type_, "h", 1, target=where, options=options, assertions=good), ctx)
            assert (found.verdict, found.message) == (Verdict.UP, "")
            assert found.phases.tls_ms > 0
            soon = (Assertion("cert_days", "gt", 14, on_fail="degraded"),)
            found = await look(
                config(type_, "h", 1, target=where, options=options, assertions=soon, config_version=2), ctx
            )
            assert (found.verdict, found.reason) == (Verdict.DEGRADED, Reason.CERTIFICATE_EXPIRING)
            assert found.message == "expected cert_days over 14, got 1.0"

    run(main())


def test_a_server_that_refuses_our_versions_of_tls_is_told_from_other_failures() -> None:
    async def old(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(100)
        writer.write(b"\x15\x03\x01\0\2\2\x46")  # an alert: fatal, protocol_version

    async def main() -> None:
        async with peer(old) as server, context() as ctx:
            assert (await look(config("tls", "127.0.0.1", server.port), ctx)).reason is Reason.TLS_VERSION_WEAK

    run(main())


#: Protocol → what its server says and must hear until both agree on TLS, and how one that has none refuses.
AGREEMENTS: dict[str, tuple[list[bytes], list[bytes], bytes]] = {
    "smtp": (
        [b"220-a\r\n220 b\r\n", b"250-a\r\n250 STARTTLS\r\n", b"220 go\r\n"], [b"EHLO ", b"STARTTLS"], b"502 no\r\n",
    ),
    "imap": ([b"* OK hi\r\n", b"* busy\r\na1 OK go\r\n"], [b"a1 STARTTLS"], b"a1 BAD no\r\n"),
    "pop3": ([b"+OK hi\r\n", b"+OK go\r\n"], [b"STLS"], b"-ERR no\r\n"),
    "ftp": ([b"220 hi\r\n", b"234 go\r\n"], [b"AUTH TLS"], b"500 no\r\n"),
    "postgres": ([b"", b"S"], [b"\0\0\0\x08\x04\xd2\x16\x2f"], b"N"),
}  # fmt: skip


@pytest.mark.parametrize("type_", ["tcp", "tls"])
@pytest.mark.parametrize("protocol", list(starttls.AGREEMENTS))
def test_protocols_agree_on_tls_in_their_own_way(type_: str, protocol: str, authority: Authority) -> None:
    says, hears, refusal = AGREEMENTS[protocol]

    def speaking(last: bytes, *, secure: bool) -> Handler:
        async def act(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            for said, wanted in zip([*says[:-1], last], [*hears, b""], strict=True):
                writer.write(said)
                await writer.drain()
                if wanted:
                    heard = await (reader.readexactly(8) if protocol == "postgres" else reader.readline())
                    assert heard.startswith(wanted)
            if secure:
                await writer.start_tls(authority.context("127.0.0.1"))
            await reader.read(100)

        return act

    async def main() -> None:
        options = type(STREAMS[type_].options)(starttls=protocol)  # type: ignore[call-arg]
        async with context(ca=authority.ca_file) as ctx:
            for last, secure, reason in ((says[-1], True, Reason.NONE), (refusal, False, Reason.TLS_NOT_OFFERED)):
                async with peer(speaking(last, secure=secure)) as server:
                    found = await look(config(type_, "127.0.0.1", server.port, options=options), ctx)
                assert found.reason is reason, found.message
                assert (found.phases.tls_ms > 0) is secure

    run(main())


#: What a monitor of PostgreSQL wants of TLS, whom the certificate is for → reason
POSTGRES_TLS = [
    ("require", "127.0.0.1", Reason.NONE),
    ("require", "other.test", Reason.TLS_HOSTNAME_MISMATCH),
    ("prefer", "other.test", Reason.NONE),  # protects from listeners alone
]


@pytest.mark.parametrize(("wanted", "host", "reason"), POSTGRES_TLS)
def test_postgres_agrees_on_tls_first(wanted: str, host: str, reason: Reason, authority: Authority) -> None:
    async def secured(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(8)
        writer.write(b"S")
        await writer.start_tls(authority.context(host))
        (size,) = struct.unpack("!I", await reader.readexactly(4))
        await reader.readexactly(size - 4)
        # A password in the clear: over TLS only.
        writer.write(b"R" + struct.pack("!II", 8, 3))
        assert await reader.readexactly(9 + 6) == b"p" + struct.pack("!I", 4 + 10) + b"s3cret-pw\0"
        writer.write(b"R" + struct.pack("!II", 8, 0) + b"Z" + struct.pack("!I", 5) + b"I")
        await reader.read(100)

    async def main() -> None:
        async with peer(secured) as server, context(ca=authority.ca_file) as ctx:
            options = PostgresOptions(tls=wanted, password="s3cret-pw")
            found = await look(config("postgres", "127.0.0.1", server.port, options=options), ctx)
            assert (found.reason, found.message if not reason else "") == (reason, "")

    run(main())


def test_what_a_server_sends_before_tls_does_not_pass_for_protected(authority: Authority) -> None:
    async def injecting(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 mail.test\r\n")
        await reader.readline()
        writer.write(b"250-mail.test\r\n250 STARTTLS\r\n")
        await reader.readline()
        writer.write(b"220 go\r\n250 injected\r\n")
        await reader.read(100)

    async def main() -> None:
        async with peer(injecting) as server, context(ca=authority.ca_file) as ctx:
            options = SmtpOptions(security="starttls")
            found = await look(config("smtp", "127.0.0.1", server.port, options=options), ctx)
            assert (found.verdict, found.reason) == (Verdict.DOWN, Reason.PROTOCOL_ERROR)

    run(main())


def test_a_private_authority_replaces_the_public_ones(authority: Authority) -> None:
    pem = Path(authority.ca_file).read_text()

    async def main() -> None:
        async with peer(STREAMS["tcp"].well, authority.context("127.0.0.1")) as server, context() as ctx:
            trusting = TcpOptions(tls=True, expect="hello", ca_certificates=pem)
            assert (await look(config("tcp", "127.0.0.1", server.port, options=trusting), ctx)).verdict is Verdict.UP
            strict = TcpOptions(tls=True, expect="hello")
            found = await look(config("tcp", "127.0.0.1", server.port, options=strict), ctx)
            assert found.reason is Reason.TLS_CERTIFICATE_UNTRUSTED

    run(main())

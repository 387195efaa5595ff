"""Whatever a target says is an observation, and its secrets are hidden before anything is kept of it."""

from __future__ import annotations

import asyncio
import random
import time
from types import SimpleNamespace

import pytest

from common.domain.checks import Reason, Verdict
from common.domain.monitors import Assertion
from common.domain.options import read_options
from common.domain.redaction import shown_forms
from tests.probing import (
    STREAMS,
    config,
    context,
    look,
    peer,
    run,
    udp_peer,
)
from worker.checks import CheckRunner
from worker.stall import LoopLag
from worker.suspicion import Suspicion

every_stream = pytest.mark.parametrize("type_", sorted(STREAMS))


#: What each protocol begins with, so that noise gets past the first line.
_OPENINGS = {
    "http": [b"HTTP/1.1 200 OK\r\n", b"HTTP/2 200\r\n", b"HTTP/1.1 999999 x\r\n"],
    "tcp": [b""],
    "tls": [b"\x16\x03\x03\x00\x40\x02\x00\x00\x3c", b"\x15\x03\x03\x00\x02"],
    "websocket": [b"HTTP/1.1 101 X\r\nUpgrade: websocket\r\n", b"HTTP/1.1 200 OK\r\n\r\n"],
    "smtp": [b"220 a\r\n250-", b"220-a\r\n220", b"220\r\n250\r\n"],
    "postgres": [b"NR\0\0\0\x08\0\0\0\0Z", b"NR\0\0\0\x17\0\0\0\x0aSCRAM-SHA-256\0\0", b"NT\0\0", b"NE\0\0\0\x10SX\0"],
    "redis": [b"*3\r\n", b"$5\r\n", b":", b"*2\r\n*2\r\n", b"$-"],
}  # fmt: skip


@every_stream
def test_noise_is_always_an_observation(type_: str) -> None:
    chance = random.Random(type_)

    async def main() -> None:
        async with context() as ctx:
            for _ in range(60):
                said = chance.choice([b"", *_OPENINGS[type_]]) + chance.randbytes(chance.randrange(80))

                async def speak(
                    _reader: asyncio.StreamReader, writer: asyncio.StreamWriter, said: bytes = said
                ) -> None:
                    writer.write(said)

                async with peer(speak) as server:
                    found = await look(config(type_, "127.0.0.1", server.port, timeout_s=0.5), ctx)
                if type_ in ("http", "tls", "tcp"):
                    assert found.reason not in (Reason.INTERNAL, Reason.INVALID_TARGET), said
                else:
                    assert found.verdict in (Verdict.DOWN, Verdict.UP), said
                assert len(found.message) < 500

    run(main())


def test_a_noisy_name_server_is_always_an_observation() -> None:
    chance = random.Random("dns")
    good = b"ID\x81\x80\0\1\0\1\0\0\0\0\3web\4test\0\0\1\0\1\xc0\x0c\0\1\0\1\0\0\0\x3c\0\4\x7f\0\0\1"

    async def main() -> None:
        async with context() as ctx:
            for _ in range(80):
                said = bytearray(good)
                for _ in range(chance.randrange(6)):
                    said[chance.randrange(2, len(said))] = chance.randrange(256)
                with udp_peer(bytes(said[: chance.randrange(8, len(said) + 1)])) as port:
                    found = await look(config("dns", "127.0.0.1", port, timeout_s=0.15), ctx)
                assert found.verdict in (Verdict.UP, Verdict.DOWN), said

    run(main())


def test_a_secret_that_a_target_sends_back_is_hidden_before_anything_is_kept() -> None:
    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nyou sent: " + head)

    async def main() -> None:
        async with peer(echo) as target, context() as ctx:
            lag, suspicion = LoopLag(time.monotonic), Suspicion(time.monotonic)
            parts = SimpleNamespace(probes=ctx, lag=lag, suspicion=suspicion, canary=None)
            runner = CheckRunner(parts, location=1, location_name="local")  # type: ignore[arg-type]
            secrets = {"http.password": "s3cret-canary", "http.headers.X-Key": "k3y-canary"}
            options = read_options("http", {"username": "a", "password": None, "headers": {"X-Key": None}}, secrets)
            (credentials,) = (value for name, value in options.headers if name == "Authorization")  # type: ignore[union-attr]
            monitor = config(
                "http", "127.0.0.1", target.port, options=options, assertions=(Assertion("body", "matches", "^ok"),),
                secrets=shown_forms([*secrets.values(), credentials]),
            )  # fmt: skip
            bare = await look(monitor, ctx)
            assert "k3y-canary" in repr(bare)  # it did come back
            found = await runner.look(monitor)
            assert (found.verdict, found.reason) == (Verdict.DOWN, Reason.BODY_MISMATCH)
            for text in ("canary", credentials.removeprefix("Basic ")):
                assert text not in repr(found)

    run(main())

"""How protocols agree on TLS in the middle of a conversation: what each says and must hear, as a table."""

from __future__ import annotations

import struct
from collections.abc import Awaitable, Callable, Mapping
from types import MappingProxyType

from common.domain.checks import Reason
from common.http.dial import Trouble
from common.http.wire import Wire

#: PostgreSQL's SSLRequest: a length and a number that is no version of its protocol.
POSTGRES_REQUEST = struct.pack("!II", 8, 80_877_103)
_MAX_LINES = 100


async def _numbered(wire: Wire, code: bytes) -> None:
    """One reply of SMTP or FTP: lines like `220-…`, the last `220 …`."""
    for _ in range(_MAX_LINES):
        line = await wire.read_line()
        if not line.startswith(code):
            raise _refused(wire)
        if line[3:4] != b"-":
            return
    raise Trouble(Reason.PROTOCOL_ERROR, f"{wire.where} sent more than {_MAX_LINES} lines in one reply")


async def _said(wire: Wire, good: bytes) -> None:
    """One line that begins so."""
    if not (await wire.read_line()).startswith(good):
        raise _refused(wire)


async def _tagged(wire: Wire, good: bytes) -> None:
    """Lines up to one that begins so; IMAP may say something else before."""
    for _ in range(_MAX_LINES):
        line = await wire.read_line()
        if line.startswith(good):
            return
        if not line.startswith(b"*"):
            raise _refused(wire)
    raise Trouble(Reason.PROTOCOL_ERROR, f"{wire.where} sent more than {_MAX_LINES} lines in one reply")


async def _smtp(wire: Wire) -> None:
    await _numbered(wire, b"220")
    await wire.send(b"EHLO tocsin.invalid\r\n")
    await _numbered(wire, b"250")
    await wire.send(b"STARTTLS\r\n")
    await _numbered(wire, b"220")


async def _ftp(wire: Wire) -> None:
    await _numbered(wire, b"220")
    await wire.send(b"AUTH TLS\r\n")
    await _numbered(wire, b"234")


async def _imap(wire: Wire) -> None:
    await _said(wire, b"* OK")
    await wire.send(b"a1 STARTTLS\r\n")
    await _tagged(wire, b"a1 OK")


async def _pop3(wire: Wire) -> None:
    await _said(wire, b"+OK")
    await wire.send(b"STLS\r\n")
    await _said(wire, b"+OK")


async def _postgres(wire: Wire) -> None:
    await wire.send(POSTGRES_REQUEST)
    if await wire.read_exactly(1) != b"S":
        raise _refused(wire)


def _refused(wire: Wire) -> Trouble:
    return Trouble(Reason.TLS_NOT_OFFERED, f"{wire.where} did not consent to TLS")


#: Protocol → what comes before its handshake.
AGREEMENTS: Mapping[str, Callable[[Wire], Awaitable[None]]] = MappingProxyType(
    {"smtp": _smtp, "imap": _imap, "pop3": _pop3, "ftp": _ftp, "postgres": _postgres}
)

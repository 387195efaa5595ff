"""One mail over SMTP, on the event loop, within one deadline; and what came of it.

The connection is ours: it goes to an address that the egress policy has judged. What the server said stays unsaid,
only its codes are told: it may be an internal one.
"""

from __future__ import annotations

import asyncio
import functools
import ssl
from collections.abc import Sequence
from dataclasses import dataclass

import aiosmtplib
import certifi
from aiosmtplib import SMTPException, SMTPResponseException

from common.channels.base import MailServer, Network
from common.channels.connect import NoConnection, connect
from common.clock import monotonic_s
from common.domain.delivery import SEND_DEADLINE_S, Attempt, Outcome

#: The farewell is politeness.
_QUIT_S = 1.0


@dataclass(slots=True)
class _Progress:
    """How far a conversation came: it decides what a broken one means."""

    step: str = "connection"
    data_sent: bool = False


@dataclass(frozen=True, slots=True)
class Envelope:
    """Who sends what to whom; `helo` is how we introduce ourselves."""

    sender: str
    recipients: Sequence[str]
    body: bytes
    helo: str


async def submit(server: MailServer, envelope: Envelope, network: Network, *, verify_tls: bool = True) -> Attempt:
    """Hand a mail over. It is delivered when the server took it for at least one recipient."""
    progress = _Progress()
    try:
        async with asyncio.timeout(SEND_DEADLINE_S):
            return await _submit(server, envelope, network, progress, _context(verify_tls=verify_tls))
    except SMTPResponseException as error:
        return _judge(error.code, progress.step)
    except (NoConnection, SMTPException, OSError) as error:
        return _broken(progress, error)


async def _submit(
    server: MailServer, envelope: Envelope, network: Network, progress: _Progress, tls: ssl.SSLContext
) -> Attempt:
    started = monotonic_s()
    sock = await connect(network, server.host, server.port, SEND_DEADLINE_S)
    client = aiosmtplib.SMTP(
        hostname=server.host,
        sock=sock,
        local_hostname=envelope.helo,
        use_tls=server.tls == "tls",
        start_tls=server.tls == "starttls",
        tls_context=tls,
        timeout=SEND_DEADLINE_S - (monotonic_s() - started),
    )
    try:
        progress.step = "greeting"
        await client.connect()
        progress.step = "EHLO"
        await client.ehlo()
        if server.username:
            progress.step = "AUTH"
            await client.login(server.username, server.password)
        return await _transfer(client, envelope, progress)
    finally:
        client.close()
        # Before its first byte the socket is still ours alone.
        sock.close()


async def _transfer(client: aiosmtplib.SMTP, envelope: Envelope, progress: _Progress) -> Attempt:
    progress.step = "MAIL FROM"
    await client.mail(envelope.sender, encoding="ascii")
    refused: list[int] = []
    for recipient in envelope.recipients:
        progress.step = "RCPT TO"
        try:
            await client.rcpt(recipient, encoding="ascii")
        except aiosmtplib.SMTPRecipientRefused as refusal:
            refused.append(refusal.code)
    if len(refused) == len(envelope.recipients):
        # While any of them may be taken later, it is worth trying again.
        return _judge(min(refused), progress.step)
    progress.step, progress.data_sent = "DATA", True
    response = await client.data(envelope.body)
    await _part(client)
    note = f"{len(refused)} of {len(envelope.recipients)} recipients were refused" if refused else ""
    return Attempt(Outcome.DELIVERED, response.code, note)


async def _part(client: aiosmtplib.SMTP) -> None:
    try:
        await client.quit(timeout=_QUIT_S)
    except (SMTPException, OSError):
        # It has the mail; how it says goodbye is its own affair.
        return


def _judge(code: int, step: str) -> Attempt:
    """4xx says "later", 5xx "never"; anything else is no SMTP."""
    outcome = Outcome.REJECTED if 500 <= code <= 599 else Outcome.FAILED
    return Attempt(outcome, code if 100 <= code <= 599 else None, f"the mail server answered {code} to {step}")


def _broken(progress: _Progress, error: Exception) -> Attempt:
    outcome = Outcome.UNKNOWN if progress.data_sent else Outcome.FAILED
    return Attempt(outcome, error=_explain(progress.step, error))


def _explain(step: str, error: Exception) -> str:
    if isinstance(error, NoConnection):
        return str(error)
    if isinstance(error, TimeoutError):
        return f"timeout: no answer to {step} in time"
    # aiosmtplib wraps what TLS says.
    for found in (error, error.__cause__):
        if isinstance(found, ssl.SSLError):
            return f"TLS failed at {step}: {found.reason or 'not trusted'}"
    if isinstance(error, aiosmtplib.SMTPNotSupported):
        return f"the mail server does not offer what {step} needs"
    return f"the connection broke at {step}"


@functools.cache
def _context(*, verify_tls: bool) -> ssl.SSLContext:
    """The system's authorities (a company's own is among them) and the public ones."""
    context = ssl.create_default_context()
    context.load_verify_locations(certifi.where())
    if not verify_tls:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context

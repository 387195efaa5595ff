"""Mails to a person by the installation's own server (TOCSIN_SMTP_URL), sent beside the request that caused them.

A request never waits for a mail, and its answer never tells whether one was sent: that would give away who has an
account. A mail that cannot be delivered is tried again for a while, then dropped and logged; people ask again.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime, make_msgid
from urllib.parse import urlsplit

from common import log
from common.channels.base import MailServer, Network
from common.channels.smtp import Envelope, submit
from common.channels.wiring import mail_server
from common.clock import utc_now
from common.domain.delivery import Attempt, Outcome
from common.domain.egress import EgressMode
from common.http.resolver import Resolver
from common.http.wiring import egress_rules
from common.settings import Settings

#: Mails under way at a time; each has a thread of its own.
_AT_ONCE = 8
#: After each failure, in seconds.
_PAUSES_S = (2.0, 10.0)


@dataclass(frozen=True, slots=True)
class Letter:
    """A mail to one person; `kind` is for the log."""

    kind: str
    to: str
    subject: str
    text: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Posting:
    """A letter that has its room among those under way and waits to be sent, or not to be: one of both, once."""

    send: Callable[[], None]
    drop: Callable[[], None]


class Mailer:
    """Sends letters; without a server it is not `available`, and nothing may be sent."""

    def __init__(
        self,
        server: MailServer | None,
        open_network: Callable[[], Network],
        base_url: str,
        *,
        pauses_s: Sequence[float] = _PAUSES_S,
    ) -> None:
        self._server = server
        self._open_network = open_network
        self._base_url = base_url
        self._pauses_s = pauses_s
        self._room = threading.BoundedSemaphore(_AT_ONCE)

    @property
    def available(self) -> bool:
        """Whether there is a mail server."""
        return self._server is not None

    def send(self, letter: Letter) -> bool:
        """Send a letter some time soon; False when too many are under way, or there is no server."""
        posting = self.prepare(letter)
        if posting is None:
            return False
        posting.send()
        return True

    def prepare(self, letter: Letter) -> Posting | None:
        """A letter that may not leave yet; None when too many are under way, or there is no server."""
        if self._server is None:
            return None
        if not self._room.acquire(blocking=False):
            log.get_logger().warning("mail_dropped", kind=letter.kind, reason="too many at once")
            return None
        # Not a daemon: a process that ends waits for it.
        thread = threading.Thread(target=self._run, args=(letter, self._server), name="mail")
        return Posting(thread.start, self._room.release)

    def _run(self, letter: Letter, server: MailServer) -> None:
        try:
            attempt = asyncio.run(self._deliver(letter, server))
        finally:
            self._room.release()
        if attempt.outcome is Outcome.DELIVERED:
            log.get_logger().info("mail_sent", kind=letter.kind)
        else:
            log.get_logger().warning("mail_failed", kind=letter.kind, error=attempt.error)

    async def _deliver(self, letter: Letter, server: MailServer) -> Attempt:
        # A resolver belongs to its loop.
        network = self._open_network()
        helo = urlsplit(self._base_url).hostname or "localhost"
        envelope = Envelope(server.sender, [letter.to], _compose(letter, server.sender), helo)
        attempt = await submit(server, envelope, network)
        for pause_s in self._pauses_s:
            if attempt.outcome is not Outcome.FAILED:
                break
            await asyncio.sleep(pause_s)
            attempt = await submit(server, envelope, network)
        return attempt


def open_mailer(settings: Settings) -> Mailer:
    """A mailer for the operator's server, which may stand beside us even where users' targets may not."""
    rules = replace(egress_rules(settings), mode=EgressMode.INTERNAL)
    return Mailer(mail_server(settings), lambda: Network(Resolver(settings.dns_server_list), rules), settings.base_url)


def _compose(letter: Letter, sender: str) -> bytes:
    address = Address(addr_spec=sender)
    mail = EmailMessage(policy=SMTP)
    mail["Subject"] = letter.subject
    mail["From"] = Address("Tocsin", addr_spec=sender)
    mail["To"] = Address(addr_spec=letter.to)
    mail["Date"] = format_datetime(utc_now())
    mail["Message-ID"] = make_msgid(domain=address.domain)
    mail["Auto-Submitted"] = "auto-generated"
    mail["X-Auto-Response-Suppress"] = "All"
    mail.set_content(letter.text)
    return mail.as_bytes()

"""E-mail by SMTP: through the channel's own server, or the installation's."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from email.headerregistry import Address
from typing import Annotated, Any, ClassVar, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field

from common.channels.base import Context, Destination, MailServer, Message, Network, Unsendable
from common.channels.mime import mail
from common.channels.settings import ChannelSettings, OptionalSecret
from common.channels.smtp import Envelope, submit
from common.channels.story import tell
from common.domain.delivery import Attempt, Poison
from common.domain.egress import EgressMode
from common.domain.errors import FieldError
from common.http.target import Host, parse_host

#: What every mail server takes: no quoted local parts, no comments, no line breaks.
_ADDRESS = re.compile(r"[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]{1,64}@(?:[A-Za-z0-9-]{1,63}\.)*[A-Za-z0-9-]{1,63}")
_PORTS = {"starttls": 587, "tls": 465, "none": 25}


def _address(text: str) -> str:
    if len(text) > 254 or not _ADDRESS.fullmatch(text) or ".." in text:
        raise ValueError("must be an address like name@example.com")
    return text


MailAddress = Annotated[str, AfterValidator(_address)]


class EmailSettings(ChannelSettings):
    """To whom, and by which server: without `host` by the installation's own (TOCSIN_SMTP_URL)."""

    LEADS: ClassVar[frozenset[str]] = frozenset({"host", "port", "tls", "verify_tls"})

    to: Annotated[list[MailAddress], Field(min_length=1, max_length=50)]
    sender: Annotated[MailAddress | None, Field(description="Needed with `host`; without, it is the server's.")] = None
    host: Annotated[str | None, Field(min_length=1, max_length=253)] = None
    port: Annotated[int | None, Field(ge=1, le=65_535, description="Default 587, with tls 465, without 25.")] = None
    tls: Annotated[Literal["starttls", "tls", "none"] | None, Field(description="Default starttls.")] = None
    verify_tls: bool | None = None
    username: Annotated[str | None, Field(min_length=1, max_length=320)] = None
    password: OptionalSecret = None

    def problems(self) -> Iterator[FieldError]:
        """A server of its own is described completely, and a password is never sent in the clear."""
        if self.host is None:
            for name in ("sender", "port", "tls", "verify_tls", "username", "password"):
                if getattr(self, name) is not None:
                    yield FieldError(name, "needs host: without one the installation's own server is used as it is")
            return
        host = parse_host(self.host)
        if isinstance(host, str):
            yield FieldError("host", host)
        if self.sender is None:
            yield FieldError("sender", "is required with host")
        if (self.username is None) != (self.password is None):
            yield FieldError("password", "username and password are given together")
        if self.username is not None and self.tls == "none":
            yield FieldError("tls", "the password would be sent in the clear; use starttls or tls")

    def needs_mail_server(self) -> bool:
        """Without a host of its own."""
        return self.host is None

    def hosts(self) -> Iterator[tuple[str, Host]]:
        """The mail server's."""
        host = parse_host(self.host) if self.host is not None else ""
        if isinstance(host, Host):
            yield "host", host


class EmailChannel:
    """`config.to` are the recipients; the rest of `config` and `secrets.password` say by which server."""

    settings = EmailSettings
    keeps_incidents = False

    async def send(self, message: Message, destination: Destination, context: Context) -> Attempt:
        """Make the mail and hand it over."""
        server, network = _server(destination, context)
        recipients = _recipients(destination)
        stories = tell(message, destination.channel_id, context)
        made = mail(message, stories, Address(addr_spec=server.sender), [Address(addr_spec=to) for to in recipients])
        helo = urlsplit(context.base_url).hostname or "localhost"
        envelope = Envelope(server.sender, recipients, made.as_bytes(), helo)
        return await submit(server, envelope, network, verify_tls=destination.config.get("verify_tls") is not False)


def _server(destination: Destination, context: Context) -> tuple[MailServer, Network]:
    config, secrets = destination.config, destination.secrets
    if not config.get("host"):
        if context.mail is None:
            raise Unsendable(Poison.CHANNEL_INVALID, "the channel has no mail server, and neither has the installation")
        # The operator chose this one: it may stand beside us even where users' own hosts may not.
        trusted = replace(context.network.rules, mode=EgressMode.INTERNAL)
        return context.mail, replace(context.network, rules=trusted)
    tls = str(config.get("tls") or "starttls")
    sender = str(config.get("sender") or "")
    if not _ADDRESS.fullmatch(sender):
        raise Unsendable(Poison.CHANNEL_INVALID, "the channel has no sender")
    port = int(config.get("port") or _PORTS.get(tls, 587))
    user, password = str(config.get("username") or ""), str(secrets.get("password") or "")
    return MailServer(str(config["host"]), port, tls, sender, user, password), context.network


def _recipients(destination: Destination) -> list[str]:
    found: Any = destination.config.get("to")
    usable = isinstance(found, list) and all(isinstance(to, str) and _ADDRESS.fullmatch(to) for to in found)
    if not found or not usable:
        raise Unsendable(Poison.CHANNEL_INVALID, "the channel has no recipients")
    return list(found)

"""Receivers for every type of channel, on loopback: they obey a script, keep what arrived and hold it to its contract.

HTTP receivers are the sink with the type's documented rules on top; mail goes to aiosmtpd, a real SMTP server.
"""

from __future__ import annotations

import asyncio
import email.policy
import json
import logging
import re
import ssl
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import ExitStack
from datetime import datetime
from email.message import EmailMessage
from email.parser import BytesParser
from enum import Enum
from pathlib import Path
from typing import Any, ClassVar, Self
from uuid import uuid4

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session

from common.channels.base import Destination
from common.channels.registry import CHANNELS
from tests.sink import Answer, Received, Sink

# Its goodbyes come when the test whose output they would go to is over.
logging.getLogger("mail.log").setLevel(logging.CRITICAL)

#: In everything that is secret: no error, log or stored row may hold it.
CANARY = "c4n4ry"
WEBHOOK_SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


class Behaviour(Enum):
    """How a receiver may treat a message."""

    TAKES = "takes it"
    MOVED = "is elsewhere"
    REFUSES = "refuses it"
    GONE = "is gone for good"
    ASKS_TO_WAIT = "asks to wait 7 s"
    BUSY = "fails"
    UNSURE_GATEWAY = "is behind a gateway that lost it"
    RESETS = "breaks off after it was sent"
    HANGS = "never answers"


_ANSWERS: dict[Behaviour, list[Answer]] = {
    Behaviour.TAKES: [Answer(200), Answer(202), Answer(204)],
    Behaviour.MOVED: [Answer(301, {"Location": "/elsewhere"}), Answer(302, {"Location": "/elsewhere"}), Answer(307)],
    Behaviour.REFUSES: [Answer(400), Answer(401), Answer(403), Answer(404), Answer(422)],
    Behaviour.GONE: [Answer(410)],
    Behaviour.ASKS_TO_WAIT: [Answer(status, {"Retry-After": "7"}) for status in (408, 425, 429, 503)],
    Behaviour.BUSY: [Answer(500), Answer(503)],
    Behaviour.UNSURE_GATEWAY: [Answer(502), Answer(504)],
    Behaviour.RESETS: [Answer(reset=True)],
    Behaviour.HANGS: [Answer(wait_s=60)],
}


class Receiver(ABC):
    """One receiver; `channel_id` is the channel that sends to it."""

    type_: str
    #: What this kind of receiver can do at all.
    behaviours = frozenset(Behaviour)

    def __init__(self) -> None:
        self.channel_id = str(uuid4())

    @abstractmethod
    def __enter__(self) -> Self: ...

    @abstractmethod
    def __exit__(self, *error: object) -> None: ...

    @property
    @abstractmethod
    def config(self) -> dict[str, Any]:
        """What a client writes to make a channel that leads here."""

    @abstractmethod
    def variants(self, behaviour: Behaviour) -> int:
        """In how many ways it can behave so."""

    @abstractmethod
    def behave(self, behaviour: Behaviour, variant: int = 0) -> None:
        """Treat everything that comes so from here on."""

    @property
    @abstractmethod
    def messages(self) -> list[bytes]:
        """What arrived, each with all that would show it to be another one."""

    @abstractmethod
    def check(self) -> None:
        """Hold everything that arrived to the contract."""

    @abstractmethod
    def close(self) -> None:
        """Refuse connections."""

    @property
    def destination(self) -> Destination:
        """The channel as it is delivered to."""
        settings = CHANNELS[self.type_].settings
        checked = settings.model_validate(self.config)
        assert list(checked.problems()) == []
        config, secrets = checked.split()
        generated = {"secret": WEBHOOK_SECRET} if settings.generate() else {}
        return Destination(self.channel_id, config, {**secrets, **generated})


class HttpReceiver(Receiver):
    """The sink behind a URL with a secret in it."""

    path = f"/services/{CANARY}/x"

    def __init__(self) -> None:
        super().__init__()
        self.sink = Sink()

    def __enter__(self) -> Self:
        self.sink.__enter__()
        self.behave(Behaviour.TAKES)
        return self

    def __exit__(self, *error: object) -> None:
        self.sink.__exit__()

    @property
    def config(self) -> dict[str, Any]:
        return {"url": self.sink.url(self.path)}

    def variants(self, behaviour: Behaviour) -> int:
        return len(_ANSWERS[behaviour])

    def behave(self, behaviour: Behaviour, variant: int = 0) -> None:
        for path in self.paths:
            self.sink.default[path] = _ANSWERS[behaviour][variant]

    @property
    def paths(self) -> list[str]:
        return [self.path]

    @property
    def messages(self) -> list[bytes]:
        return [self.identity(received) for received in self.sink.received]

    def identity(self, received: Received) -> bytes:
        return received.body

    def check(self) -> None:
        for received in self.sink.received:
            assert received.path in self.paths
            assert header(received, "content-type").startswith("application/json")
            self.check_body(received.json, received)

    @abstractmethod
    def check_body(self, body: Any, received: Received) -> None: ...

    def close(self) -> None:
        self.sink.close()


class WebhookReceiver(HttpReceiver):
    type_ = "webhook"

    def identity(self, received: Received) -> bytes:
        return header(received, "webhook-id").encode() + received.body

    def check_body(self, body: Any, received: Received) -> None:
        assert body.keys() == {"type", "timestamp", "data", "v"}
        assert re.fullmatch(r"v1,[A-Za-z0-9+/=]{44}", header(received, "webhook-signature"))


class SlackReceiver(HttpReceiver):
    """Slack's limits; and whatever stands between < and > is a link to Tocsin, never a mention."""

    type_ = "slack"

    def check_body(self, body: Any, received: Received) -> None:
        assert body.keys() == {"text", "blocks", "mrkdwn", "link_names", "unfurl_links", "unfurl_media"}
        assert not any(body[name] for name in ("mrkdwn", "link_names", "unfurl_links", "unfurl_media"))
        assert 1 <= len(body["blocks"]) <= 50
        assert len(json.dumps(body, ensure_ascii=False)) < 13_000 * 2
        texts = [body["text"]]
        for block in body["blocks"]:
            assert block["type"] in {"section", "context"}
            found = [block["text"]] if block["type"] == "section" else block["elements"]
            for text in found:
                if text["type"] == "mrkdwn":  # nothing from outside: our own links and no more
                    assert text.keys() == {"type", "text"}
                    assert re.fullmatch(r"<[^>|]+\|Incident>( · <[^>|]+\|Acknowledge>)?", text["text"])
                else:
                    assert text.keys() == {"type", "text", "emoji"}
                    assert text["type"] == "plain_text"
                    assert "<" not in text["text"]
                assert 1 <= len(text["text"]) <= 3_000
                texts.append(text["text"])
        assert sum(map(len, texts)) < 13_000
        for text in texts:
            for inside in re.findall(r"<([^>]*)>", text):
                assert inside.startswith("https://tocsin.example/"), inside
            assert not re.search(r"&(?!amp;|lt;|gt;)", text), "an escape was cut"
            assert_plain(text.replace("\n", ""))


class PagerDutyReceiver(HttpReceiver):
    """Events API v2 as documented: required fields, lengths, enumerations."""

    type_ = "pagerduty"
    path = "/v2/enqueue"

    @property
    def config(self) -> dict[str, Any]:
        return {"url": self.sink.url(self.path), "routing_key": f"R{CANARY}0123456789"}

    def check_body(self, body: Any, received: Received) -> None:
        assert len(received.body) <= 512 * 1024
        assert body["routing_key"] == self.config["routing_key"]
        assert body["event_action"] in {"trigger", "acknowledge", "resolve"}
        assert 1 <= len(body["dedup_key"]) <= 255
        if body["event_action"] != "trigger":
            assert body.keys() == {"routing_key", "event_action", "dedup_key"}
            return
        assert body.keys() <= {
            "routing_key", "event_action", "dedup_key", "payload", "client", "client_url", "links", "images",
        }  # fmt: skip
        payload = body["payload"]
        assert {"summary", "source", "severity"} <= payload.keys()
        assert payload.keys() <= {
            "summary", "source", "severity", "timestamp", "component", "group", "class", "custom_details",
        }  # fmt: skip
        assert 1 <= len(payload["summary"]) <= 1024
        assert payload["source"]
        assert payload["severity"] in {"critical", "error", "warning", "info"}
        assert datetime.fromisoformat(payload["timestamp"]).tzinfo is not None
        assert isinstance(payload["custom_details"], dict)
        for link in body["links"]:
            assert link.keys() == {"href", "text"} and link["href"].startswith("https://tocsin.example/")
        assert_plain(payload["summary"])


class AlertmanagerReceiver(HttpReceiver):
    """POST /api/v2/alerts by its OpenAPI description."""

    type_ = "alertmanager"
    path = f"/{CANARY}/api/v2/alerts"

    @property
    def config(self) -> dict[str, Any]:
        return {"url": self.sink.url(f"/{CANARY}"), "token": f"T{CANARY}"}

    def check_body(self, body: Any, received: Received) -> None:
        assert header(received, "authorization") == f"Bearer T{CANARY}"
        assert isinstance(body, list) and body
        labels = [json.dumps(alert["labels"], sort_keys=True) for alert in body]
        assert len(set(labels)) == len(labels)
        for alert in body:
            assert alert.keys() <= {"labels", "annotations", "startsAt", "endsAt", "generatorURL"}
            assert alert["labels"]["alertname"]
            for name, value in {**alert["labels"], **alert["annotations"]}.items():
                assert re.fullmatch("[a-zA-Z_][a-zA-Z0-9_]*", name)
                assert isinstance(value, str) and value
                assert_plain(value)
            starts_at, ends_at = (datetime.fromisoformat(alert[name]) for name in ("startsAt", "endsAt"))
            assert starts_at.tzinfo and starts_at <= ends_at


class AppriseReceiver(HttpReceiver):
    """Apprise's plainest plugin: JSON by POST."""

    type_ = "apprise"

    @property
    def config(self) -> dict[str, Any]:
        return {"url": self.sink.url(self.path).replace("http://", "json://")}

    def check_body(self, body: Any, received: Received) -> None:
        assert {"version", "title", "message", "type"} <= body.keys()
        assert body["title"]
        assert_plain(body["title"])
        assert_plain(body["message"].replace("\n", ""))


class MailReceiver(Receiver):
    """A mail server with STARTTLS, which it insists on, and a password."""

    type_ = "email"
    behaviours = frozenset(
        {Behaviour.TAKES, Behaviour.REFUSES, Behaviour.BUSY, Behaviour.RESETS, Behaviour.HANGS}
    )  # fmt: skip
    #: (command, what is answered to it)
    _REPLIES: ClassVar[dict[Behaviour, list[tuple[str, str]]]] = {
        Behaviour.TAKES: [("DATA", "250 taken")],
        Behaviour.REFUSES: [("RCPT", f"550 {CANARY} unknown"), ("DATA", f"554 {CANARY} spam"), ("MAIL", "501 no")],
        Behaviour.BUSY: [("RCPT", "451 later"), ("DATA", "452 full"), ("MAIL", "421 shutting down")],
        Behaviour.RESETS: [("DATA", "")],
        Behaviour.HANGS: [("DATA", "…")],
    }

    def __init__(self, certificate: tuple[Path, Path], *, starttls: bool = True, **more: Any) -> None:
        super().__init__()
        self.mails: list[bytes] = []
        self.envelopes: list[Envelope] = []
        self.logins: list[tuple[str, str]] = []
        self.reply: tuple[str, str] = ("DATA", "250 taken")
        self._stack = ExitStack()
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*certificate)
        options: dict[str, Any] = {"tls_context": context, "require_starttls": True} if starttls else {}
        options |= more
        #: {address: the reply to it}
        self.refuse: dict[str, str] = {}
        self._controller = _Controller(
            _Handler(self),
            hostname="127.0.0.1",
            port=0,
            ready_timeout=60,
            authenticator=self._authenticate,
            auth_required=starttls,
            auth_require_tls=True,
            **options,
        )
        self.port = 0

    def __enter__(self) -> Self:
        self._controller.start()
        assert self._controller.server is not None
        self.port = self._controller.server.sockets[0].getsockname()[1]
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        if self._controller.server is not None:
            self._controller.stop()

    @property
    def config(self) -> dict[str, Any]:
        return {
            "to": ["ops@example.com", "oncall@example.com"],
            "sender": "tocsin@example.com",
            "host": "127.0.0.1",
            "port": self.port,
            "tls": "starttls",
            "verify_tls": False,
            "username": "tocsin",
            "password": f"p{CANARY}",
        }

    def variants(self, behaviour: Behaviour) -> int:
        return len(self._REPLIES[behaviour])

    def behave(self, behaviour: Behaviour, variant: int = 0) -> None:
        self.reply = self._REPLIES[behaviour][variant]

    @property
    def messages(self) -> list[bytes]:
        return self.mails

    def parsed(self) -> list[EmailMessage]:
        parser = BytesParser(EmailMessage, policy=email.policy.default)  # type: ignore[arg-type]
        return [parser.parsebytes(mail) for mail in self.mails]

    def check(self) -> None:
        for mail in self.parsed():
            assert not mail.defects
            for name in ("Subject", "From", "To", "Date", "Message-ID", "References", "In-Reply-To"):
                assert len(mail.get_all(name, [])) == 1, name
            assert "Bcc" not in mail and "X-Evil" not in mail
            assert mail["From"].addresses[0].addr_spec == "tocsin@example.com"
            assert [address.addr_spec for address in mail["To"].addresses] == self.config["to"]
            assert mail["Auto-Submitted"] == "auto-generated"
            assert mail.get_content_type() == "multipart/alternative"
            assert [part.get_content_type() for part in mail.iter_parts()] == ["text/plain", "text/html"]
            html = mail.get_body(("html",))
            assert html is not None and "<script" not in html.get_content()
            assert_plain(mail["Subject"])

    def _authenticate(self, _server: SMTP, _session: Session, _envelope: Envelope, _mechanism: str, data: Any) -> Any:
        assert isinstance(data, LoginPassword)
        self.logins.append((data.login.decode(), data.password.decode()))
        return AuthResult(success=data.password.decode() == self.config["password"], handled=False)


class _Handler:
    """aiosmtpd looks at every attribute of its handler, so it gets one of its own."""

    def __init__(self, receiver: MailReceiver) -> None:
        self._receiver = receiver

    async def handle_MAIL(  # noqa: N802 - aiosmtpd's name
        self, _server: SMTP, _session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:  # fmt: skip
        if self._receiver.reply[0] == "MAIL":
            return self._receiver.reply[1]
        envelope.mail_from = address
        envelope.mail_options.extend(options)
        return "250 OK"

    async def handle_RCPT(  # noqa: N802 - aiosmtpd's name
        self, server: SMTP, _session: Session, envelope: Envelope, address: str, _options: list[str]
    ) -> str:  # fmt: skip
        refusal = self._receiver.refuse.get(address)
        if self._receiver.reply[0] == "RCPT" or refusal:
            if not refusal and not self._receiver.reply[1]:
                server.transport.abort()
            return refusal or self._receiver.reply[1]
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: SMTP, _session: Session, envelope: Envelope) -> str:  # noqa: N802
        assert isinstance(envelope.content, bytes)
        self._receiver.mails.append(envelope.content)
        self._receiver.envelopes.append(envelope)
        if self._receiver.reply[1] == "…":
            await asyncio.sleep(60)
        if not self._receiver.reply[1]:
            server.transport.abort()
        return self._receiver.reply[1] or "250 never heard"


class _Controller(Controller):
    """On a port that the system chooses, which its self-test has to know."""

    def _trigger_server(self) -> None:
        assert self.server is not None
        self.port = self.server.sockets[0].getsockname()[1]
        super()._trigger_server()


RECEIVERS: dict[str, Callable[..., Receiver]] = {
    receiver.type_: receiver
    for receiver in (WebhookReceiver, SlackReceiver, PagerDutyReceiver, AlertmanagerReceiver, AppriseReceiver,
                     MailReceiver)
}  # fmt: skip


def receiver_of(type_: str, certificate: tuple[Path, Path]) -> Receiver:
    """A new receiver for a type of channel."""
    return MailReceiver(certificate) if type_ == "email" else RECEIVERS[type_]()


def header(received: Received, name: str) -> str:
    """A header's value, whatever its case; "" without."""
    return next((value for key, value in received.headers.items() if key.lower() == name), "")


def assert_plain(text: str) -> None:
    """No control characters, nothing that turns the direction of writing."""
    assert not re.search("[\x00-\x1f\x7f-\x9f\u200b-\u200f\u202a-\u202e\u2066-\u2069\ufeff]", text), repr(text)

"""What each type of monitor may be told beside its target, as clients send it: every field bounded, secrets apart."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, ClassVar, Literal
from zoneinfo import available_timezones

from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from pydantic import AfterValidator, BaseModel, Field, PlainValidator, WithJsonSchema

from api.heartbeats_flood import MAX_PINGS, WINDOW_S
from api.schemas import Body
from common.domain.errors import FieldError
from common.domain.heartbeat_schedules import next_cron
from common.domain.operators import text_problem
from common.http.endpoints import RECORD_TYPES, parse_resolver
from common.http.target import parse_host, parse_target

MAX_HEADERS = 50
MAX_HEADER_CHARS = 4096
MAX_SECRET_CHARS = 16_384
MAX_PEM_CHARS = 65_536
_MAX_CERTIFICATES = 50

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,200}")
#: A probe's own business: a user's value would break the framing of the request.
_HEADERS_OF_OURS = frozenset(
    {"connection", "content-length", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade"}
)


#: A secret as plans, exports and differences write one.
KEPT = {"secret": None}


_TRACE = "Send a traceparent, in redirects as well; its trace is the trace_id of the result and of the incident"


class Secret(BaseModel):
    """A value that is stored encrypted and reads back as null."""

    secret: str


def _header_value(value: Any) -> str | Secret | None:
    """A text, {"secret": text}, or null or {"secret": null} for a secret that is stored already."""
    text = value
    if value is None or value == KEPT:
        return None
    if isinstance(value, dict):
        if set(value) != {"secret"}:
            raise ValueError('must be a text, {"secret": "…"} or null')
        text = value["secret"]
    if not isinstance(text, str):
        raise ValueError('must be a text, {"secret": "…"} or null')  # noqa: TRY004 - pydantic collects ValueErrors
    if len(text) > MAX_HEADER_CHARS:
        raise ValueError(f"must have at most {MAX_HEADER_CHARS} characters")
    if not (text.isascii() and text.replace("\t", " ").isprintable()):
        raise ValueError("must be ASCII without line breaks or control characters")
    return Secret(secret=text) if isinstance(value, dict) else text


HeaderValue = Annotated[
    Any,
    PlainValidator(_header_value),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "string", "maxLength": MAX_HEADER_CHARS},
                {
                    "type": "object",
                    "properties": {"secret": {"type": ["string", "null"], "maxLength": MAX_HEADER_CHARS}},
                    "required": ["secret"],
                    "additionalProperties": False,
                },
                {"type": "null"},
            ],
            "description": 'A text; {"secret": "…"} is stored encrypted and reads back as null; null and '
            '{"secret": null} keep it.',
        }
    ),
]


def _headers(headers: Mapping[str, Any]) -> Mapping[str, Any]:
    seen: set[str] = set()
    for name in headers:
        if not _TOKEN.fullmatch(name):
            raise ValueError(f"{name[:50]!r} is not a header's name")
        if name.lower() in _HEADERS_OF_OURS:
            raise ValueError(f"{name} is set by the probe")
        if name.lower() in seen:
            raise ValueError(f"{name} is given twice")
        seen.add(name.lower())
    return headers


Headers = Annotated[dict[str, HeaderValue], Field(max_length=MAX_HEADERS), AfterValidator(_headers)]


def _secret(value: Any) -> Secret | None:
    """{"secret": text}, or null or {"secret": null} for one that is stored already."""
    if value is None or value == KEPT:
        return None
    if not isinstance(value, dict) or set(value) != {"secret"} or not isinstance(value["secret"], str):
        raise ValueError('must be {"secret": "…"} or null')
    text = value["secret"]
    if len(text) > MAX_SECRET_CHARS:
        raise ValueError(f"must have at most {MAX_SECRET_CHARS} characters")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError("is not valid Unicode") from None
    return Secret(secret=text)


SecretValue = Annotated[
    Any,
    PlainValidator(_secret),
    WithJsonSchema(
        {
            "anyOf": [
                {
                    "type": "object",
                    "properties": {"secret": {"type": ["string", "null"], "maxLength": MAX_SECRET_CHARS}},
                    "required": ["secret"],
                    "additionalProperties": False,
                },
                {"type": "null"},
            ],
            "description": 'Stored encrypted, reads back as null; null and {"secret": null} keep it, '
            '{"secret": ""} removes it.',
        }
    ),
]


def _certificates(text: str) -> str:
    try:
        found = x509.load_pem_x509_certificates(text.encode("ascii"))
    except ValueError:
        raise ValueError("must hold certificates in PEM (-----BEGIN CERTIFICATE-----)") from None
    if len(found) > _MAX_CERTIFICATES:
        raise ValueError(f"must hold at most {_MAX_CERTIFICATES} certificates")
    return text


def _pattern(text: str) -> str:
    trouble = text_problem(text, pattern=True)
    if trouble is not None:
        raise ValueError(trouble)
    return text


def _name(text: str) -> str:
    host = parse_host(text)
    if isinstance(host, str):
        raise ValueError(host)  # noqa: TRY004 - the text says what is wrong with the value
    return text


def _resolver(text: str) -> str:
    server = parse_resolver(text)
    if isinstance(server, str):
        raise ValueError(server)  # noqa: TRY004 - the same
    return text


def _proxy(text: str) -> str:
    proxy = parse_target(text)
    if isinstance(proxy, str) or proxy.scheme != "http" or proxy.path != "/" or proxy.authorization:
        raise ValueError("must be a URL like http://proxy.example:3128, without credentials")
    return text


def _one_word(text: str) -> str:
    if not (text.isascii() and text.isprintable()) or " " in text:
        raise ValueError("must be ASCII without blanks or control characters")
    return text


def _printable(text: str) -> str:
    if any(ord(character) < 32 or ord(character) == 127 for character in text):
        raise ValueError("must not hold control characters")
    return text


Pem = Annotated[str | None, Field(max_length=MAX_PEM_CHARS), AfterValidator(lambda text: text and _certificates(text))]
Pattern = Annotated[str, Field(max_length=1_000, description="A pattern of RE2."), AfterValidator(_pattern)]
HostName = Annotated[str, Field(min_length=1, max_length=253), AfterValidator(_name)]
Word = Annotated[str, Field(min_length=1, max_length=253), AfterValidator(_one_word)]
Login = Annotated[str, Field(min_length=1, max_length=200), AfterValidator(_printable)]
StartTls = Literal["smtp", "imap", "pop3", "ftp", "postgres"]


class OptionsIn(Body):
    """Options of one type. `SECRETS` are its fields that are stored encrypted."""

    SECRETS: ClassVar[tuple[str, ...]] = ()


class TrustIn(OptionsIn):
    """How a server's certificate is verified, and who we are to it."""

    SECRETS: ClassVar[tuple[str, ...]] = ("client_key",)

    verify_tls: bool = True
    ca_certificates: Annotated[Pem, Field(description="PEM; in place of the public authorities.")] = None
    client_certificate: Annotated[Pem, Field(description="PEM, its chain below it; needs client_key.")] = None
    client_key: SecretValue = None

    def problems(self) -> Iterator[FieldError]:
        """A client certificate and its key go together."""
        key = self.client_key
        if isinstance(key, Secret) and key.secret:
            if self.client_certificate is None:
                yield FieldError("client_key", "needs client_certificate")
            else:
                yield from _key_problems(self.client_certificate, key.secret)
        elif self.client_certificate is not None and "client_key" not in self.model_fields_set:
            yield FieldError("client_certificate", "needs client_key")


def _key_problems(certificate: str, pem: str) -> Iterator[FieldError]:
    try:
        key = load_pem_private_key(pem.encode(), password=None)
    except (ValueError, TypeError):
        yield FieldError("client_key", "must be a private key in PEM without a passphrase")
        return
    if x509.load_pem_x509_certificates(certificate.encode())[0].public_key() != key.public_key():
        yield FieldError("client_key", "does not belong to client_certificate")


class HttpIn(TrustIn):
    """The request of an http monitor."""

    SECRETS: ClassVar[tuple[str, ...]] = ("client_key", "password", "bearer_token", "proxy_password")

    method: Literal["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"] = "GET"
    headers: Headers = Field(default_factory=dict)
    body: Annotated[str | None, Field(max_length=65_536)] = None
    follow_redirects: bool = True
    max_redirects: Annotated[int, Field(ge=0, le=20)] = 5
    http_version: Annotated[Literal["auto", "1.1", "2"], Field(description='"2" must be spoken, or it is down.')] = (
        "auto"
    )
    username: Annotated[Login | None, Field(description="Basic authentication.")] = None
    password: SecretValue = None
    bearer_token: SecretValue = None
    proxy: Annotated[
        Annotated[str, Field(max_length=300), AfterValidator(_proxy)] | None,
        Field(description="http://host:port. Always a tunnel (CONNECT), to the address that we have judged."),
    ] = None
    proxy_username: Login | None = None
    proxy_password: SecretValue = None
    trace: Annotated[bool, Field(description=_TRACE)] = True

    def problems(self) -> Iterator[FieldError]:
        """One way to authenticate."""
        yield from super().problems()
        ways = [bool(self.username), self.bearer_token is not None, "authorization" in map(str.lower, self.headers)]
        if sum(ways) > 1:
            yield FieldError("username", "only one of username, bearer_token and an Authorization header")
        if self.username and ":" in self.username:
            yield FieldError("username", "must not hold a colon")
        if isinstance(self.bearer_token, Secret) and not _is_header_text(self.bearer_token.secret):
            yield FieldError("bearer_token", "must be ASCII without line breaks or control characters")
        if self.password is not None and self.username is None:
            yield FieldError("password", "needs username")
        if self.proxy is None and (self.proxy_username is not None or self.proxy_password is not None):
            yield FieldError("proxy_username", "needs proxy")


def _is_header_text(text: str) -> bool:
    return text.isascii() and (text.isprintable() or not text)


class TcpIn(TrustIn):
    """What is said over a connection of a tcp monitor."""

    tls: Annotated[bool, Field(description="TLS from the first byte.")] = False
    starttls: Annotated[StartTls | None, Field(description="TLS as this protocol agrees on it.")] = None
    server_name: Annotated[HostName | None, Field(description="What the certificate must be for.")] = None
    send: Annotated[str | None, Field(max_length=16_384)] = None
    expect: Annotated[Pattern | None, Field(description="What is received must match it, in its first 64 KiB.")] = None

    def problems(self) -> Iterator[FieldError]:
        """TLS begins once."""
        yield from super().problems()
        if self.tls and self.starttls is not None:
            yield FieldError("starttls", "not together with tls: TLS begins once")


class TlsIn(TrustIn):
    """The handshake of a tls monitor."""

    starttls: StartTls | None = None
    server_name: HostName | None = None
    min_version: Literal["1.2", "1.3"] = "1.2"


class DnsIn(OptionsIn):
    """The question of a dns monitor."""

    record_type: Literal["A", "AAAA", "CNAME", "MX", "TXT", "NS", "SRV", "CAA", "SOA", "PTR"] = "A"
    resolver: Annotated[
        Annotated[str, Field(min_length=1, max_length=300), AfterValidator(_resolver)] | None,
        Field(description="host or host:port. Default: the name server that Tocsin asks itself."),
    ] = None
    transport: Literal["udp", "tcp"] = "udp"


assert tuple(DnsIn.model_fields["record_type"].annotation.__args__) == RECORD_TYPES  # type: ignore[union-attr]


class IcmpIn(OptionsIn):
    """The echo requests of an icmp monitor."""

    count: Annotated[int, Field(ge=1, le=20)] = 3
    size: Annotated[int, Field(ge=12, le=1_400, description="Bytes in a request.")] = 32


class WebsocketIn(TrustIn):
    """The handshake of a websocket monitor and what comes after it."""

    headers: Headers = Field(default_factory=dict)
    subprotocol: Word | None = None
    send: Annotated[str | None, Field(max_length=16_384)] = None
    expect: Annotated[Pattern | None, Field(description="A message must match it.")] = None
    trace: Annotated[bool, Field(description=_TRACE)] = True

    def problems(self) -> Iterator[FieldError]:
        """The handshake's own headers are ours."""
        yield from super().problems()
        ours = [name for name in self.headers if name.lower().startswith("sec-websocket-") or name.lower() == "host"]
        for name in ours:
            yield FieldError(f"headers.{name}", "is set by the probe")


class SmtpIn(TrustIn):
    """How far an smtp monitor goes."""

    security: Literal["none", "starttls", "tls"] = "none"
    ehlo: Annotated[Word, Field(description="The name that we give.")] = "tocsin.invalid"


class PostgresIn(TrustIn):
    """Login and query of a postgres monitor."""

    SECRETS: ClassVar[tuple[str, ...]] = ("client_key", "password")

    username: Login = "postgres"
    password: SecretValue = None
    database: Login = "postgres"
    query: Annotated[str | None, Field(min_length=1, max_length=4_096)] = None
    tls: Annotated[
        Literal["disable", "prefer", "require"],
        Field(description="A certificate is verified with require only."),
    ] = "prefer"


class RedisIn(TrustIn):
    """Login and command of a redis monitor."""

    SECRETS: ClassVar[tuple[str, ...]] = ("client_key", "password")

    username: Login | None = None
    password: SecretValue = None
    database: Annotated[int, Field(ge=0, le=65_535)] = 0
    command: Annotated[list[Annotated[str, Field(max_length=1_000)]], Field(min_length=1, max_length=20)] = Field(
        default_factory=lambda: ["PING"]
    )
    tls: bool = False


def _timezone(text: str) -> str:
    if text not in available_timezones():
        raise ValueError("must be a time zone of IANA, like Europe/Berlin")
    return text


def _cron(text: str) -> str:
    if len(text.split()) != 5:
        raise ValueError("must have five fields: minute, hour, day of the month, month, day of the week")
    try:
        next_cron(text, "UTC", 0)
    except ValueError as error:
        raise ValueError(f"is no cron expression: {error}") from None
    return text


class HeartbeatIn(OptionsIn):
    """When a heartbeat monitor is pinged."""

    period_seconds: Annotated[
        int | None,
        Field(ge=1, le=31_536_000, description="In any such time a ping, or at_least of them. Default: the interval."),
    ] = None
    grace_seconds: Annotated[
        int, Field(ge=1, le=31_536_000, description="How late a ping may come, and how long a run may take.")
    ] = 60
    cron: Annotated[
        Annotated[str, Field(max_length=100), AfterValidator(_cron)] | None,
        Field(description="When a ping is due, like 0 3 * * MON-FRI; in place of a period."),
    ] = None
    timezone: Annotated[
        Annotated[str, Field(max_length=64), AfterValidator(_timezone)],
        Field(description="The time zone of cron, like Europe/Berlin."),
    ] = "UTC"
    at_least: Annotated[
        int, Field(ge=1, le=50, description="So many successes in any period_seconds, whenever they come.")
    ] = 1
    tolerate_failures: Annotated[
        bool, Field(description="A failure is not down at once: it only is no success. A success is what is expected.")
    ] = False

    def problems(self) -> Iterator[FieldError]:
        """One way to say when, and nothing that no pings can meet."""
        if self.cron is not None and self.period_seconds is not None:
            yield FieldError("period_seconds", "not together with cron")
        if self.at_least == 1:
            return
        if self.cron is not None:
            yield FieldError(
                "at_least",
                "not together with cron, which says when each one is due: give a period_seconds in its place",
            )
        elif self.period_seconds is None:
            yield FieldError("at_least", "needs period_seconds: in what time so many successes come")
        elif self.at_least * WINDOW_S > self.period_seconds * MAX_PINGS:
            yield FieldError(
                "at_least",
                f"too many in {self.period_seconds} s: no more than {MAX_PINGS} pings in {WINDOW_S:.0f} s are taken",
            )


#: Monitor type → its options.
OPTIONS_IN: Mapping[str, type[OptionsIn]] = {
    "http": HttpIn,
    "tcp": TcpIn,
    "tls": TlsIn,
    "dns": DnsIn,
    "icmp": IcmpIn,
    "websocket": WebsocketIn,
    "smtp": SmtpIn,
    "postgres": PostgresIn,
    "redis": RedisIn,
    "heartbeat": HeartbeatIn,
}

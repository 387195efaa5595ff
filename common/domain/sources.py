"""What a monitor can be asked about what its probe saw: each source's kind, for which types it is there, its reason."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import Any

from common.domain.checks import NOT_REACHED, Phases, Reason
from common.domain.jsonpath import ABSENT, Path, find

#: Every type of monitor, in the order of the documentation.
TYPES = ("http", "tcp", "tls", "dns", "icmp", "websocket", "smtp", "postgres", "redis")
_HANDSHAKES = ("http", "tcp", "tls", "websocket", "smtp", "postgres", "redis")
_STREAMS = tuple(type_ for type_ in _HANDSHAKES if type_ != "http")


class Kind(StrEnum):
    """What values of a source are, and by that what can be asked of them (`operators`)."""

    STATUS = "status"
    BYTES = "bytes"
    TEXT = "text"
    HEADERS = "headers"
    ANSWERS = "answers"
    NUMBER = "number"
    MILLISECONDS = "milliseconds"
    VALUE = "value"


@dataclass(frozen=True, slots=True)
class Source:
    """One source. `needs` is the further field that its assertions must have; `secret`: seen is never in messages."""

    kind: Kind
    types: tuple[str, ...]
    reason: Reason
    about: str
    needs: str = ""
    secret: bool = False


#: The one table of sources; the order is the one of the documentation.
TABLE: Mapping[str, Source] = MappingProxyType(
    {
        "status": Source(Kind.STATUS, ("http",), Reason.STATUS_MISMATCH, "the answer's status"),
        "body": Source(Kind.BYTES, ("http",), Reason.BODY_MISMATCH, "the first 1 MiB of the body", secret=True),
        "json": Source(Kind.VALUE, ("http",), Reason.BODY_MISMATCH, "a value in a body of JSON, by `path`", "path"),
        "header": Source(
            Kind.HEADERS, ("http",), Reason.HEADER_MISMATCH, "the headers called `name`", "name", secret=True
        ),
        "http_version": Source(Kind.TEXT, ("http",), Reason.ANSWER_MISMATCH, "1.1 or 2"),
        "banner": Source(Kind.TEXT, ("tcp", "smtp"), Reason.ANSWER_MISMATCH, "the text that the server sent"),
        "extension": Source(Kind.ANSWERS, ("smtp",), Reason.ANSWER_MISMATCH, "what EHLO offers, like STARTTLS"),
        "message": Source(Kind.TEXT, ("websocket",), Reason.ANSWER_MISMATCH, "the first message received"),
        "answer": Source(Kind.ANSWERS, ("dns",), Reason.ANSWER_MISMATCH, "all records of the answer as text"),
        "answer_count": Source(Kind.NUMBER, ("dns",), Reason.ANSWER_MISMATCH, "how many records there are"),
        "rcode": Source(Kind.TEXT, ("dns",), Reason.ANSWER_MISMATCH, "NOERROR, NXDOMAIN, SERVFAIL …"),
        "value": Source(Kind.VALUE, ("postgres", "redis"), Reason.VALUE_MISMATCH, "the first value of the reply"),
        "rows": Source(Kind.NUMBER, ("postgres",), Reason.VALUE_MISMATCH, "how many rows the query returned"),
        "rtt_ms": Source(Kind.MILLISECONDS, ("icmp",), Reason.LATENCY_EXCEEDED, "the mean round trip"),
        "packet_loss": Source(Kind.NUMBER, ("icmp",), Reason.PACKET_LOSS, "unanswered requests in per cent"),
        "latency_ms": Source(Kind.MILLISECONDS, TYPES, Reason.LATENCY_EXCEEDED, "the whole check"),
        "dns_ms": Source(Kind.MILLISECONDS, TYPES, Reason.LATENCY_EXCEEDED, "looking the target's name up"),
        "connect_ms": Source(Kind.MILLISECONDS, _HANDSHAKES, Reason.LATENCY_EXCEEDED, "connecting"),
        "tls_ms": Source(Kind.MILLISECONDS, _HANDSHAKES, Reason.LATENCY_EXCEEDED, "the TLS handshake"),
        "ttfb_ms": Source(
            Kind.MILLISECONDS,
            tuple(type_ for type_ in TYPES if type_ not in ("tls", "icmp")),
            Reason.LATENCY_EXCEEDED,
            "from there to the first byte received",
        ),
        "cert_days": Source(
            Kind.NUMBER, _HANDSHAKES, Reason.CERTIFICATE_EXPIRING, "days until the server's certificate expires"
        ),
        "chain_days": Source(
            Kind.NUMBER, _STREAMS, Reason.CERTIFICATE_EXPIRING, "the same of the first to expire of its whole chain"
        ),
        "tls_version": Source(Kind.TEXT, _STREAMS, Reason.TLS_VERSION_WEAK, "TLSv1.2 or TLSv1.3"),
    }
)
#: Which sources a monitor of a type has.
SOURCES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {type_: tuple(name for name, source in TABLE.items() if type_ in source.types) for type_ in TYPES}
)


@dataclass(slots=True)
class Seen:
    """What assertions look at. `headers` may stay empty unless `needs_headers`, `body` unless `needs_body`.

    `values` holds by its name every source that is no part of an HTTP response nor a phase.
    """

    status: int = 0
    headers: Sequence[tuple[str, str]] = ()
    body: bytes = b""
    latency_ms: float = 0.0
    phases: Phases | None = None
    values: Mapping[str, Any] | None = None
    _json: Any = None

    def json(self, path: Path) -> Any:
        """The value at a path of the body; ABSENT also when the body is no JSON."""
        if self._json is None:
            self._json = (_document(self.body),)
        return find(self._json[0], path)

    def header(self, name: str) -> list[str]:
        """All headers of a name, whatever its case."""
        wanted = name.lower()
        return [value for key, value in self.headers if key.lower() == wanted]

    def phase(self, name: str) -> float | None:
        """Milliseconds of a phase, None when it was not reached."""
        value: float = getattr(self.phases, name, NOT_REACHED)
        return None if value == NOT_REACHED else value


Reader = Callable[[Seen, Any], Any]


def _document(body: bytes) -> Any:
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        # Not JSON, or nested as deep as only an attack is.
        return ABSENT


def _json_value(seen: Seen, path: Path) -> Any:
    return seen.json(path)


#: How a source is read, where it is not in `Seen.values`; `where` is a header's name or a path.
_READERS: Mapping[str, Reader] = MappingProxyType(
    {
        "status": lambda seen, _where: seen.status,
        "body": lambda seen, _where: seen.body,
        "latency_ms": lambda seen, _where: seen.latency_ms,
        "header": lambda seen, name: seen.header(name),
        "json": _json_value,
        "dns_ms": lambda seen, _where: seen.phase("dns_ms"),
        "connect_ms": lambda seen, _where: seen.phase("connect_ms"),
        "tls_ms": lambda seen, _where: seen.phase("tls_ms"),
        "ttfb_ms": lambda seen, _where: seen.phase("ttfb_ms"),
    }
)


def reader_of(source: str) -> Reader:
    """What reads a source: None where there is nothing, ABSENT for one of kind VALUE (whose None is null)."""
    nothing = ABSENT if TABLE[source].kind is Kind.VALUE else None
    return _READERS.get(source) or (lambda seen, _where: (seen.values or {}).get(source, nothing))

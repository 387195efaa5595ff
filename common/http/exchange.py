"""The values that go into and come out of the HTTP engine."""

from __future__ import annotations

from dataclasses import dataclass, field

from common.domain.checks import Phases, Reason
from common.domain.egress import Denial
from common.domain.options import HttpExtras
from common.http.tls_facts import TlsSession

DEFAULT_MAX_BODY_BYTES = 10 * 1024 * 1024
MAX_HEADER_BYTES = 64 * 1024


@dataclass(slots=True)
class HttpRequest:
    """One request. `timeout_s` is the total deadline: look-ups, redirects and the last byte included.

    Of the body at most `keep_body_bytes` are kept; above `max_body_bytes` the transfer is broken off. `traceparent`
    is a header of its own, so that `headers` can be the same tuple in every check of a monitor. `extras` (a proxy, a
    private authority, a client certificate, a version of HTTP) and `want_certificate` cost a handle's set-up each time;
    so does `want_session`, which comes with that and brings all that is known of the TLS session.
    """

    method: str
    url: str
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes | None = None
    timeout_s: float = 10.0
    follow_redirects: bool = True
    verify_tls: bool = True
    max_redirects: int = 5
    keep_body_bytes: int = 0
    max_body_bytes: int = DEFAULT_MAX_BODY_BYTES
    traceparent: str = ""
    extras: HttpExtras | None = None
    want_certificate: bool = False
    want_session: bool = False


@dataclass(slots=True)
class HttpExchange:
    """What came of a request. `reason` is NONE when a complete response arrived, whatever its status.

    `url` is the last one asked, without credentials; `address` the one connected to; phases are summed over hops.
    `cert_days` and `session` are the last hop's, where they were wanted and there was TLS. `denial` says what the
    egress rules objected to: for counters and logs, never for users.
    """

    url: str = ""
    status: int = 0
    header_lines: list[bytes] = field(default_factory=list)
    body: bytes = b""
    body_bytes: int = 0
    reason: Reason = Reason.NONE
    message: str = ""
    phases: Phases = field(default_factory=Phases)
    address: str = ""
    redirects: int = 0
    http_version: str = ""
    denial: Denial | None = None
    cert_days: float | None = None
    session: TlsSession | None = None

    @property
    def headers(self) -> list[tuple[str, str]]:
        """The last response's header, in order; parsed only when asked for, since most checks never look."""
        pairs: list[tuple[str, str]] = []
        for raw in self.header_lines:
            line = raw.decode("latin-1").rstrip("\r\n")
            if line.startswith("HTTP/"):
                # An interim response (100, 103) came before this one.
                pairs.clear()
            elif line[:1] in (" ", "\t") and pairs:
                pairs[-1] = (pairs[-1][0], f"{pairs[-1][1]} {line.strip()}")
            else:
                name, colon, value = line.partition(":")
                if colon:
                    pairs.append((name, value.strip()))
        return pairs

    def header(self, name: str) -> str | None:
        """The first value of a header, whatever its case."""
        wanted = name.lower()
        return next((value for key, value in self.headers if key.lower() == wanted), None)

    def fail(self, reason: Reason, message: str) -> None:
        """Note why there is no (usable) response."""
        self.reason = reason
        self.message = message

    def discard_response(self) -> None:
        """Forget what the last hop brought, so that it cannot pass for the response of the next."""
        self.status = 0
        self.header_lines = []
        self.body = b""
        self.body_bytes = 0
        self.http_version = ""

    def begin_redirect(self) -> None:
        """The response was a redirect that is followed."""
        self.redirects += 1
        self.address = ""
        self.session = None
        self.discard_response()

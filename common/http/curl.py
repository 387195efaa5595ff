"""One pooled libcurl handle: its lasting options, what changes per request, and what its callbacks collect."""

from __future__ import annotations

import re
import ssl

import pycurl

from common.domain.checks import NOT_REACHED, Phases
from common.http.certificates import days_left_of
from common.http.exchange import MAX_HEADER_BYTES, HttpExchange, HttpRequest
from common.http.extras import Via, apply_extras
from common.http.headers import header_lines
from common.http.redirects import Hop
from common.http.tls_facts import TlsSession

_US_PER_MS = 1000.0
#: OpenSSL's own list without its first entry, the post-quantum X25519MLKEM768: making that key share for each fresh
#: connection costs a sixth of a whole check over TLS (2,330 → 2,700 a CPU-second), and what a probe says is no secret.
_GROUPS = "X25519:P-256:X448:P-521:P-384:ffdhe2048:ffdhe3072"
#: The only place where libcurl says which TLS was agreed on: a line of its account of a transfer.
_AGREED = re.compile(rb"SSL connection using (\S+) / (\S+)")


class Handle:
    """A libcurl easy handle that is used again and again. Setting and reading an option costs 0.1-0.3 µs."""

    __slots__ = (
        "_body",
        "_ca_file",
        "_header_lines",
        "_limit",
        "_plain",
        "_room",
        "_session",
        "_user_agent",
        "body_bytes",
        "curl",
        "too_large",
    )

    def __init__(self, user_agent: str, ca_file: str) -> None:
        self.curl = pycurl.Curl()
        self._user_agent = user_agent
        self._ca_file = ca_file
        self._header_lines: list[bytes] = []
        self._body: list[bytes] = []
        self._room = 0
        self._limit = 0
        self.body_bytes = 0
        self.too_large = False
        self._plain = False
        self._session: tuple[str, str] | None = None

    def prepare(
        self, hop: Hop, request: HttpRequest, address: str, timeout_ms: int, via: Via | None = None
    ) -> str | None:
        """Set up one hop to one judged address, `via` a judged proxy. A text says what is wrong with the request."""
        lines = header_lines(hop.headers, hop.authorization, has_body=hop.body is not None)
        if isinstance(lines, str):
            return lines
        if not self._plain:
            self._reset()
        self._header_lines.clear()
        self._body.clear()
        self._room, self._limit = request.keep_body_bytes, request.max_body_bytes
        self.body_bytes = 0
        self.too_large = False
        setopt = self.curl.setopt
        setopt(pycurl.URL, hop.target.url)
        # Whatever host the URL names, the connection goes to this address: there is nothing left to resolve.
        place = f"[{address}]" if ":" in address else address
        setopt(pycurl.CONNECT_TO, [f"::{place}:{hop.target.port}"])
        setopt(pycurl.HTTPHEADER, [*lines, f"traceparent: {request.traceparent}"] if request.traceparent else lines)
        setopt(pycurl.TIMEOUT_MS, timeout_ms)
        extras = request.extras
        if hop.method != "GET" or hop.body is not None or not request.verify_tls:
            self._prepare_special(hop, verify_tls=request.verify_tls)
        if extras is not None or request.want_certificate:
            self._plain = False
            setopt(pycurl.OPT_CERTINFO, int(request.want_certificate))
            self._session = None
            if request.want_session:
                setopt(pycurl.VERBOSE, 1)
                setopt(pycurl.DEBUGFUNCTION, self._on_account)
            if extras is not None:
                apply_extras(self.curl, hop, extras, via)
        return None

    def _prepare_special(self, hop: Hop, *, verify_tls: bool) -> None:
        """What most requests do not need; the next user of the handle starts from a reset."""
        self._plain = False
        setopt = self.curl.setopt
        if hop.method == "HEAD":
            setopt(pycurl.NOBODY, 1)
        elif hop.body is not None:
            setopt(pycurl.POSTFIELDS, hop.body)
        if hop.method != "HEAD":
            setopt(pycurl.CUSTOMREQUEST, hop.method)
        if not verify_tls:
            setopt(pycurl.SSL_VERIFYPEER, 0)
            setopt(pycurl.SSL_VERIFYHOST, 0)

    def _reset(self) -> None:
        """Options that stay for the life of a handle, as long as only plain GETs use it."""
        self.curl.reset()
        setopt = self.curl.setopt
        setopt(pycurl.NOSIGNAL, 1)
        setopt(pycurl.FRESH_CONNECT, 1)
        setopt(pycurl.FORBID_REUSE, 1)
        # Keep no addresses: libcurl walks through its whole cache in each request, 35 µs of it with 5,000 hosts.
        setopt(pycurl.DNS_CACHE_TIMEOUT, 0)
        # A resumed session would not show its certificate, and an expired one would go unnoticed.
        setopt(pycurl.SSL_SESSIONID_CACHE, 0)
        setopt(pycurl.SSL_EC_CURVES, _GROUPS)
        # Proxies of the environment would connect for us, to addresses that nobody judged.
        setopt(pycurl.PROXY, "")
        setopt(pycurl.PROTOCOLS, pycurl.PROTO_HTTP | pycurl.PROTO_HTTPS)
        setopt(pycurl.FOLLOWLOCATION, 0)
        setopt(pycurl.HTTP_CONTENT_DECODING, 0)
        setopt(pycurl.CAINFO, self._ca_file)
        setopt(pycurl.USERAGENT, self._user_agent)
        # A built-in as callback: no Python frame per header line. libcurl itself stops at 300 KiB.
        setopt(pycurl.HEADERFUNCTION, self._header_lines.append)
        setopt(pycurl.WRITEFUNCTION, self._on_body)
        self._plain = True

    def _on_body(self, chunk: bytes) -> int | None:
        size = len(chunk)
        self.body_bytes += size
        if self.body_bytes > self._limit:
            self.too_large = True
            return 0
        if self._room > 0:
            self._body.append(chunk[: self._room])
            self._room -= size
        return None

    @property
    def headers_too_large(self) -> bool:
        """More than what any sane server sends; libcurl took it all the same."""
        return sum(map(len, self._header_lines)) > MAX_HEADER_BYTES

    @property
    def address(self) -> str:
        """The address that the socket was really connected to; empty if it never was."""
        return str(self.curl.getinfo(pycurl.PRIMARY_IP))

    def report(self, exchange: HttpExchange, *, secure: bool) -> None:
        """Write down what arrived and how long it took; phases add up over the hops."""
        getinfo = self.curl.getinfo
        exchange.status = getinfo(pycurl.RESPONSE_CODE)
        exchange.header_lines = self._header_lines.copy()
        exchange.body = b"".join(self._body)
        exchange.body_bytes = self.body_bytes
        if self._header_lines:
            exchange.http_version = self._header_lines[0].split(b" ", 1)[0].decode("latin-1").removeprefix("HTTP/")
        self._report_phases(exchange.phases, secure=secure)

    def certificate_days(self) -> float | None:
        """How long the server's own certificate is still good, if it was wanted and there was one."""
        for certificate in self.curl.getinfo(pycurl.INFO_CERTINFO):
            for name, value in certificate:
                if name == "Expire date":
                    return days_left_of(value)
        return None

    def session(self) -> TlsSession | None:
        """Which TLS was agreed on, and the certificates that the server sent, if that was wanted and there was any."""
        # libcurl gives its account of the handshake before it judges the certificate.
        if self._session is None or not self.curl.getinfo(pycurl.APPCONNECT_TIME_T):
            return None
        texts = [
            value
            for certificate in self.curl.getinfo(pycurl.INFO_CERTINFO)
            for name, value in certificate
            if name == "Cert"
        ]
        return TlsSession(*self._session, tuple(map(ssl.PEM_cert_to_DER_cert, texts)))

    def _on_account(self, kind: int, line: bytes) -> None:
        if kind == pycurl.INFOTYPE_TEXT and (agreed := _AGREED.match(line)):
            self._session = agreed[1].decode("latin-1"), agreed[2].decode("latin-1")

    def _report_phases(self, phases: Phases, *, secure: bool) -> None:
        getinfo = self.curl.getinfo
        connected = getinfo(pycurl.CONNECT_TIME_T)
        if not connected:
            return
        phases.connect_ms = _add(phases.connect_ms, connected)
        ready = getinfo(pycurl.APPCONNECT_TIME_T) if secure else connected
        if not ready:
            return
        if secure:
            phases.tls_ms = _add(phases.tls_ms, ready - connected)
        started = getinfo(pycurl.STARTTRANSFER_TIME_T)
        if started:
            phases.ttfb_ms = _add(phases.ttfb_ms, started - ready)


def _add(so_far_ms: float, span_us: int) -> float:
    # A span of 0 µs or less is the clock's grain, not a phase that never was.
    return (so_far_ms if so_far_ms != NOT_REACHED else 0.0) + max(span_us, 0) / _US_PER_MS

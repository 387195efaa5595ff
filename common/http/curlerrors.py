"""From libcurl's error codes to our reasons, by one table, in words that name host, port and seconds, never secrets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import pycurl

from common.domain.checks import Reason
from common.http.exchange import MAX_HEADER_BYTES
from common.http.oserrors import OS_ERRORS
from common.http.tlserrors import CERTIFICATE, UNTRUSTED

_CURL_ERRORS: Mapping[int, tuple[Reason, str]] = MappingProxyType(
    {
        # "Received HTTP/0.9 when not allowed"; a scheme that we do not speak never gets as far as libcurl.
        pycurl.E_UNSUPPORTED_PROTOCOL: (Reason.PROTOCOL_ERROR, "the answer of {where} is not HTTP"),
        pycurl.E_URL_MALFORMAT: (Reason.INVALID_TARGET, "the URL is not valid"),
        pycurl.E_COULDNT_CONNECT: (Reason.UNREACHABLE, "could not connect to {where}"),
        8: (Reason.PROTOCOL_ERROR, "the answer of {where} is not HTTP"),
        16: (Reason.PROTOCOL_ERROR, "HTTP/2 error from {where}"),
        92: (Reason.PROTOCOL_ERROR, "HTTP/2 stream error from {where}"),
        95: (Reason.PROTOCOL_ERROR, "HTTP/3 error from {where}"),
        pycurl.E_PARTIAL_FILE: (
            Reason.CONNECTION_RESET,
            "connection closed by {where} before the response was complete",
        ),
        pycurl.E_SSL_CONNECT_ERROR: (Reason.TLS_HANDSHAKE, "TLS handshake with {where} failed: {detail}"),
        pycurl.E_GOT_NOTHING: (Reason.EMPTY_REPLY, "{where} closed the connection without an answer"),
        pycurl.E_SEND_ERROR: (Reason.CONNECTION_RESET, "connection closed by {where} while sending"),
        pycurl.E_RECV_ERROR: (Reason.PROTOCOL_ERROR, "the response of {where} is malformed"),
        pycurl.E_BAD_CONTENT_ENCODING: (Reason.PROTOCOL_ERROR, "the response of {where} is malformed"),
        pycurl.E_FILESIZE_EXCEEDED: (Reason.BODY_TOO_LARGE, "the body is too large"),
        100: (Reason.HEADERS_TOO_LARGE, f"the response header of {{where}} exceeds {MAX_HEADER_BYTES // 1024} KiB"),
    }
)
#: Codes behind which an errno can tell more exactly what happened.
_HAS_ERRNO = frozenset({pycurl.E_COULDNT_CONNECT, pycurl.E_SEND_ERROR, pycurl.E_RECV_ERROR})


@dataclass(frozen=True, slots=True)
class Scene:
    """Where a transfer failed and what it was allowed: all that a message needs."""

    host: str
    address: str
    port: int
    secure: bool
    timeout_s: float

    @property
    def where(self) -> str:
        """Host, address and port, for messages."""
        place = f"[{self.address}]:{self.port}" if ":" in self.address else f"{self.address}:{self.port}"
        return place if self.host == self.address else f"{self.host} ({place})"


def explain(curl: pycurl.Curl, code: int, text: str, scene: Scene) -> tuple[Reason, str]:
    """Say what went wrong in a transfer that ended with `code`, while its handle still knows the details."""
    if code == pycurl.E_OPERATION_TIMEDOUT:
        return _explain_timeout(curl, scene)
    if code == pycurl.E_PEER_FAILED_VERIFICATION:
        return _explain_certificate(curl, text, scene)
    if code == pycurl.E_RECV_ERROR and "header" in text.lower() and "large" in text.lower():
        code = 100
    if code in _HAS_ERRNO:
        known = OS_ERRORS.get(curl.getinfo(pycurl.OS_ERRNO))
        if known is not None:
            return known[0], f"{known[1]} {scene.where}"
    reason, template = _CURL_ERRORS.get(code, (Reason.INTERNAL, "the probe itself failed (libcurl error {code})"))
    return reason, template.format(where=scene.where, code=code, detail=_tls_detail(text))


def _explain_timeout(curl: pycurl.Curl, scene: Scene) -> tuple[Reason, str]:
    within = f"within {scene.timeout_s:.3g} s"
    if not curl.getinfo(pycurl.CONNECT_TIME_T):
        return Reason.CONNECT_TIMEOUT, f"no connection to {scene.where} {within}"
    if scene.secure and not curl.getinfo(pycurl.APPCONNECT_TIME_T):
        return Reason.TIMEOUT, f"TLS handshake with {scene.where} not finished {within}"
    if not curl.getinfo(pycurl.STARTTRANSFER_TIME_T):
        return Reason.TIMEOUT, f"no response from {scene.where} {within}"
    return Reason.TIMEOUT, f"response of {scene.where} not complete {within}"


def _explain_certificate(curl: pycurl.Curl, text: str, scene: Scene) -> tuple[Reason, str]:
    # libcurl compares the name itself, after OpenSSL has passed the chain; the result says nothing then.
    default = (
        (Reason.TLS_HOSTNAME_MISMATCH, "the certificate of {where} is for another host")
        if "subject name" in text
        else UNTRUSTED
    )
    reason, template = CERTIFICATE.get(curl.getinfo(pycurl.SSL_VERIFYRESULT), default)
    return reason, template.format(where=scene.where)


def _tls_detail(text: str) -> str:
    """OpenSSL's own words, without its numbers: "error:0A000126:SSL routines::unexpected eof" → its last part."""
    return text.rsplit("::", 1)[-1].strip()[:120] or "no reason given"

"""What OpenSSL's verdicts mean, for libcurl's transfers and our own connections alike."""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from types import MappingProxyType

from common.domain.checks import Reason

#: OpenSSL's X509_V_ERR_* of a certificate that did not pass.
CERTIFICATE: Mapping[int, tuple[Reason, str]] = MappingProxyType(
    {
        9: (Reason.TLS_CERTIFICATE_UNTRUSTED, "the certificate of {where} is not valid yet"),
        10: (Reason.TLS_CERTIFICATE_EXPIRED, "the certificate of {where} has expired"),
        18: (Reason.TLS_CERTIFICATE_UNTRUSTED, "the certificate of {where} is self-signed"),
        19: (Reason.TLS_CERTIFICATE_UNTRUSTED, "the certificate of {where} comes from an unknown authority"),
        20: (Reason.TLS_CERTIFICATE_UNTRUSTED, "the certificate of {where} comes from an unknown authority"),
        21: (Reason.TLS_CERTIFICATE_UNTRUSTED, "{where} does not send its certificate's chain"),
        23: (Reason.TLS_CERTIFICATE_UNTRUSTED, "the certificate of {where} was revoked"),
        62: (Reason.TLS_HOSTNAME_MISMATCH, "the certificate of {where} is for another host"),
        64: (Reason.TLS_HOSTNAME_MISMATCH, "the certificate of {where} is for another address"),
    }
)
UNTRUSTED = (Reason.TLS_CERTIFICATE_UNTRUSTED, "the certificate of {where} was not accepted")

#: What OpenSSL calls it when two sides have no version of TLS in common.
_VERSIONS = frozenset(
    {
        "UNSUPPORTED_PROTOCOL",
        "TLSV1_ALERT_PROTOCOL_VERSION",
        "WRONG_SSL_VERSION",
        "NO_PROTOCOLS_AVAILABLE",
        "VERSION_TOO_LOW",
    }
)


def explain_tls(error: ssl.SSLError, where: str) -> tuple[Reason, str]:
    """Say what went wrong in a handshake of ours, in words that fit a message."""
    if isinstance(error, ssl.SSLCertVerificationError):
        reason, template = CERTIFICATE.get(error.verify_code, UNTRUSTED)
        return reason, template.format(where=where)
    if error.reason in _VERSIONS:
        return Reason.TLS_VERSION_WEAK, f"{where} speaks no version of TLS that is recent enough"
    detail = (error.reason or "no reason given").replace("_", " ").lower()[:120]
    return Reason.TLS_HANDSHAKE, f"TLS handshake with {where} failed: {detail}"

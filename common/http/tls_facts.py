"""All that is of use about a TLS session, for who waits for a probe: how it was agreed, and with which certificates."""

from __future__ import annotations

import ssl
from collections.abc import Sequence
from dataclasses import dataclass

from cryptography import x509
from cryptography.hazmat.primitives import hashes

from common.domain.checks import Facts
from common.http.certificates import sent_chain, verified_chain, verifies

#: A certificate may be for thousands of names (characters).
_MAX_CHARS = 4_096

#: Without verification anything may stand in a certificate, and whatever it is, it says nothing.
_UNREADABLE = (ValueError, x509.DuplicateExtension, x509.UnsupportedGeneralNameType)


@dataclass(frozen=True, slots=True)
class TlsSession:
    """Version and cipher in OpenSSL's words, and the certificates that the server sent, its own first (DER)."""

    version: str
    cipher: str
    sent: tuple[bytes, ...]


def facts_of(session: ssl.SSLObject) -> Facts:
    """Of a session of our own, the chain that it was verified by among them."""
    cipher = session.cipher()
    seen = TlsSession(session.version() or "", cipher[0] if cipher else "", tuple(sent_chain(session)))
    chain = verified_chain(session) if verifies(session) else []
    return {**session_facts(seen), **_first_expiry("verified_expiry_s", chain)}


def session_facts(session: TlsSession) -> Facts:
    """Version and cipher, when the first of the certificates that were sent expires, and whose the server's own is."""
    return {
        "tls_version": session.version,
        "tls_cipher": session.cipher,
        **_first_expiry("sent_expiry_s", session.sent),
        **(_identity(session.sent[0]) if session.sent else {}),
    }


def _first_expiry(name: str, chain: Sequence[bytes]) -> Facts:
    try:
        expiries = [x509.load_der_x509_certificate(der).not_valid_after_utc for der in chain]
    except _UNREADABLE:
        return {}
    return {name: round(min(expiries).timestamp())} if expiries else {}


def _identity(der: bytes) -> Facts:
    try:
        own = x509.load_der_x509_certificate(der)
        return {
            "fingerprint_sha256": own.fingerprint(hashes.SHA256()).hex(),
            "subject": own.subject.rfc4514_string()[:_MAX_CHARS],
            "issuer": own.issuer.rfc4514_string()[:_MAX_CHARS],
            "subjectalternative": ",".join(_hosts(own))[:_MAX_CHARS],
        }
    except _UNREADABLE:
        return {}


def _hosts(own: x509.Certificate) -> list[str]:
    try:
        names = own.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return []
    return names.get_values_for_type(x509.DNSName)

"""How long certificates are still good, from a TLS session or from libcurl's account of one."""

from __future__ import annotations

import ssl
from datetime import UTC, datetime
from typing import Any

from cryptography import x509

from common.clock import utc_now

_DAY_S = 86_400.0
#: _ssl.ENCODING_DER
_DER = 2


def certificate_values(session: ssl.SSLObject) -> dict[str, float]:
    """`cert_days` of the server's certificate and `chain_days` of the first to expire in its chain, as far as known."""
    leaf = session.getpeercert(binary_form=True)
    if leaf is None:
        return {}
    # A chain that was verified has no certificate that does not count; without there is only what the server sent.
    chain = verified_chain(session) if verifies(session) else sent_chain(session)
    try:
        days = [_days_left(each) for each in (leaf, *chain)]
    except ValueError:
        return {}  # without verification anything may stand in a certificate
    return {"cert_days": days[0], "chain_days": min(days)}


def verifies(session: ssl.SSLObject) -> bool:
    """Whether nobody passes for the server who is not."""
    return session.context.verify_mode is not ssl.CERT_NONE


def verified_chain(session: ssl.SSLObject) -> list[bytes]:
    """From the server's certificate to the authority that is trusted (DER)."""
    return _ders(_inner(session).get_verified_chain())


def sent_chain(session: ssl.SSLObject) -> list[bytes]:
    """The certificates that the server sent, its own first (DER)."""
    return _ders(_inner(session).get_unverified_chain())


def _inner(session: ssl.SSLObject) -> Any:
    """Where the methods for chains are: public since Python 3.13, before on the inner object."""
    return session if hasattr(session, "get_verified_chain") else session._sslobj  # type: ignore[attr-defined]  # noqa: SLF001


def _ders(chain: Any) -> list[bytes]:
    return [each if isinstance(each, bytes) else each.public_bytes(_DER) for each in chain or ()]


def _days_left(der: bytes) -> float:
    return _days(x509.load_der_x509_certificate(der).not_valid_after_utc)


def days_left_of(text: str) -> float | None:
    """Days until an expiry date as OpenSSL prints it ("Nov 21 10:00:00 2026 GMT")."""
    try:
        return _days(datetime.fromtimestamp(ssl.cert_time_to_seconds(text), UTC))
    except ValueError:
        return None


def expires_s(days_left: float) -> int:
    """The moment of an expiry that is so many days away (Unix seconds)."""
    return round(utc_now().timestamp() + days_left * _DAY_S)


def _days(moment: datetime) -> float:
    return (moment - utc_now()).total_seconds() / _DAY_S

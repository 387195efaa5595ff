"""An authority of our own, whose certificates the watched servers show."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from common.clock import utc_now

_GOOD_FOR = timedelta(days=90)


@dataclass(frozen=True, slots=True)
class Authority:
    """Its certificate, and the key that signs."""

    root: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    @property
    def pem(self) -> str:
        """What a client trusts."""
        return self.root.public_bytes(serialization.Encoding.PEM).decode()

    def certificate(self, folder: Path, names: Sequence[str]) -> tuple[Path, Path]:
        """(certificate, key) of a server with these names."""
        key = ec.generate_private_key(ec.SECP256R1())
        alternatives = x509.SubjectAlternativeName([x509.DNSName(name) for name in names])
        leaf = (
            _begun("server", self.root.subject, key)
            .add_extension(alternatives, critical=False)
            .sign(self.key, hashes.SHA256())
        )
        paths = folder / "certificate.pem", folder / "key.pem"
        paths[0].write_bytes(leaf.public_bytes(serialization.Encoding.PEM))
        paths[1].write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        return paths


def make_authority() -> Authority:
    """A new one."""
    key = ec.generate_private_key(ec.SECP256R1())
    root = (
        _begun("bench", x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "bench")]), key)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    return Authority(root, key)


def _begun(name: str, issuer: x509.Name, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
    now = utc_now()
    return (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + _GOOD_FOR)
    )

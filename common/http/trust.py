"""TLS contexts of our own connections: made once for each way to trust, since reading a bundle takes long."""

from __future__ import annotations

import functools
import ssl
import tempfile

from common.domain.options import Trust

VERSIONS = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}


def context_for(trust: Trust, ca_file: str, min_version: str = "1.2") -> ssl.SSLContext:
    """The context for these options. Raises ssl.SSLError or ValueError for a certificate or key that is none."""
    # Only what matters here: the options of a type hold more, and would part what can be shared.
    return _context(
        (trust.verify_tls, trust.ca_certificates, trust.client_certificate, trust.client_key), ca_file, min_version
    )


@functools.lru_cache(maxsize=256)
def _context(trust: tuple[bool, str | None, str | None, str | None], ca_file: str, min_version: str) -> ssl.SSLContext:
    verify, authorities, certificate, key = trust
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = VERSIONS[min_version]
    if not verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    elif authorities:
        context.load_verify_locations(cadata=authorities)
    else:
        context.load_verify_locations(ca_file)
    if certificate:
        # The module reads these from files only; nobody else may read this one, and it is gone at once.
        with tempfile.NamedTemporaryFile("w", suffix=".pem") as file:
            file.write(f"{certificate}\n{key or ''}\n")
            file.flush()
            context.load_cert_chain(file.name)
    return context

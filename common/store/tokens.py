"""One-time tokens that travel by mail or by hand: 256 random bits, of which only the SHA-256 is stored.

There is nothing to guess in such a secret, so a fast hash is enough, and looking it up by the hash leaks nothing.
"""

from __future__ import annotations

import secrets
from hashlib import sha256


def make() -> str:
    """A new token."""
    return secrets.token_urlsafe(32)


def hash_of(token: str) -> bytes:
    """What is stored of a token."""
    return sha256(token.encode(errors="replace")).digest()

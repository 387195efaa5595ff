"""Secrets at rest: Fernet tokens bound to their owner, so that a ciphertext moved to another row does not open.

The same keys sign what we hand out and read back ourselves: each purpose has keys of its own, derived from them.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from typing import Any

from cryptography.fernet import Fernet, InvalidToken, MultiFernet

from common.domain.errors import SettingsError, TocsinError


class SecretUnreadable(TocsinError):
    """A stored secret does not open: its key is gone, or it belongs to another row."""

    code = "SECRET_UNREADABLE"


class Vault:
    """Seals JSON values with the first of the keys and opens them with any.

    `owner` is the identity of the row that holds the secret, for example "channel:<org>:<id>"; Fernet has no
    associated data, so it travels inside the plaintext and is compared on opening.
    """

    def __init__(self, keys: str) -> None:
        parts = [part.strip() for part in keys.split(",") if part.strip()]
        if not parts:
            raise SettingsError("TOCSIN_ENCRYPTION_KEYS must be set; make a key with `tocsin keygen`")
        try:
            fernets = [Fernet(part) for part in parts]
        except ValueError:
            raise SettingsError(
                "TOCSIN_ENCRYPTION_KEYS: each key must be 32 bytes in URL-safe base64; make one with `tocsin keygen`"
            ) from None
        self._newest = fernets[0]
        self._fernet = MultiFernet(fernets)
        self._keys = [part.encode() for part in parts]

    def seal(self, owner: str, value: Any) -> str:
        """The token to store for a JSON value."""
        return self._fernet.encrypt(json.dumps([owner, value]).encode()).decode()

    def open(self, owner: str, token: str) -> Any:
        """The value in a token; raises SecretUnreadable."""
        try:
            sealed_for, value = json.loads(self._fernet.decrypt(token.encode()))
        except InvalidToken:
            raise SecretUnreadable(f"The secret of {owner} does not open with any of TOCSIN_ENCRYPTION_KEYS.") from None
        if sealed_for != owner:
            raise SecretUnreadable(f"The secret stored with {owner} was sealed for another row.")
        return value

    def reseal(self, owner: str, token: str) -> str | None:
        """The token under the newest key; None when it is under that one already. Raises SecretUnreadable."""
        try:
            self._newest.decrypt(token.encode())
        except InvalidToken:
            return self.seal(owner, self.open(owner, token))
        return None

    def sign(self, purpose: str, data: bytes) -> bytes:
        """32 bytes that only a holder of the newest key can make, for this purpose."""
        return _mac(self._keys[0], purpose, data)

    def signed(self, purpose: str, data: bytes, signature: bytes) -> bool:
        """Whether the signature (its first 16 bytes or more) was made for this purpose with any of the keys."""
        if len(signature) < 16:
            return False
        made = (_mac(key, purpose, data)[: len(signature)] for key in self._keys)
        return any(hmac.compare_digest(one, signature) for one in made)


def generate_key() -> str:
    """A new encryption key."""
    return Fernet.generate_key().decode()


def _mac(key: bytes, purpose: str, data: bytes) -> bytes:
    derived = hmac.digest(key, b"tocsin " + purpose.encode(), hashlib.sha256)
    return hmac.digest(derived, data, hashlib.sha256)

"""SCRAM-SHA-256 (RFC 5802, RFC 7677) as PostgreSQL speaks it: the client's side, the server's proof checked."""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import hmac
import secrets
import unicodedata

#: More would let a server spend our time; PostgreSQL's default is 4,096.
MAX_ITERATIONS = 100_000


class Scram:
    """One login. `ValueError` where the server breaks the rules or asks for too much."""

    def __init__(self, password: str) -> None:
        self._password = unicodedata.normalize("NFKC", password).encode("utf-8", "replace")
        self._nonce = secrets.token_urlsafe(18)
        self._bare = f"n=,r={self._nonce}"
        self._server_proof = b""

    def first(self) -> bytes:
        """What the client begins with; no channel binding."""
        return f"n,,{self._bare}".encode()

    async def final(self, challenge: bytes) -> bytes:
        """The proof for the server's challenge."""
        said = challenge.decode("ascii")
        fields = dict(part.split("=", 1) for part in said.split(",") if "=" in part)
        nonce, rounds = fields.get("r", ""), fields.get("i", "")
        if not nonce.startswith(self._nonce) or not rounds.isdigit() or not 0 < int(rounds[:9]) <= MAX_ITERATIONS:
            raise ValueError("challenge")
        salt = base64.b64decode(fields.get("s", ""), validate=True)
        # Not on the loop: the server says how long this takes.
        salted = await asyncio.to_thread(hashlib.pbkdf2_hmac, "sha256", self._password, salt, int(rounds))
        unproved = f"c=biws,r={nonce}"
        whole = f"{self._bare},{said},{unproved}".encode()
        key = _hmac(salted, b"Client Key")
        signature = _hmac(hashlib.sha256(key).digest(), whole)
        proof = bytes(one ^ other for one, other in zip(key, signature, strict=True))
        self._server_proof = _hmac(_hmac(salted, b"Server Key"), whole)
        return f"{unproved},p={base64.b64encode(proof).decode()}".encode()

    def is_server(self, final: bytes) -> bool:
        """Whether the server knows the password as well."""
        try:
            proof = base64.b64decode(final.removeprefix(b"v="), validate=True)
        except binascii.Error:
            return False
        return hmac.compare_digest(proof, self._server_proof)


def _hmac(key: bytes, data: bytes) -> bytes:
    return hmac.digest(key, data, "sha256")

"""Passwords: argon2id, bounded in length and in how many are hashed at once, and as slow for strangers as for users."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from threading import BoundedSemaphore

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from common.domain.errors import Full

#: Longer ones are refused before they are hashed: a megabyte of password would only buy our time.
MAX_PASSWORD_BYTES = 1024

# OWASP's second choice: two passes over 19 MiB, about 25 ms.
_TIME_COST = 2
_MEMORY_KIB = 19 * 1024

_WAIT_S = 5.0

#: Stored for who has no password: nothing fits it.
NONE = ""


class Passwords:
    """Hashes and checks passwords; at most `concurrent` at a time, so that a flood of logins cannot take all memory."""

    def __init__(self, concurrent: int = 4) -> None:
        self._hasher = PasswordHasher(time_cost=_TIME_COST, memory_cost=_MEMORY_KIB, parallelism=1)
        self._turns = BoundedSemaphore(concurrent)
        # What an unknown user's password is compared with: the answer takes as long as for a known one.
        self._nobody = self._hasher.hash("nobody has this password")

    def hash(self, password: str) -> str:
        """The argon2id hash to store. Raises ValueError for a password that is too long.

        Raises Unavailable when too many others wait for their turn.
        """
        if len(password.encode()) > MAX_PASSWORD_BYTES:
            raise ValueError(f"a password has at most {MAX_PASSWORD_BYTES} bytes")
        with self._turn():
            return self._hasher.hash(password)

    def verify(self, stored: str | None, password: str) -> bool:
        """Whether the password fits; without a stored hash it never does, after the same time.

        Raises Unavailable when too many others wait for their turn.
        """
        if len(password.encode(errors="replace")) > MAX_PASSWORD_BYTES:
            return False
        with self._turn():
            try:
                return self._hasher.verify(stored or self._nobody, password) and bool(stored)
            except (VerificationError, InvalidHashError):
                return False

    def outdated(self, stored: str) -> bool:
        """Whether a stored hash was made with other parameters than today's."""
        return self._hasher.check_needs_rehash(stored)

    @contextmanager
    def _turn(self) -> Iterator[None]:
        if not self._turns.acquire(timeout=_WAIT_S):
            raise Full("Too many logins at once; try again.", code="LOGINS_BUSY", retry_after_s=1)
        try:
            yield
        finally:
            self._turns.release()

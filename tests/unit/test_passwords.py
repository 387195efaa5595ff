"""Passwords: right ones pass, nothing else does, and nobody can make us hash forever."""

from __future__ import annotations

import threading

import pytest

from common import passwords
from common.domain.errors import Unavailable
from common.passwords import Passwords


def test_a_hash_fits_its_password_only() -> None:
    keeper = Passwords()
    stored = keeper.hash("correct horse")
    assert stored.startswith("$argon2id$v=19$m=19456,t=2,p=1$")
    assert keeper.verify(stored, "correct horse")
    assert not keeper.verify(stored, "correct hors")
    assert stored != keeper.hash("correct horse")


@pytest.mark.parametrize("stored", [None, "", "not a hash", "$argon2id$v=19$broken"])
def test_an_unknown_user_or_a_broken_hash_never_fits(stored: str | None) -> None:
    assert not Passwords().verify(stored, "nobody has this password")


def test_a_password_beyond_the_cap_is_refused_without_hashing() -> None:
    keeper = Passwords()
    stored = keeper.hash("x" * 1024)
    assert keeper.verify(stored, "x" * 1024)
    assert not keeper.verify(stored, "x" * 1025)
    with pytest.raises(ValueError, match="at most 1024 bytes"):
        keeper.hash("ü" * 513)


def test_only_so_many_are_hashed_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(passwords, "_WAIT_S", 0.01)
    keeper = Passwords(concurrent=1)
    keeper._turns.acquire()
    with pytest.raises(Unavailable):
        keeper.verify(None, "x")
    keeper._turns.release()
    done = threading.Event()
    thread = threading.Thread(target=lambda: (keeper.verify(None, "x"), done.set()))
    thread.start()
    thread.join()
    assert done.is_set()

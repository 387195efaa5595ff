"""Which new passwords are refused, and that good ones are not."""

from __future__ import annotations

import pytest

from common.domain.weak_passwords import weakness

COMMON = "is one of the first that everybody tries"
ADDRESS = "must not be made from your address"


@pytest.mark.parametrize(
    ("password", "why"),
    [
        ("elevenchars", "must have at least 12 characters"),
        ("x9" * 129, "must have at most 256 characters"),
        ("passwordpassword", COMMON),
        ("Password1234!", COMMON),
        ("P@ssw0rd2024!!", COMMON),
        ("$unshine-12345", COMMON),
        ("iloveyou654321", COMMON),
        ("Welcome.2026.Welcome", COMMON),  # one word, twice
        ("dragonmonkey99", COMMON),  # two words that everybody tries
        ("123456789012", COMMON),
        ("210987654321", COMMON),
        ("qwertyuiop[]"[:10] + "as", COMMON),
        ("1q2w3e4r5t6y", COMMON),
        ("1qaz2wsx3edc", COMMON),
        ("abcdefghijkl", COMMON),
        ("aaaaaaaaaaaaaaaa", COMMON),
        ("ababababababab", COMMON),
        ("x7kqx7kqx7kqx7kq", COMMON),
        ("tocsin-monitor-1", COMMON),
        ("alice.wonder@example.com", ADDRESS),
        ("my alice.wonder@example.com!", ADDRESS),
        ("ALICE.WONDER 77", ADDRESS),
    ],
)
def test_what_is_easily_guessed_is_refused(password: str, why: str) -> None:
    assert weakness(password, "alice.wonder@example.com") == why


@pytest.mark.parametrize(
    "password",
    [
        "correct horse battery",
        "lower case only is fine",
        "dragon monkey football",  # three of them are a phrase
        "829104756382915",
        "ein grüner Elefant 🐘",
        "пароль из четырёх слов",
        "twelve chars",
        "x" * 11 + "bcdef",
        "alice.wonder likes long walks",
        "8f!kQ2#vLm0p",
        "a" * 200 + "bcdefgh",
    ],
)
def test_everything_else_is_taken_whatever_it_is_made_of(password: str) -> None:
    assert weakness(password, "alice.wonder@example.com") is None


def test_a_long_password_of_known_words_is_judged_quickly() -> None:
    assert weakness("password" * 32, "") == COMMON
    assert weakness("passwordmonkeydragon" * 12, "") is None

"""No secret of a monitor in what is told of it, in whatever form a target sends it back."""

from __future__ import annotations

import base64
from urllib.parse import quote

import pytest

from common.domain.checks import FailedAssertion, Observation, Reason, Verdict
from common.domain.options import read_options
from common.domain.redaction import redacted, shown_forms

SECRET = "pa/ss w0rd!+=c4nary"
FORMS = [SECRET, base64.b64encode(SECRET.encode()).decode(), quote(SECRET, safe=""), SECRET[:11]]


@pytest.mark.parametrize("form", FORMS)
def test_a_secret_is_hidden_in_message_expected_and_seen(form: str) -> None:
    failed = FailedAssertion("body", "eq", f"x {form}", f"you sent {form}")
    seen = redacted(
        Observation(Verdict.DOWN, Reason.BODY_MISMATCH, f"got {form}", failed_assertion=failed), shown_forms([SECRET])
    )
    assert seen.failed_assertion is not None
    for text in (seen.message, seen.failed_assertion.expected, seen.failed_assertion.seen):
        assert form not in text
        assert "•••" in text


def test_short_texts_and_what_merely_resembles_stay() -> None:
    assert shown_forms(["a", ""]) == ()
    whole = Observation(Verdict.DOWN, Reason.BODY_MISMATCH, "a paper")
    assert redacted(whole, shown_forms(["paper1234"])).message == "a •••"  # the beginning of one, at the cut
    assert redacted(whole, shown_forms(["other"])) == whole


def test_credentials_become_a_header_whose_forms_are_hidden_too() -> None:
    options = read_options("http", {"username": "alice", "password": None}, {"http.password": SECRET})
    ((name, value),) = options.headers  # type: ignore[union-attr]
    assert name == "Authorization"
    assert base64.b64decode(value.removeprefix("Basic ")).decode() == f"alice:{SECRET}"
    assert value.removeprefix("Basic ") in shown_forms([value])

"""Keep a monitor's secrets out of what is told of it: a target may send back what it was sent."""

from __future__ import annotations

import base64
from collections.abc import Iterable
from dataclasses import replace
from urllib.parse import quote

from common.domain.checks import Observation

HIDDEN = "•••"
#: A shorter text is no secret that could be told from chance, and hiding it would only garble the rest.
_MIN_CHARS = 4


def shown_forms(secrets: Iterable[str]) -> tuple[str, ...]:
    """Every form in which these secrets may come back, the longest first, so that no tail of one stays."""
    forms: set[str] = set()
    for secret in secrets:
        # "Bearer x" and "Basic x" come back without their scheme as well; a key comes back line by line.
        parts = {secret, secret.rpartition(" ")[2], *secret.splitlines()}
        forms |= parts | {quote(part, safe="") for part in parts} | set(map(_base64, parts))
    return tuple(sorted((form for form in forms if len(form) >= _MIN_CHARS), key=lambda form: (-len(form), form)))


def redacted(observation: Observation, secrets: Iterable[str]) -> Observation:
    """The observation with every secret hidden in message and failed assertion."""
    failed = observation.failed_assertion
    if failed is not None:
        failed = replace(failed, expected=_hide(failed.expected, secrets), seen=_hide(failed.seen, secrets))
    return replace(observation, message=_hide(observation.message, secrets), failed_assertion=failed)


def _hide(text: str, secrets: Iterable[str]) -> str:
    for secret in secrets:
        text = text.replace(secret, HIDDEN)
        # What is told was cut to its length before: its end may be the beginning of a secret.
        cut = next((size for size in range(len(secret) - 1, _MIN_CHARS - 1, -1) if text.endswith(secret[:size])), 0)
        if cut:
            text = text[:-cut] + HIDDEN
    return text


def _base64(text: str) -> str:
    return base64.b64encode(text.encode()).decode("ascii").rstrip("=")

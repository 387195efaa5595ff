"""Read until a pattern is found: bounded in bytes and, by RE2, in time."""

from __future__ import annotations

import functools
from typing import Any

import re2

from common.domain.checks import Reason
from common.domain.operators import shortened
from common.domain.patterns import pattern_of
from common.http.dial import Trouble
from common.http.wire import Wire

#: So much of what a server says is looked at (bytes).
MAX_BYTES = 64 * 1024


@functools.lru_cache(maxsize=1_024)
def compiled(text: str) -> Any:
    """The pattern. Raises Trouble for one that the API would have refused."""
    try:
        return pattern_of(text)
    except re2.error:
        raise Trouble(Reason.INTERNAL, "the monitor's pattern is not valid RE2") from None


async def read_until(wire: Wire, expect: str) -> bytes:
    """What was received up to and with a match of `expect`. Raises Trouble when it does not come."""
    pattern = compiled(expect)
    found = b""
    wire.waiting = f"no match of {shortened(expect)!r} in what {wire.where} sent"
    while pattern.search(found) is None:
        chunk = await wire.receive()
        if not chunk or len(found) > MAX_BYTES:
            why = "before it closed the connection" if not chunk else f"in {MAX_BYTES // 1024} KiB"
            raise Trouble(
                Reason.ANSWER_MISMATCH,
                f"expected {wire.where} to send what matches {shortened(expect)!r}, it did not {why}",
            )
        found += chunk
    return found

"""Promises of seconds on a machine that may stand still for some: who keeps one never, breaks it."""

from __future__ import annotations

import functools
from collections.abc import Callable

_TIMES = 4


def kept_now_and_then(test: Callable[..., None]) -> Callable[..., None]:
    """A test whose times hold unless the machine stood still meanwhile: it has to pass once in a few times."""

    @functools.wraps(test)
    def again(*arguments: object, **named: object) -> None:
        for _ in range(_TIMES - 1):
            try:
                test(*arguments, **named)
            except AssertionError:
                continue
            return
        test(*arguments, **named)

    return again

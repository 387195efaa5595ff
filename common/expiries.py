"""When certificates expire, as workers last saw them: a hint in Redis, for what Prometheus is told.

Nothing is decided by it: an assertion looks at the certificate itself. Should Redis lose it, it is there again within
the hour that workers leave between two looks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import cast

from common.broker import QueueBroker

#: Workers look once an hour; what nobody has seen for longer is no longer known.
LOOK_EVERY_S = 3_600.0
_KEPT_S = 3 * 3_600


class Expiries:
    """Both ends of it: {monitor's number: Unix seconds}. Whatever Redis does to us is Unavailable."""

    def __init__(self, broker: QueueBroker) -> None:
        self._broker = broker

    def note(self, seen: Mapping[int, int]) -> None:
        """Remember what was seen."""

        def put() -> None:
            with self._broker.client.pipeline(transaction=False) as pipe:
                for number, expires_s in seen.items():
                    pipe.set(self._key(number), expires_s, ex=_KEPT_S)
                pipe.execute()

        self._broker.ask(put)

    def of(self, numbers: Sequence[int]) -> dict[int, int]:
        """What is known of these monitors, in one round trip."""
        if not numbers:
            return {}
        keys = [self._key(number) for number in numbers]
        found = cast("list[bytes | None]", self._broker.ask(lambda: self._broker.client.mget(keys)))
        return {number: int(value) for number, value in zip(numbers, found, strict=True) if value is not None}

    def _key(self, number: int) -> str:
        return f"{self._broker.namespace}:expires:{number}"

"""Canaries: places that are reachable unless our own network is broken, asked only when there is doubt."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

from common import log

#: A network-class failure waits at most so long for a canary's answer (seconds).
PATIENCE_S = 1.0
#: Failures this close together share an attempt (seconds); an older one may still show the network of before.
_SAME_MOMENT_S = 0.1


class Canary:
    """Connects to the operator's canaries; failures at the same moment share one attempt. Event loop only."""

    def __init__(self, targets: Sequence[str]) -> None:
        self._targets = tuple(targets)
        self._asking: asyncio.Task[bool] | None = None
        self._asked_at = 0.0
        self._silent: set[str] = set()
        self._trusted_since = float("inf")  # nothing is known of a network that was never asked

    async def alive(self, since: float = float("inf")) -> bool:
        """Whether any canary answers an attempt that starts now; True when there are none.

        And whether our network has been fine from `since` on (monotonic), as far as we know: what a check sent before
        that may have been lost, though its time runs out only when the network is back.
        """
        if not self._targets:
            return True
        loop = asyncio.get_running_loop()
        if self._asking is None or self._asking.done() or loop.time() - self._asked_at > _SAME_MOMENT_S:
            self._asking, self._asked_at = loop.create_task(self._ask()), loop.time()
        return await asyncio.shield(self._asking) and self._trusted_since <= since

    async def _ask(self) -> bool:
        began_s = time.monotonic()
        answers = await self._anybody()
        if not answers:
            self._trusted_since = float("inf")
        elif self._trusted_since == float("inf"):
            self._trusted_since = began_s
        return answers

    async def _anybody(self) -> bool:
        attempts = [asyncio.create_task(self._try(target)) for target in self._targets]
        try:
            for attempt in asyncio.as_completed(attempts, timeout=PATIENCE_S):
                if await attempt:
                    return True
        except TimeoutError:
            for target, task in zip(self._targets, attempts, strict=True):
                if not task.done():
                    self._note(target, answers=False)
            return False
        finally:
            for task in attempts:
                task.cancel()
        return False

    async def _try(self, target: str) -> bool:
        answers = await _reach(target)
        self._note(target, answers=answers)
        return answers

    def _note(self, target: str, *, answers: bool) -> None:
        """Say once that a canary is silent: with a dead or mistyped one no failed network is ever told."""
        if answers and target in self._silent:
            self._silent.discard(target)
            log.get_logger().info("canary_answers_again", canary=target)
        elif not answers and target not in self._silent:
            self._silent.add(target)
            log.get_logger().warning("canary_silent", canary=target, judged="network failures are unknown, not down")


async def _reach(target: str) -> bool:
    host, _, port = target.rpartition(":")
    try:
        _, writer = await asyncio.open_connection(host.strip("[]"), int(port))
    except OSError:
        return False
    writer.close()
    return True

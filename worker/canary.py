"""Canaries: places that are reachable unless our own network is broken, asked in doubt until one of them answers."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Sequence

from common import log, telemetry

#: A network-class failure waits at most so long for a canary's answer (seconds).
PATIENCE_S = 1.0
#: Failures this close together share an attempt (seconds); an older one may still show the network of before.
_SAME_MOMENT_S = 0.1
#: While none answers, they are asked so often (seconds).
_ASK_AGAIN_S = 1.0
_NEVER = float("inf")


class Canary:
    """Connects to the operator's canaries; failures at the same moment share one attempt. Event loop only."""

    def __init__(self, targets: Sequence[str]) -> None:
        self._targets = tuple(targets)
        self._names = _Names()
        self._asking: asyncio.Task[bool] | None = None
        self._asked_at = 0.0
        self._silent: set[str] = set()
        self._trusted_since = _NEVER  # nothing is known of a network that was never asked
        self._answered_at = -_NEVER  # the newest beginning of an attempt that was answered
        self._seeking: asyncio.Task[None] | None = None

    async def alive(self, since: float = _NEVER) -> bool:
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
        if answers:
            self._answered_at = max(self._answered_at, began_s)
            if self._trusted_since == _NEVER:
                self._trusted_since = began_s
        elif self._answered_at > began_s:
            # One that began later has been answered: it was a moment, and it is over.
            self._trusted_since = max(self._trusted_since, self._answered_at)
        else:
            self._trusted_since = _NEVER
            self._seek()
        telemetry.CANARIES_SILENT.set(self._trusted_since == _NEVER)
        return answers

    def _seek(self) -> None:
        """Ask on: who waits for the next failure to ask would not believe that one either, however long it is over."""
        if self._seeking is None or self._seeking.done():
            self._seeking = asyncio.get_running_loop().create_task(self._until_answered())

    async def _until_answered(self) -> None:
        while self._trusted_since == _NEVER:
            await asyncio.sleep(_ASK_AGAIN_S)
            await self.alive()

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
        answers = await _reach(target, self._names)
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


class _Names:
    """One look-up of a name at a time: the system's cannot be given up, and while there is no network they are slow.

    Hundreds of them would stand in line before the one that is asked for when it is back. No cache: a canary's name is
    there to find out whether names can be found.
    """

    def __init__(self) -> None:
        self._under_way: dict[str, asyncio.Task[list[str]]] = {}

    async def addresses(self, host: str) -> list[str]:
        """Where it is. Raises OSError."""
        query = self._under_way.get(host)
        if query is None or query.done():
            query = self._under_way[host] = asyncio.get_running_loop().create_task(_look_up(host))
            # Whoever asked may have given up.
            query.add_done_callback(lambda done: done.cancelled() or done.exception())
        return await asyncio.shield(query)


async def _look_up(host: str) -> list[str]:
    found = await asyncio.get_running_loop().getaddrinfo(host, None, type=socket.SOCK_STREAM)
    return [str(address[0]) for *_, address in found]


async def _reach(target: str, names: _Names) -> bool:
    host, _, port = target.rpartition(":")
    try:
        for address in await names.addresses(host.strip("[]")):
            if await _connects(address, int(port)):
                return True
    except OSError:
        pass
    return False


async def _connects(address: str, port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection(address, port)
    except OSError:
        return False
    writer.close()
    return True

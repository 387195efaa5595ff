"""Several requests for one message, where the receiver takes one event at a time; one attempt in the end.

The receiver folds repeated events by the incident's id, so a message of which a part arrived is simply sent again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from common.channels.base import Context
from common.channels.http import judge
from common.clock import monotonic_s
from common.domain.delivery import SEND_DEADLINE_S, Attempt, Outcome
from common.http.exchange import HttpRequest

#: Requests under way for one message.
_LANES = 8

#: Which of several outcomes decides: what may yet succeed is tried again before anything is given up.
_WORST = (Outcome.UNKNOWN, Outcome.FAILED, Outcome.REJECTED, Outcome.DELIVERED)


async def send_each(
    bodies: Sequence[tuple[str, bytes]], request: Callable[[bytes, float], HttpRequest], context: Context
) -> Attempt:
    """Send (incident id, body) pairs: those of one incident in order, different incidents side by side."""
    deadline = monotonic_s() + SEND_DEADLINE_S
    if len(bodies) == 1:
        return await _send(request(bodies[0][1], SEND_DEADLINE_S), context)
    lanes: dict[str, list[bytes]] = {}
    for incident_id, body in bodies:
        lanes.setdefault(incident_id, []).append(body)
    free = asyncio.Semaphore(_LANES)

    async def run(lane: list[bytes]) -> list[Attempt]:
        attempts: list[Attempt] = []
        async with free:
            for body in lane:
                left_s = deadline - monotonic_s()
                if left_s <= 0:
                    attempts.append(Attempt(Outcome.FAILED, error="timeout: not all events could be sent in time"))
                    break
                attempts.append(await _send(request(body, left_s), context))
                if attempts[-1].outcome is not Outcome.DELIVERED:
                    # What comes after it in the incident must not overtake it.
                    break
        return attempts

    found = [attempt for lane in await asyncio.gather(*map(run, lanes.values())) for attempt in lane]
    return _together(found)


async def _send(request: HttpRequest, context: Context) -> Attempt:
    return judge(await context.http.send(request), request, context.now())


def _together(attempts: list[Attempt]) -> Attempt:
    worst = min(attempts, key=lambda attempt: _WORST.index(attempt.outcome))
    if worst.outcome is Outcome.DELIVERED:
        return worst
    count = sum(attempt.outcome is worst.outcome for attempt in attempts)
    waits = [attempt.retry_after_s for attempt in attempts if attempt.retry_after_s is not None]
    return Attempt(
        worst.outcome,
        worst.status_code,
        f"{count} of {len(attempts)} events: {worst.error}",
        retry_after_s=max(waits, default=None),
        gone=any(attempt.gone for attempt in attempts),
    )

"""Test messages: sent by this process through the channel's own way, one at a time per channel, few at once."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable
from datetime import datetime
from typing import Any
from uuid import uuid4

from common.channels.base import Context, Destination, Event, Message, Unsendable
from common.channels.registry import CHANNELS
from common.clock import monotonic_s
from common.domain.delivery import Attempt, Outcome
from common.domain.errors import Throttled

#: A request waits for it, so it gives up sooner than a delivery does.
_DEADLINE_S = 10.0
#: Between two tests of one channel.
_PAUSE_S = 5.0
#: Each holds one of the API's threads.
_AT_ONCE = 2

_TITLE = "Test message"
_TEXT = "Somebody tries this channel. Nothing is wrong."


class Trials:
    """Sends test messages on an event loop of its own, which starts with the first one."""

    def __init__(self, open_context: Callable[[], Context], monotonic: Callable[[], float] = monotonic_s) -> None:
        self._open_context = open_context
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._room = threading.BoundedSemaphore(_AT_ONCE)
        self._began: dict[str, float] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._context: Context | None = None

    def run(self, type_: str, org_id: str, destination: Destination) -> dict[str, Any]:
        """{"delivered", "status_code", "detail"} of a test message. Raises Throttled."""
        self._take_turn(destination.channel_id)
        if not self._room.acquire(blocking=False):
            raise Throttled("Other channels are being tested right now.", retry_after_s=int(_DEADLINE_S))
        try:
            attempt = asyncio.run_coroutine_threadsafe(self._try(type_, org_id, destination), self._started()).result()
        finally:
            self._room.release()
        return {
            "delivered": attempt.outcome is Outcome.DELIVERED,
            "status_code": attempt.status_code,
            "detail": attempt.error,
        }

    def _take_turn(self, channel_id: str) -> None:
        now = self._monotonic()
        with self._lock:
            self._began = {key: began for key, began in self._began.items() if now - began < _PAUSE_S}
            if channel_id in self._began:
                raise Throttled("This channel was tested a moment ago.", retry_after_s=int(_PAUSE_S))
            self._began[channel_id] = now

    def _started(self) -> asyncio.AbstractEventLoop:
        with self._lock:
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                threading.Thread(target=self._loop.run_forever, name="trials", daemon=True).start()
            return self._loop

    async def _try(self, type_: str, org_id: str, destination: Destination) -> Attempt:
        if self._context is None:
            self._context = self._open_context()
        channel, context = CHANNELS[type_], self._context
        incident_id, now = str(uuid4()), context.now()
        messages = [_message("test", incident_id, org_id, now)]
        if channel.keeps_incidents:
            # What the test opened there must not stay open.
            messages.append(_message("resolved", incident_id, org_id, now))
        try:
            async with asyncio.timeout(_DEADLINE_S):
                for message in messages:
                    attempt = await channel.send(message, destination, context)
                    if attempt.outcome is not Outcome.DELIVERED:
                        break
                return attempt
        except Unsendable as error:
            return Attempt(Outcome.REJECTED, error=error.message, poison=error.poison)
        except TimeoutError:
            return Attempt(Outcome.UNKNOWN, error=f"timeout: no end within {_DEADLINE_S:g} s")


def _message(event_type: str, incident_id: str, org_id: str, now: datetime) -> Message:
    incident: dict[str, Any] = {
        "id": incident_id,
        "monitor_id": None,
        "source": "tocsin",
        "dedup_key": f"test:{incident_id}",
        "title": _TITLE,
        "description": _TEXT,
        "severity": "info",
        "priority": "P3",
        "status": "resolved" if event_type == "resolved" else "open",
        "opened_at": now.isoformat(),
        "resolved_at": now.isoformat() if event_type == "resolved" else None,
        "cause": {},
        "labels": {},
    }
    body = {
        "type": f"incident.{event_type}",
        "timestamp": now.isoformat(),
        "data": {"incident": incident, "monitor": None},
        "v": 1,
    }
    return Message(str(uuid4()), org_id, now, "", json.dumps(body).encode(), (Event(event_type, now, incident, None),))

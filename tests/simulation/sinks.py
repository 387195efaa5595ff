"""The receivers of webhooks: they take, refuse, fail, hang or swallow, and remember every request."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass

from common.domain.checks import Reason
from common.http.exchange import HttpExchange, HttpRequest
from tests.simulation.engine import Simulator

#: The deadline of one attempt, shortened as the lease is (see `run`).
DEADLINE_S = 8.0

_STATUS = {"ok": 200, "500": 500, "429": 429, "400": 400, "410": 410}


@dataclass(frozen=True, slots=True)
class Receipt:
    """One event of a request that a receiver took, whether or not its answer arrived.

    `late`: sent long after it was claimed.
    """

    at: float
    channel: str
    webhook_id: str
    incident: str
    version: int
    late: bool


class Sinks:
    """One receiver per channel; `mood` says how it answers now."""

    def __init__(self, sim: Simulator, channels: list[str]) -> None:
        self.sim = sim
        self.mood = dict.fromkeys(channels, "ok")
        self.receipts: list[Receipt] = []
        self.refused: set[str] = set()
        self.on_receipt: Callable[[Receipt], None] = lambda _receipt: None

    def receive(self, channel: str, request: HttpRequest, *, late: bool) -> tuple[float, HttpExchange]:
        """A request that leaves now: after how long the sender knows, and what. The receiver acts on its way."""
        rng = self.sim.rng
        latency = rng.uniform(0.01, 0.3)
        mood = self.mood[channel]
        if mood == "refuse":
            return latency, HttpExchange(reason=Reason.CONNECT_REFUSED, message="refused")
        taken = mood in ("ok", "swallow") or (mood == "hang" and rng.random() < 0.5)
        self.sim.at(self.sim.now + latency / 2, self._note, channel, request, late, taken)
        if mood == "hang":
            return DEADLINE_S, HttpExchange(reason=Reason.TIMEOUT, message="no answer")
        if mood == "swallow":
            return latency, HttpExchange(reason=Reason.CONNECTION_RESET, message="reset")
        header = [b"Retry-After: 3"] if mood == "429" else []
        return latency, HttpExchange(status=_STATUS[mood], header_lines=header)

    def _note(self, channel: str, request: HttpRequest, late: bool, taken: bool) -> None:
        webhook_id = dict(request.headers)["webhook-id"]
        if not taken:
            self.refused.add(webhook_id)
            return
        data = json.loads(request.body or b"")["data"]
        for entry in data.get("incidents") or [data]:
            incident = entry["incident"]
            receipt = Receipt(self.sim.now, channel, webhook_id, incident["id"], incident["version"], late)
            self.receipts.append(receipt)
            if self.sim.trace is not None:
                self.sim.say(channel, f"took incident {incident['no']} v{incident['version']} {incident['status']}")
            self.on_receipt(receipt)

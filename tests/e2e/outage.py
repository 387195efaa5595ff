"""Outages as a user lives through them, and the proof that each was told exactly once."""

from __future__ import annotations

from typing import Any

from standardwebhooks import Webhook

from tests.e2e.endpoint import Endpoint
from tests.e2e.stack import Stack, wait_for
from tests.sink import Received, Sink


class Watch:
    """An organization of a stack, its monitors on one endpoint, its webhooks in one sink."""

    def __init__(self, stack: Stack, endpoint: Endpoint, sink: Sink, path: str = "/hook") -> None:
        self.stack, self.endpoint, self.sink, self.path = stack, endpoint, sink, path
        self.api = stack.api()
        channel = {"type": "webhook", "name": path, "config": {"url": sink.url(path)}, "is_default": True}
        self.channel = self.api.post("/channels", channel)
        self.verifier = Webhook(self.channel["secret"])
        self.bystander = self.monitor("bystander")

    def close(self) -> None:
        """Who comes next wants to hear of their own monitors only."""
        self.api.call("DELETE", f"/channels/{self.channel['id']}")

    def monitor(self, name: str, **fields: Any) -> str:
        """A monitor on a path of its own, once it is up; its id."""
        monitor_id = self.api.add_monitor(self.endpoint.url(f"/{name}"), name=name, **fields)
        self.api.await_state(monitor_id, "up")
        return monitor_id

    def webhooks(self, monitor_id: str) -> list[Received]:
        """What the sink accepted about a monitor, in order of arrival."""
        return [hook for hook in self.hooks() if hook.json["data"]["monitor"]["id"] == monitor_id]

    def told(self, monitor_id: str) -> list[Received]:
        """The same as a receiver takes it who knows a repetition by its id."""
        first: dict[str, Received] = {}
        for hook in self.webhooks(monitor_id):
            first.setdefault(_header(hook, "webhook-id"), hook)
        return list(first.values())

    def hooks(self) -> list[Received]:
        """What this watch's channel delivered."""
        return self.sink.accepted(self.path)

    def await_webhooks(self, monitor_id: str, count: int, timeout_s: float = 90.0) -> list[Received]:
        wait_for(lambda: len(self.told(monitor_id)) >= count, f"webhook {count} of {monitor_id}", timeout_s)
        return self.webhooks(monitor_id)

    def breaks(self, name: str) -> None:
        self.endpoint.breaks(f"/{name}")

    def mends(self, name: str) -> None:
        self.endpoint.mends(f"/{name}")

    def assert_told_once(
        self, monitor_id: str, types: tuple[str, ...] = ("opened", "resolved"), *, may_repeat: bool = False
    ) -> dict[str, Any]:
        """One incident, one webhook for each event, in order, signed, all carrying their check's id; the incident.

        `may_repeat`: under the same id, where who sends was killed while it may have been sending.
        """
        (incident,) = self.api.incidents(monitor_id)
        events = self.api.items(f"/incidents/{incident['id']}/events")
        hooks = self.told(monitor_id) if may_repeat else self.webhooks(monitor_id)
        assert [event["type"] for event in events] == list(types)
        assert [hook.type for hook in hooks] == list(types)
        assert len({_header(hook, "webhook-id") for hook in hooks}) == len(types)
        for hook in hooks:
            headers = {name.lower(): value for name, value in hook.headers.items()}
            assert self.verifier.verify(hook.body, headers)["data"]["incident"]["id"] == incident["id"]
        self._assert_correlated(monitor_id, incident["id"], hooks)
        return dict(incident)

    def _assert_correlated(self, monitor_id: str, incident_id: str, hooks: list[Received]) -> None:
        """One id leads from the check's result over the event to the webhook."""
        query = "SELECT correlation_id FROM incident_events WHERE incident_id = %s ORDER BY version"
        correlations = [row[0] for row in self.stack.sql(query, incident_id)]
        assert [_header(hook, "traceparent").split("-")[1] for hook in hooks] == correlations
        checks = {result["trace_id"] for result in self.api.items(f"/monitors/{monitor_id}/results?limit=500")}
        assert set(correlations) <= checks

    def assert_bystander_unharmed(self) -> None:
        """The monitor whose target never failed has no incident."""
        assert self.api.incidents(self.bystander) == []
        assert self.webhooks(self.bystander) == []


def _header(hook: Received, name: str) -> str:
    return next(value for key, value in hook.headers.items() if key.lower() == name)

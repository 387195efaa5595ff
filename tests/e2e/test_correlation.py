"""From a request to the notification and back: by log lines at the default level and by the API's answers alone."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from tests.e2e.endpoint import Endpoint
from tests.e2e.outage import Watch
from tests.e2e.stack import Api, Stack, running, wait_for
from tests.sink import Received, Sink

Line = dict[str, Any]

CREATED, CHANGED, CHECKED = "rid-created", "rid-changed", "rid-checked"


def lines(stack: Stack, event: str, **values: Any) -> list[Line]:
    """Lines of the stack's log with this event and these values, in the order of their writing."""
    found = []
    # Not the last one if somebody is still writing it.
    for text in stack.log.read_text().rpartition("\n")[0].splitlines():
        line = json.loads(text) if text.startswith("{") else {}
        if line.get("event") == event and values.items() <= line.items():
            found.append(line)
    return found


def the_line(stack: Stack, event: str, **values: Any) -> Line:
    """The only such line, as soon as it is there."""
    (line,) = wait_for(lambda: lines(stack, event, **values), f"{event} {values}")
    return dict(line)


@dataclass
class Outage:
    """One monitor, made and changed by requests with ids of their own, that failed and recovered."""

    stack: Stack
    api: Api
    monitor_id: str = ""
    incident: dict[str, Any] = field(default_factory=dict)
    check_id: str = ""
    webhooks: list[Received] = field(default_factory=list)

    def live_through(self, endpoint: Endpoint, sink: Sink) -> None:
        """Everything that a user does and sees."""
        self.api.post("/channels", {"type": "webhook", "name": "here", "config": {"url": sink.url("/correlation")}})
        target = endpoint.url("/correlated")
        self.monitor_id = self._asking(CREATED, "POST", "/monitors", _monitor(target))["id"]
        path = f"/monitors/{self.monitor_id}"
        self._asking(CHANGED, "PATCH", path, {"failure_threshold": 3})
        self.api.await_state(self.monitor_id, "up")
        self.check_id = self._asking(CHECKED, "POST", f"{path}/check")["check_id"]
        self.result(self.check_id)
        endpoint.breaks("/correlated")
        self.incident = self.api.await_incident(self.monitor_id, "open")
        wait_for(lambda: sink.accepted("/correlation"), "a webhook")
        endpoint.mends("/correlated")
        self.webhooks = wait_for(lambda: len(got := sink.accepted("/correlation")) == 2 and got, "two webhooks")

    def result(self, trace_id: str) -> dict[str, Any]:
        """The result with this id, as the API shows it."""

        def found() -> list[dict[str, Any]]:
            results = self.api.items(f"/monitors/{self.monitor_id}/results?limit=500")
            return [result for result in results if result["trace_id"] == trace_id]

        (result,) = wait_for(found, f"result {trace_id}")
        return dict(result)

    def _asking(self, request_id: str, method: str, path: str, body: Any = None) -> Any:
        self.api.session.headers["X-Request-ID"] = request_id
        try:
            return self.api.call(method, path, body)
        finally:
            del self.api.session.headers["X-Request-ID"]


def _monitor(target: str) -> dict[str, Any]:
    return {"type": "http", "name": "shop", "target": target, "interval_seconds": 1, "retry_interval_seconds": 1}


@pytest.fixture(scope="module")
def outage(endpoint: Endpoint, sink: Sink) -> Iterator[Outage]:
    with running(TOCSIN_LOG_LEVEL="info") as stack:
        outage = Outage(stack, stack.api())
        outage.live_through(endpoint, sink)
        yield outage


def test_from_the_request_to_the_notification(outage: Outage) -> None:
    stack = outage.stack
    monitor_id = the_line(stack, "monitor_changed", request_id=CHANGED)["monitor_id"]
    assert monitor_id == outage.monitor_id

    opened = the_line(stack, "incident_changed", monitor_id=monitor_id, change="opened")
    assert opened["incident_id"] == outage.incident["id"]
    assert len(opened["batch_id"]) == 16
    result = outage.result(opened["correlation_id"])
    assert (result["scheduled_at"], result["reason"]) == (opened["scheduled_at"], "status_mismatch")

    def both_sent() -> list[Line]:  # a line is written after the receiver's answer is committed
        sent = lines(stack, "notification_sent", incident_id=opened["incident_id"])
        return sent if len(sent) == len(outage.webhooks) else []

    sent = wait_for(both_sent, "a line for each webhook")
    assert sent[0]["correlation_id"] == opened["correlation_id"]
    traces = [hook.headers["traceparent"].split("-")[1] for hook in outage.webhooks]
    assert traces == [line["correlation_id"] for line in sent]


def test_from_the_notification_back_to_the_request(outage: Outage) -> None:
    stack = outage.stack
    resolved = outage.webhooks[1].headers["traceparent"].split("-")[1]
    sent = the_line(stack, "notification_sent", correlation_id=resolved)
    changed = the_line(stack, "incident_changed", correlation_id=sent["correlation_id"])
    assert (changed["change"], changed["incident_id"]) == ("resolved", sent["incident_id"])
    assert outage.result(resolved)["verdict"] == "up"
    probed_by = {name: changed[name] for name in ("monitor_id", "config_version")}
    assert the_line(stack, "monitor_changed", **probed_by)["request_id"] == CHANGED
    made = the_line(stack, "monitor_created", monitor_id=changed["monitor_id"])
    assert (made["request_id"], made["config_version"]) == (CREATED, 1)
    assert made["actor"].startswith("api-key:")


def test_the_first_of_several_failures_has_a_line_with_its_batch(outage: Outage) -> None:
    opened = the_line(outage.stack, "incident_changed", monitor_id=outage.monitor_id, change="opened")
    failed = wait_for(lambda: lines(outage.stack, "check_failed", monitor_id=outage.monitor_id), "its first failure")[0]
    assert failed["batch_id"] != opened["batch_id"]  # a later one decided
    result = outage.result(failed["correlation_id"])
    assert result["scheduled_at"] == failed["scheduled_at"] < opened["scheduled_at"]
    assert (result["verdict"], result["reason"]) == (failed["verdict"], failed["reason"])


def test_a_check_by_hand_leads_from_the_request_to_its_result(outage: Outage) -> None:
    asked = the_line(outage.stack, "check_requested", request_id=CHECKED)
    assert (asked["monitor_id"], asked["batch_id"]) == (outage.monitor_id, CHECKED)
    assert asked["correlation_id"] == outage.check_id
    assert outage.result(outage.check_id)["verdict"] == "up"
    assert the_line(outage.stack, "request", request_id=CHECKED)["monitor_id"] == outage.monitor_id


def test_healthy_checks_have_no_lines(outage: Outage) -> None:
    for event in ("batch_dispatched", "batch_started", "timing_loaded"):
        assert lines(outage.stack, event) == []
    # Lines are written after what they tell of is committed.
    the_line(outage.stack, "check_requested", request_id=CHECKED)
    the_line(outage.stack, "incident_changed", monitor_id=outage.monitor_id, change="resolved")
    results = outage.api.items(f"/monitors/{outage.monitor_id}/results?limit=500")
    up = [result for result in results if result["verdict"] == "up"]
    text = outage.stack.log.read_text()
    told = [result for result in up if result["trace_id"] in text]
    # Of all that went well: the one that resolved the incident and the one that was asked for.
    assert len(up) > len(told) == 2


def test_at_debug_every_batch_lists_its_checks_where_it_is_sent_and_where_it_is_probed(watch: Watch) -> None:
    monitor_id = watch.monitor("listed")
    trace_id = watch.api.items(f"/monitors/{monitor_id}/results")[-1]["trace_id"]

    def of_the_check() -> list[Line]:
        return [line for line in lines(watch.stack, "batch_started") if trace_id in [each[2] for each in line["due"]]]

    started, *_ = wait_for(of_the_check, f"the batch of {trace_id}")  # a second one where it moved to the slow lane
    at_ms = next(each[1] for each in started["due"] if each[2] == trace_id)
    # Several may be written: the scheduler reads a change until every transaction beside it has ended.
    loaded = wait_for(lambda: lines(watch.stack, "timing_loaded", monitor_id=monitor_id), "its timing")[0]
    sent = the_line(watch.stack, "batch_dispatched", batch_id=started["batch_id"])
    assert [loaded["monitor_no"], loaded["config_version"], at_ms] in sent["due"]

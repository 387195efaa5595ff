"""The outage and the recovery: set up, follow each step until its webhook is there, then judge the whole."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from standardwebhooks import Webhook
from standardwebhooks.webhooks import WebhookVerificationError

from common.demo.api import Api, Away, DemoFailed
from common.demo.stage import Request, Stage
from common.demo.timeline import Act, Timeline, Times, milliseconds

INTERVAL_S = 5
RETRY_S = 1
FAILURE_THRESHOLD = 2

OUTAGE = Act(
    "outage", "the endpoint breaks", "✗", "red", 503, "check failed", FAILURE_THRESHOLD, "open", "incident.opened"
)
RECOVERY = Act(
    "recovery", "the endpoint is mended", "✓", "green", 200, "check succeeded", 1, "resolved", "incident.resolved"
)

_STEP_WITHIN_S = 30.0
_AWAY_FOR_S = 5.0  # an API process that starts again is back before that
_STRAYS_S = 1.5  # how long we wait for a webhook too many
_LAST_CHECK_S = 0.3  # a check that was under way when its monitor was deleted has stored its result by then


class Play:
    """One performance, through the API of an organization of its own."""

    def __init__(self, api: Api, stage: Stage, story: Timeline) -> None:
        self._api = api
        self._stage = stage
        self._story = story
        self._webhooks: list[Request] = []

    def run(self) -> None:
        """All of it. Raises DemoFailed and StackError."""
        try:
            verifier = self._add_channel()
            with self._monitor() as monitor_id:
                self._await_up(monitor_id)
                acts = [(act, self._follow(act, verifier)) for act in (OUTAGE, RECOVERY)]
                time.sleep(_STRAYS_S)
                self._judge()
        except Away:
            raise DemoFailed("the stack stopped answering") from None
        self._story.figures(acts)

    def _add_channel(self) -> Webhook:
        url = self._stage.hook_url
        channel = self._api.post("/v1/channels", {"type": "webhook", "name": "demo", "config": {"url": url}})
        self._story.fact("channel", url, "signed webhooks")
        return Webhook(channel["secret"])

    @contextmanager
    def _monitor(self) -> Iterator[str]:
        body = {
            "type": "http",
            "name": "Demo shop",
            "target": self._stage.endpoint_url,
            "interval_seconds": INTERVAL_S,
            "retry_interval_seconds": RETRY_S,
            "failure_threshold": FAILURE_THRESHOLD,
        }
        monitor_id = self._api.post("/v1/monitors", body)["id"]
        note = f"every {INTERVAL_S} s, confirmed after {RETRY_S} s"
        self._story.fact("monitor", self._stage.endpoint_url, note)
        try:
            yield monitor_id
        finally:
            with suppress(Away, DemoFailed):
                self._api.delete(f"/v1/monitors/{monitor_id}")
                time.sleep(_LAST_CHECK_S)

    def _await_up(self, monitor_id: str) -> None:
        began = time.monotonic()
        path = f"/v1/monitors/{monitor_id}"
        _until("the monitor's first check", lambda: bool(self._api.get(path)["state"]["status"] == "up"))
        self._story.fact("up", milliseconds(time.monotonic() - began), "after the monitor was created")

    def _follow(self, act: Act, verifier: Webhook) -> Times:
        """Play an act and tell what follows, until incident and webhook are there."""
        self._story.turn(act)
        times = Times(began=time.monotonic())
        self._stage.status = act.http_status
        _until(f"the {act.name}'s incident", lambda: self._sees_incident(act, times))
        _until(f"the {act.name}'s webhook", lambda: bool(self._stage.webhooks))
        self._take_webhook(act, times, verifier)
        return times

    def _sees_incident(self, act: Act, times: Times) -> bool:
        found = [i for i in self._api.get("/v1/incidents")["data"] if i["status"] == act.incident_status]
        self._tell_checks(act, times)
        if not found:
            return False
        webhooks = self._stage.webhooks
        # Where the webhook came while we asked the API, the incident was there before it.
        times.incident = min(time.monotonic(), webhooks[0].at) if webhooks else time.monotonic()
        note = f"“{found[0]['title']}”, {found[0]['severity']}, {found[0]['priority']}"
        self._story.event(times.incident - times.began, act.webhook_type.replace(".", " "), note)
        return True

    def _tell_checks(self, act: Act, times: Times) -> None:
        checks = self._stage.checks
        while checks:
            check = checks.popleft()
            if check.status == act.http_status and check.at >= times.began and len(times.checks) < act.checks:
                times.checks.append(check.at)
                self._story.event(check.at - times.began, act.check, f"{len(times.checks)} of {act.checks}")

    def _take_webhook(self, act: Act, times: Times, verifier: Webhook) -> None:
        webhook = self._stage.webhooks.popleft()
        self._webhooks.append(webhook)
        times.webhook = webhook.at
        try:
            type_ = verifier.verify(webhook.body, webhook.headers)["type"]
        except WebhookVerificationError as error:
            raise DemoFailed(f"the webhook's signature is not valid: {error}") from None
        if type_ != act.webhook_type:
            raise DemoFailed(f"the webhook says {type_} instead of {act.webhook_type}")
        self._story.event(webhook.at - times.began, "webhook received", f"{type_}, signature valid")

    def _judge(self) -> None:
        """Everything is there once, and only once."""
        incidents = [incident["id"] for incident in self._api.get("/v1/incidents")["data"]]
        webhooks = [*self._webhooks, *self._stage.webhooks]
        ids = {webhook.headers["webhook-id"] for webhook in webhooks}
        told: set[Any] = {json.loads(webhook.body)["data"]["incident"]["id"] for webhook in webhooks}
        if len(webhooks) != 2 or len(ids) != 2:
            raise DemoFailed(f"{len(webhooks)} webhooks with {len(ids)} ids arrived instead of 2")
        if len(incidents) != 1:
            raise DemoFailed(f"there are {len(incidents)} incidents instead of 1")
        if told != set(incidents):
            raise DemoFailed("the webhooks tell of another incident than the API")


def _until(what: str, is_there: Callable[[], bool]) -> None:
    """Wait for something. The API may be away for a moment, not longer."""
    answered = time.monotonic()
    deadline = answered + _STEP_WITHIN_S
    while time.monotonic() < deadline:
        try:
            if is_there():
                return
            answered = time.monotonic()
        except Away:
            if time.monotonic() - answered > _AWAY_FOR_S:
                raise
        time.sleep(0.01)
    raise DemoFailed(f"{what} did not come within {_STEP_WITHIN_S:.0f} s")

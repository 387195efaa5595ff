"""A client of the HTTP API: `with Client("https://tocsin.example", "tcs_…") as client: client.create_monitor(…)`.

Answers are the API's JSON, typed in `common.client_types`; every failure is a ClientError of `common.client_errors`.
What creates sends an Idempotency-Key of its own, so it may be repeated without making a second one; lists are iterators
that fetch page after page.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from types import TracebackType
from typing import Any, Literal, Self, Unpack, cast
from urllib.parse import quote
from uuid import uuid4

from common.client_errors import Foreign
from common.client_types import (
    Bulk,
    CheckNow,
    Event,
    Export,
    Heartbeat,
    Incident,
    IncidentFilters,
    Json,
    Maintenance,
    Me,
    Monitor,
    MonitorFilters,
    Notification,
    NotificationFilters,
    Plan,
    Probe,
    Redelivery,
    RedeliveryFilters,
    Result,
    Switched,
    Tokens,
)
from common.client_wire import ANSWER_TIMEOUT_S, Call, Patience, Wire

#: As many as the API gives at once.
PAGE = 500

#: For answers about many monitors.
_LONG_S = 120.0
#: A probe may take a minute by itself.
_PROBE_WITHIN_S = 90.0

_PATIENCE = Patience()


class Client:
    """One API with one caller. `renew` gets an access token that was refused and may return a fresh one."""

    def __init__(
        self,
        url: str,
        token: str = "",
        *,
        renew: Callable[[str], str | None] | None = None,
        patience: Patience = _PATIENCE,
    ) -> None:
        self._wire = Wire(url, token, patience=patience, renew=renew)

    def __repr__(self) -> str:
        return f"Client({self.url!r})"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._wire.__exit__(kind, error, trace)

    @property
    def url(self) -> str:
        """The API's base."""
        return self._wire.url

    # Sessions

    def login(self, email: str, password: str, *, organization_id: str | None = None) -> Tokens:
        """Open a session. The client itself goes on with the token it has."""
        body = {"email": email, "password": password}
        if organization_id is not None:
            body["organization_id"] = organization_id
        return cast("Tokens", self._wire.send(Call("POST", "/v1/auth/login", body=body, token="")))

    def refresh(self, refresh_token: str) -> Tokens:
        """The next tokens of a session; the one that is given is used up."""
        return cast("Tokens", self._wire.send(Call("POST", "/v1/auth/refresh", token=refresh_token)))

    def logout(self, token: str) -> None:
        """End the session of this access or refresh token."""
        self._wire.send(Call("POST", "/v1/auth/logout", token=token))

    def me(self) -> Me:
        """Who is calling."""
        return cast("Me", self._get("/v1/auth/me"))

    # Monitors

    def monitors(self, *, page: int = PAGE, **filters: Unpack[MonitorFilters]) -> Iterator[Monitor]:
        """All monitors that pass the filters; `fields` limits what each holds."""
        query: Json = dict(filters)
        if "fields" in query:
            query["fields"] = ",".join(query["fields"])
        return cast("Iterator[Monitor]", self._pages("/v1/monitors", query, page))

    def monitor(self, monitor_id: str) -> Monitor:
        """One monitor with its state."""
        return cast("Monitor", self._get(_monitor(monitor_id)))

    def heartbeat(self, monitor_id: str) -> Heartbeat:
        """What a heartbeat is pinged by, and when it is expected."""
        return cast("Heartbeat", self._get(f"{_monitor(monitor_id)}/heartbeat"))

    def create_monitor(self, monitor: Json) -> Monitor:
        """Watch something new."""
        return cast("Monitor", self._create("/v1/monitors", monitor))

    def put_monitor(self, key: str, monitor: Json) -> Monitor:
        """Make the monitor with this key exactly so, new or not."""
        return cast(
            "Monitor", self._wire.send(Call("PUT", f"/v1/monitors/by-key/{_part(key)}", body=monitor, repeatable=True))
        )

    def change_monitor(self, monitor_id: str, patch: Json) -> Monitor:
        """Change some fields: JSON Merge Patch."""
        return cast("Monitor", self._wire.send(Call("PATCH", _monitor(monitor_id), body=patch)))

    def delete_monitor(self, monitor_id: str) -> None:
        """Stop watching."""
        self._wire.send(Call("DELETE", _monitor(monitor_id)))

    def pause_monitor(self, monitor_id: str) -> Monitor:
        """Check no more."""
        return cast("Monitor", self._act(f"{_monitor(monitor_id)}/pause"))

    def resume_monitor(self, monitor_id: str) -> Monitor:
        """Check again."""
        return cast("Monitor", self._act(f"{_monitor(monitor_id)}/resume"))

    def switch_monitors(
        self, action: Literal["pause", "resume"], *, ids: Sequence[str] = (), labels: dict[str, str] | None = None
    ) -> Switched:
        """Pause or resume many: those with these ids, or with all these labels."""
        body: Json = {"labels": labels} if labels else {"ids": list(ids)}
        return cast("Switched", self._act(f"/v1/monitors/{action}", body))

    def check_monitor(self, monitor_id: str) -> CheckNow:
        """Have it checked now, outside of its schedule."""
        return cast("CheckNow", self._wire.send(Call("POST", f"{_monitor(monitor_id)}/check")))

    def results(self, monitor_id: str, *, verdict: Sequence[str] = (), page: int = PAGE) -> Iterator[Result]:
        """What its checks found, newest first."""
        query = {"verdict": list(verdict)} if verdict else {}
        return cast("Iterator[Result]", self._pages(f"{_monitor(monitor_id)}/results", query, page))

    def create_monitors(self, monitors: Sequence[Json], *, mode: Literal["all", "each"] = "all") -> Bulk:
        """Create up to 1,000 at once: all of them or none, or each by itself."""
        body = {"monitors": list(monitors), "mode": mode}
        return cast("Bulk", self._create("/v1/monitors/bulk", body, timeout_s=_LONG_S))

    def probe(self, probe: Json) -> Probe:
        """Probe a target once, without a monitor."""
        return cast("Probe", self._wire.send(Call("POST", "/v1/probes", body=probe, timeout_s=_PROBE_WITHIN_S)))

    # Desired sets

    def plan(self, monitors: Sequence[Json], *, labels: dict[str, str] | None = None, prune: bool = False) -> Plan:
        """What applying this set would change. Changes nothing."""
        call = Call("POST", "/v1/monitors/plan", body=_desired(monitors, labels, prune=prune), timeout_s=_LONG_S)
        return cast("Plan", self._wire.send(call))

    def apply(
        self, monitors: Sequence[Json], fingerprint: str, *, labels: dict[str, str] | None = None, prune: bool = False
    ) -> Plan:
        """Make it so, if the plan with this fingerprint still holds. Raises Stale."""
        body = {**_desired(monitors, labels, prune=prune), "fingerprint": fingerprint}
        return cast("Plan", self._create("/v1/monitors/apply", body, timeout_s=_LONG_S))

    def export(self, *, labels: Sequence[str] = ()) -> Export:
        """Monitors with a key, as `plan` and `apply` take them; labels are name:value."""
        query = {"label": list(labels)} if labels else {}
        return cast("Export", self._get("/v1/monitors/export", query, timeout_s=_LONG_S))

    # Incidents

    def incidents(self, *, page: int = PAGE, **filters: Unpack[IncidentFilters]) -> Iterator[Incident]:
        """Incidents that pass the filters, newest first."""
        return cast("Iterator[Incident]", self._pages("/v1/incidents", dict(filters), page))

    def incident(self, incident_id: str) -> Incident:
        """One incident."""
        return cast("Incident", self._get(_incident(incident_id)))

    def incident_events(self, incident_id: str) -> Iterator[Event]:
        """Its timeline, oldest first."""
        return cast("Iterator[Event]", self._pages(f"{_incident(incident_id)}/events", {}, PAGE))

    def create_incident(self, incident: Json) -> Incident:
        """Open one by hand."""
        return cast("Incident", self._create("/v1/incidents", incident))

    def acknowledge(self, incident_id: str, *, duration_s: int | None = None, comment: str = "") -> Incident:
        """Take it, until it is resolved or for so many seconds."""
        status: Json = {"status": "acknowledged"}
        if duration_s is not None:
            status["duration_seconds"] = duration_s
        return self._set_status(incident_id, status, comment)

    def resolve(self, incident_id: str, *, comment: str = "") -> Incident:
        """End it."""
        return self._set_status(incident_id, {"status": "resolved"}, comment)

    def comment(self, incident_id: str, body: str) -> Event:
        """Add to its timeline."""
        return cast("Event", self._create(f"{_incident(incident_id)}/comments", {"body": body}))

    # Notifications

    def notifications(self, *, page: int = PAGE, **filters: Unpack[NotificationFilters]) -> Iterator[Notification]:
        """Notifications that pass the filters, newest first."""
        return cast("Iterator[Notification]", self._pages("/v1/notifications", dict(filters), page))

    def notification(self, notification_id: str) -> Notification:
        """One notification with its attempts."""
        return cast("Notification", self._get(f"/v1/notifications/{_part(notification_id)}"))

    def redeliver(self, notification_id: str) -> Notification:
        """Send a dead one again."""
        call = Call("POST", f"/v1/notifications/{_part(notification_id)}/redeliver")
        return cast("Notification", self._wire.send(call))

    def redeliver_all(self, **filters: Unpack[RedeliveryFilters]) -> Redelivery:
        """Send up to 1,000 dead ones again, the oldest first."""
        return cast("Redelivery", self._wire.send(Call("POST", "/v1/notifications/redeliver", body=dict(filters))))

    # Maintenance

    def maintenance(self, *, state: Sequence[str] = (), page: int = PAGE) -> Iterator[Maintenance]:
        """Maintenance windows, newest first."""
        return cast("Iterator[Maintenance]", self._pages("/v1/maintenance", {"state": list(state)}, page))

    def create_maintenance(self, window: Json) -> Maintenance:
        """Plan maintenance."""
        return cast("Maintenance", self._create("/v1/maintenance", window))

    def change_maintenance(self, maintenance_id: str, patch: Json) -> Maintenance:
        """Change some fields."""
        call = Call("PATCH", f"/v1/maintenance/{_part(maintenance_id)}", body=patch, repeatable=True)
        return cast("Maintenance", self._wire.send(call))

    def end_maintenance(self, maintenance_id: str) -> Maintenance:
        """End the window that is on."""
        return cast("Maintenance", self._wire.send(Call("POST", f"/v1/maintenance/{_part(maintenance_id)}/end")))

    def delete_maintenance(self, maintenance_id: str) -> None:
        """Remove a window; one that is on ends."""
        self._wire.send(Call("DELETE", f"/v1/maintenance/{_part(maintenance_id)}", repeatable=True))

    # How it is sent

    def _get(self, path: str, query: Json | None = None, *, timeout_s: float = ANSWER_TIMEOUT_S) -> Any:
        return self._wire.send(Call("GET", path, query=query or {}, repeatable=True, timeout_s=timeout_s))

    def _act(self, path: str, body: Json | None = None) -> Any:
        """For what changes nothing when it is done twice."""
        return self._wire.send(Call("POST", path, body=body, repeatable=True))

    def _create(self, path: str, body: Json, *, timeout_s: float = ANSWER_TIMEOUT_S) -> Any:
        """For what takes an idempotency key."""
        headers = {"Idempotency-Key": uuid4().hex}
        return self._wire.send(Call("POST", path, body=body, headers=headers, repeatable=True, timeout_s=timeout_s))

    def _set_status(self, incident_id: str, status: Json, comment: str) -> Incident:
        body = {**status, "comment": comment} if comment else status
        # With a comment it is not the same twice: there would be two comments.
        call = Call("PATCH", f"{_incident(incident_id)}/status", body=body, repeatable=not comment)
        return cast("Incident", self._wire.send(call))

    def _pages(self, path: str, query: Json, page: int) -> Iterator[Any]:
        cursor: str | None = None
        while True:
            answer = self._get(path, {**query, "limit": page, "cursor": cursor})
            before = cursor
            try:
                items, cursor = answer["data"], answer["next_cursor"]
            except (KeyError, TypeError):
                raise Foreign(f"{self.url}{path} answered with something that is no list") from None
            yield from items
            if cursor is None:
                return
            if cursor == before:
                raise Foreign(f"{self.url}{path} gave the same page twice")


def _part(text: str) -> str:
    return quote(text, safe="")


def _monitor(monitor_id: str) -> str:
    return f"/v1/monitors/{_part(monitor_id)}"


def _incident(incident_id: str) -> str:
    return f"/v1/incidents/{_part(incident_id)}"


def _desired(monitors: Sequence[Json], labels: dict[str, str] | None, *, prune: bool) -> Json:
    return {"monitors": list(monitors), "prune": prune, **({"labels": labels} if labels else {})}

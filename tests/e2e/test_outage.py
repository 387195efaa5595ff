"""Through the HTTP API of a whole stack: outages, and what people do while they last."""

from __future__ import annotations

from concurrent.futures import wait

from tests.e2e.outage import Watch
from tests.e2e.side_by_side import Stories, story
from tests.e2e.stack import wait_for


@story
def test_an_outage_is_one_incident_and_two_signed_webhooks_that_carry_the_deciding_checks_id(watch: Watch) -> None:
    monitor = watch.monitor("shop")
    watch.breaks("shop")
    opened = watch.api.await_incident(monitor, "open")
    assert opened["cause"]["reason"] == "status_mismatch"
    watch.await_webhooks(monitor, 1)
    watch.mends("shop")
    watch.await_webhooks(monitor, 2)
    watch.assert_told_once(monitor)


@story
def test_thirty_outages_at_once_are_thirty_incidents_and_sixty_webhooks(watch: Watch) -> None:
    names = [f"many-{n}" for n in range(30)]
    monitors = [watch.api.add_monitor(watch.endpoint.url(f"/{name}"), name=name) for name in names]
    for monitor in monitors:
        watch.api.await_state(monitor, "up")
    for name in names:
        watch.breaks(name)
    for monitor in monitors:
        watch.await_webhooks(monitor, 1)
    for name in names:
        watch.mends(name)
    for monitor in monitors:
        watch.await_webhooks(monitor, 2)
    for monitor in monitors:
        watch.assert_told_once(monitor)


@story
def test_fewer_failures_than_the_threshold_are_no_outage(watch: Watch) -> None:
    monitor = watch.monitor("flaky", interval_seconds=2, failure_threshold=100)
    watch.breaks("flaky")
    wait_for(lambda: watch.api.items(f"/monitors/{monitor}/results?verdict=down"), "a failed check")
    watch.mends("flaky")
    wait_for(lambda: watch.api.items(f"/monitors/{monitor}/results")[0]["verdict"] == "up", "a good check")
    assert 0 < len(watch.api.items(f"/monitors/{monitor}/results?verdict=down")) < 100
    assert watch.api.incidents(monitor) == []


@story
def test_a_check_by_hand_is_stored_and_shown_but_never_votes(watch: Watch) -> None:
    monitor = watch.monitor("by-hand", interval_seconds=3600, failure_threshold=1)
    watch.breaks("by-hand")
    asked = watch.api.post(f"/monitors/{monitor}/check")

    def shown() -> bool:
        results = {result["trace_id"]: result for result in watch.api.items(f"/monitors/{monitor}/results")}
        return asked["check_id"] in results and results[asked["check_id"]]["verdict"] == "down"

    wait_for(shown, "the result of the check by hand")
    assert watch.api.state(monitor)["status"] == "up"
    assert watch.api.incidents(monitor) == []


@story
def test_pausing_a_monitor_that_is_down_ends_its_incident_and_says_so(watch: Watch) -> None:
    monitor = watch.monitor("paused")
    watch.breaks("paused")
    watch.await_webhooks(monitor, 1)
    assert watch.api.post(f"/monitors/{monitor}/pause")["state"]["status"] == "paused"
    assert_ended(watch, monitor, "paused")


@story
def test_deleting_a_monitor_that_is_down_ends_its_incident_and_says_so(watch: Watch) -> None:
    monitor = watch.monitor("deleted")
    watch.breaks("deleted")
    watch.await_webhooks(monitor, 1)
    watch.api.call("DELETE", f"/monitors/{monitor}")
    assert_ended(watch, monitor, "deleted")


def assert_ended(watch: Watch, monitor: str, reason: str) -> None:
    opened, resolved = watch.await_webhooks(monitor, 2)
    (incident,) = watch.api.incidents(monitor)
    assert (opened.type, resolved.type) == ("opened", "resolved")
    assert (incident["status"], incident["cause"]["reason"]) == ("resolved", reason)
    assert resolved.json["data"]["incident"]["cause"]["reason"] == reason


@story
def test_an_incident_resolved_by_hand_opens_anew_when_the_target_stays_down(watch: Watch) -> None:
    monitor = watch.monitor("stubborn")
    watch.breaks("stubborn")
    first = watch.api.await_incident(monitor, "open")
    watch.api.call("PATCH", f"/incidents/{first['id']}/status", {"status": "resolved"})
    second = watch.api.await_incident(monitor, "open", number=1)
    assert second["reopened_from"] == first["id"]
    watch.mends("stubborn")
    hooks = watch.await_webhooks(monitor, 4)
    told = [(hook.type, hook.json["data"]["incident"]["id"]) for hook in hooks]
    # Order holds within an incident; between the two it need not.
    for incident in (first["id"], second["id"]):
        assert [type_ for type_, id_ in told if id_ == incident] == ["opened", "resolved"]


@story
def test_acknowledging_is_announced_and_does_not_end_the_outage(watch: Watch) -> None:
    monitor = watch.monitor("seen")
    watch.breaks("seen")
    incident = watch.api.await_incident(monitor, "open")
    for _ in range(2):
        watch.api.call("PATCH", f"/incidents/{incident['id']}/status", {"status": "acknowledged"})
    watch.await_webhooks(monitor, 2)
    watch.mends("seen")
    hooks = watch.await_webhooks(monitor, 3)
    assert [hook.type for hook in hooks] == ["opened", "acknowledged", "resolved"]


def test_by_the_end_nothing_was_told_twice_and_nothing_of_what_stayed_up(watch: Watch, stories: Stories) -> None:
    wait(stories.values())
    ids = [hook.headers["webhook-id"] for hook in watch.hooks()]
    assert len(ids) == len(set(ids))
    watch.assert_bystander_unharmed()
    wait_for(lambda: not watch.api.items("/notifications?status=pending"), "settled")
    assert watch.api.items("/notifications?status=dead") == []

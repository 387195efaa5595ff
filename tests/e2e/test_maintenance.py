"""Maintenance and parents through a whole stack: what people hear, and what they do not."""

from __future__ import annotations

from tests.e2e.outage import Watch
from tests.e2e.side_by_side import story
from tests.e2e.stack import wait_for

QUICK = {"interval_seconds": 1, "failure_threshold": 1}


@story
def test_what_breaks_in_a_window_is_told_when_the_window_is_ended_and_mended_is_told_after_that(watch: Watch) -> None:
    monitor, brief = watch.monitor("upgraded", **QUICK), watch.monitor("restarted", **QUICK)
    plan = {"name": "upgrade", "monitor_ids": [monitor, brief], "duration_seconds": 600}
    window = watch.api.post("/maintenance", plan)
    assert watch.api.get(f"/monitors/{monitor}")["state"]["status"] == "maintenance"
    watch.breaks("upgraded")
    watch.breaks("restarted")
    incident = watch.api.await_incident(monitor, "open")
    watch.api.await_incident(brief, "open")
    watch.mends("restarted")
    watch.api.await_incident(brief, "resolved")
    wait_for(
        lambda: "held_back" in [e["type"] for e in watch.api.items(f"/incidents/{incident['id']}/events")], "the event"
    )
    assert watch.webhooks(monitor) == watch.webhooks(brief) == []
    watch.api.call("POST", f"/maintenance/{window['id']}/end")
    watch.await_webhooks(monitor, 1)
    watch.mends("upgraded")
    hooks = watch.await_webhooks(monitor, 2)
    assert [hook.type for hook in hooks] == ["opened", "resolved"]
    assert watch.webhooks(brief) == []
    # A window is counted up to where the answers of its checks are there: a timeout and a moment ago.
    wait_for(
        lambda: watch.api.get(f"/monitors/{monitor}/uptime?window=24h")["seconds"]["maintenance"] > 0,
        "the time in maintenance",
    )


@story
def test_a_window_until_healthy_ends_by_itself_and_nobody_hears_of_the_restart(watch: Watch) -> None:
    monitor = watch.monitor("deployed", **QUICK)
    plan = {"name": "deploy", "monitor_ids": [monitor], "duration_seconds": 600, "until_healthy": True}
    window = watch.api.post("/maintenance", {**plan, "healthy_for_seconds": 2})
    watch.breaks("deployed")
    watch.api.await_incident(monitor, "open")
    assert watch.api.get(f"/maintenance/{window['id']}")["state"] == "active"
    watch.mends("deployed")
    watch.api.await_incident(monitor, "resolved")
    wait_for(lambda: watch.api.get(f"/maintenance/{window['id']}")["state"] == "ended", "the end of the window")
    watch.api.await_state(monitor, "up")
    assert watch.webhooks(monitor) == []


@story
def test_a_parent_that_takes_its_children_with_it_is_told_alone(watch: Watch) -> None:
    switch = watch.monitor("switch", **QUICK)
    children = [
        watch.monitor(f"behind-{n}", interval_seconds=2, failure_threshold=2, parent_id=switch) for n in range(5)
    ]
    for name in ("switch", *(f"behind-{n}" for n in range(5))):
        watch.breaks(name)
    for child in children:
        watch.api.await_incident(child, "open")
    watch.await_webhooks(switch, 1)
    for name in ("switch", *(f"behind-{n}" for n in range(4))):
        watch.mends(name)
    watch.await_webhooks(switch, 2)
    # The last one stays down, which its next check says.
    assert [hook.type for hook in watch.await_webhooks(children[4], 1)] == ["opened"]
    for child in children[:4]:
        watch.api.await_incident(child, "resolved")
        assert watch.webhooks(child) == []
    watch.mends("behind-4")
    assert [hook.type for hook in watch.await_webhooks(children[4], 2)] == ["opened", "resolved"]
    assert [hook.type for hook in watch.webhooks(switch)] == ["opened", "resolved"]

"""The checker of the chaos runs, alerting: a good history passes, and each way of breaking A1 to A8 is seen."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.chaos.checker import check
from tests.chaos.events import (
    Acknowledged,
    ChannelSpec,
    Death,
    Event,
    Fault,
    Final,
    Phase,
    Run,
    Signal,
    Silenced,
    Webhook,
)
from tests.chaos.receiver import CAPPED, COOLED, FALLBACK, GROUPED, REFUSING
from tests.chaos.responders import LASTS_S
from tests.chaos.routing import CAP, COOLDOWN_S, Part

T0, END = 1_000_000.0, 1_000_200.0
PLAIN = ChannelSpec("plain", "/friendly-1", hostile=False)
GROUP = ChannelSpec("group", GROUPED, hostile=False, part=Part.GROUPED)
DEAF = ChannelSpec("deaf", REFUSING, hostile=False, part=Part.REFUSING)
BACK = ChannelSpec("back", FALLBACK, hostile=False, part=Part.FALLBACK)
CAP_ED = ChannelSpec("capped", CAPPED, hostile=False, part=Part.CAPPED)
COLD = ChannelSpec("cooled", COOLED, hostile=False, part=Part.COOLED)
CHANNELS = (PLAIN, GROUP, DEAF, BACK)
SILENCE = (T0 + 50, T0 + 70)


class Story:
    """Three minutes: red fires and rests, two greens are told as one, quiet ones fire within a silence.

    Of those, `hush` is over before the silence ends, and `cry` goes on after it.
    """

    def __init__(self) -> None:
        self.events: list[Event] = [Run(T0, 1, "quick", (), CHANNELS), Phase(T0, "warm"), Phase(T0 + 120, "heal")]
        self.tables: dict[str, list[dict[str, Any]]] = {
            name: []
            for name in ("monitors", "incidents", "incident_events", "notifications", "outbox", "monitor_states",
                         "results", "lease_writes", "queues", "acks", "alerts", "silences")
        }  # fmt: skip
        self.events.append(Silenced(SILENCE[0] + 0.1, "s", *SILENCE))
        self.tables["silences"].append(
            {"id": "s", "begins_at": SILENCE[0], "ends_at": SILENCE[1], "settled_at": SILENCE[1] + 1}
        )
        self._red()
        self._greens()
        self._quiet()

    def _red(self) -> None:
        self.fire("red", "red", 10, 30)
        for type_, at in (("opened", 10), ("resolved", 30)):
            self.tell(PLAIN, at + 0.2, (f"red1 {type_}",))
            self.tell(GROUP, at + 1.2, (f"red1 {type_}",))
            self.tell(BACK, at + 1.0, (f"red1 {type_}",))
        self.refuse("red1 opened", 10.3)
        self.hold("red1 resolved", DEAF, "not_announced")

    def _greens(self) -> None:
        for key in ("green", "lime"):
            self.fire(key, "green", 40, 45)
            for type_, at in (("opened", 40), ("resolved", 45)):
                self.tell(PLAIN, at + 0.2, (f"{key}1 {type_}",))
        for type_, at in (("opened", 40), ("resolved", 45)):
            self.tell(GROUP, at + 1.2, (f"green1 {type_}", f"lime1 {type_}"))

    def _quiet(self) -> None:
        self.fire("hush", "quiet", 55, 60)
        self.fire("cry", "quiet", 56, 100)
        for channel in (PLAIN, GROUP, DEAF):
            self.hold("hush1 opened", channel, "silenced")
            self.hold("hush1 resolved", channel, "not_announced")
        for type_, at in (("opened", 71), ("resolved", 100)):
            for channel in (PLAIN, GROUP, BACK):
                self.tell(channel, at + 1.0, (f"cry1 {type_}",), written=56.1 if type_ == "opened" else None)
        self.refuse("cry1 opened", 71.2, written=56.1)
        self.hold("cry1 resolved", DEAF, "not_announced")

    def fire(self, key: str, team: str, begin: float, end: float, *, period: int = 1) -> None:
        """A period of a problem: alerts, their incident and its timeline."""
        incident = f"{key}{period}"
        for firing, at in ((True, begin), (False, end)):
            alert_id = f"{key} {period} {'firing' if firing else 'resolved'}"
            self.events.append(Signal(T0 + at - 0.1, T0 + at + 0.1, alert_id, key, period, firing, team, 202))
            self.tables["alerts"].append({"alert_id": alert_id, "status": "", "incident": incident})
            type_ = "opened" if firing else "resolved"
            self.tables["incident_events"].append(
                {"id": f"{incident} {type_}", "incident": incident, "version": 1 if firing else 2, "type": type_,
                 "at": T0 + at}
            )  # fmt: skip
        self.tables["incidents"].append(
            {"id": incident, "monitor": None, "dedup_key": key, "status": "resolved", "version": 2, "reason": None,
             "opened_at": T0 + begin, "resolved_at": T0 + end}
        )  # fmt: skip

    def tell(self, channel: ChannelSpec, at: float, events: tuple[str, ...], *, written: float | None = None) -> None:
        """One message, sent and taken; its id is its first event's with the channel's."""
        message = f"{events[0]}{channel.id}"
        for event in events:
            self._row(event, channel, written if written is not None else at, status="sent", reason=None,
                      message=message if len(events) > 1 else None, sent_at=T0 + at)  # fmt: skip
        self.hook(channel, at, f"msg_{message}", events)

    def refuse(self, event: str, at: float, *, written: float | None = None) -> None:
        """The deaf one is told and refuses."""
        self._row(event, DEAF, written if written is not None else at, status="dead", reason="rejected")
        self.hook(DEAF, at, f"msg_{event}{DEAF.id}", (event,), accepted=False)

    def hold(self, event: str, channel: ChannelSpec, reason: str) -> None:
        """Nobody is told, and why."""
        at = self.row("incident_events", id=event)["at"] - T0
        self._row(event, channel, at + 0.1, status="suppressed", reason=reason)

    def hook(
        self, channel: ChannelSpec, at: float, id_: str, events: tuple[str, ...], *, accepted: bool = True
    ) -> None:
        entries = tuple((event.split()[0], f"incident.{event.split()[1]}") for event in events)
        type_ = "incident.group" if len(entries) > 1 else entries[0][1]
        self.events.append(
            Webhook(T0 + at, channel.path, id_, type_, entries[0][0], "", accepted=accepted, ambiguous=False,
                    entries=entries, digest=id_)
        )  # fmt: skip

    def _row(self, event: str, channel: ChannelSpec, written: float, **fields: Any) -> None:
        incident, type_ = event.split()
        row = {"id": f"{event}{channel.id}", "no": len(self.tables["notifications"]), "event": event,
               "incident": incident, "channel": channel.id, "event_type": type_, "created_at": T0 + written,
               "message": None, "sent_at": None, "silence": None}  # fmt: skip
        self.tables["notifications"].append(row | fields)

    def row(self, table: str, **wanted: Any) -> dict[str, Any]:
        return next(row for row in self.tables[table] if all(row[key] == value for key, value in wanted.items()))

    def drop(self, table: str, **wanted: Any) -> None:
        self.tables[table].remove(self.row(table, **wanted))

    def webhook(self, id_: str) -> Webhook:
        return next(event for event in self.events if isinstance(event, Webhook) and event.webhook_id == id_)

    def unhear(self, id_: str) -> None:
        self.events.remove(self.webhook(id_))

    def signal(self, at: float, alert_id: str, key: str, team: str, *, firing: bool, status: int | None = 202,
               period: int = 1) -> None:  # fmt: skip
        self.events.append(Signal(T0 + at, T0 + at + 0.1, alert_id, key, period, firing, team, status))

    def disturb(self, at: float, seconds: float, name: str, target: str) -> None:
        self.events += [Fault(T0 + at, name, begins=True, target=target),
                        Fault(T0 + at + seconds, name, begins=False, target=target)]  # fmt: skip

    def report(self) -> Any:
        return check([*self.events, Final(END, self.tables)])


class Limited(Story):
    """One problem of green fires three times within a minute, on a channel with a cooldown and on one with a cap.

    The second time is over before the cooldown is; the third goes on after the end of the next one. Somebody has
    acknowledged the first.
    """

    def __init__(self) -> None:
        super().__init__()
        self.events[0] = Run(T0, 1, "quick", (), (CAP_ED, COLD))
        for table in ("incidents", "incident_events", "notifications", "alerts", "silences"):
            self.tables[table].clear()
        self.events = [e for e in self.events if not isinstance(e, Signal | Webhook | Silenced)]
        for period, begin, end in ((1, 10, 14), (2, 16, 20), (3, 26, 30), (4, 32, 60)):
            self.fire("leaf", "green", begin, end, period=period)
            for type_, at in (("opened", begin), ("resolved", end)):
                self.tell(CAP_ED, at + 0.2, (f"leaf{period} {type_}",))
        for period, told_at in ((1, 10.2), (3, 26.2), (4, 26.2 + COOLDOWN_S)):
            self.tell(COLD, told_at, (f"leaf{period} opened",), written=32.1 if period == 4 else None)
            self.tell(COLD, {1: 14, 3: 30, 4: 60}[period] + 0.2, (f"leaf{period} resolved",))
        self.hold("leaf2 opened", COLD, "cooldown")
        self.hold("leaf2 resolved", COLD, "not_announced")
        self._acknowledge()

    def _acknowledge(self) -> None:
        """The fourth is acknowledged at 45 s, and open again when that is over."""
        self.events.append(Acknowledged(T0 + 45, T0 + 45.1, "leaf4", T0 + 45.1 + LASTS_S, 200))
        self.row("incidents", id="leaf4").update(version=4)
        self.row("incident_events", id="leaf4 resolved").update(version=4)
        for version, type_, at in ((2, "acknowledged", 45), (3, "acknowledgement_expired", 45.2 + LASTS_S)):
            event = f"leaf4 {type_}"
            self.tables["incident_events"].append(
                {"id": event, "incident": "leaf4", "version": version, "type": type_, "at": T0 + at}
            )
            for channel in (CAP_ED, COLD):
                self.tell(channel, at + 0.5, (event,))

    def hook(
        self, channel: ChannelSpec, at: float, id_: str, events: tuple[str, ...], *, accepted: bool = True
    ) -> None:
        """The end of an acknowledgement is told as a reminder."""
        told = tuple(event.replace("acknowledgement_expired", "reminder") for event in events)
        super().hook(channel, at, id_, told, accepted=accepted)


def test_a_good_history_with_limits_passes_and_they_were_checked() -> None:
    report = Limited().report()
    assert report.violations == []
    assert all(report.findings[name].applicable for name in ("I5", "I7", "A1", "A2", "A4", "A6", "A7", "A8"))


def announce_too_soon(story: Limited) -> None:
    """The second time is told although its cooldown is not over."""
    story.drop("notifications", event="leaf2 opened", channel="cooled")
    story.drop("notifications", event="leaf2 resolved", channel="cooled")
    story.tell(COLD, 16.2, ("leaf2 opened",))
    story.tell(COLD, 20.2, ("leaf2 resolved",))


def never_announce(story: Limited) -> None:
    """What is still wrong after the cooldown's end stays untold."""
    for type_ in ("opened", "acknowledged", "acknowledgement_expired", "resolved"):
        story.drop("notifications", event=f"leaf4 {type_}", channel="cooled")
        story.unhear(f"msg_leaf4 {type_}cooled")
    story.hold("leaf4 opened", COLD, "cooldown")
    for type_ in ("acknowledged", "resolved"):
        story.hold(f"leaf4 {type_}", COLD, "not_announced")


def hold_back_the_first(story: Limited) -> None:
    for type_, reason in (("opened", "cooldown"), ("resolved", "not_announced")):
        story.drop("notifications", event=f"leaf1 {type_}", channel="cooled")
        story.unhear(f"msg_leaf1 {type_}cooled")
        story.hold(f"leaf1 {type_}", COLD, reason)


def send_too_many(story: Limited) -> None:
    for n in range(CAP + 1):
        story.hook(CAP_ED, 100 + n * 0.2, f"msg_new{n}", ("leaf4 resolved",))


def forget_acknowledgement(story: Limited) -> None:
    for type_ in ("acknowledged", "acknowledgement_expired"):
        story.drop("incident_events", id=f"leaf4 {type_}")


LIMITS: list[tuple[str, str, Callable[[Limited], Any]]] = [
    ("A6", "told within its cooldown", announce_too_soon),
    ("A6", "still wrong at the cooldown's end and never told", never_announce),
    ("A6", "held back though nothing was told before", hold_back_the_first),
    ("I5", "held back for another reason", lambda s: s.row(
        "notifications", event="leaf2 opened", channel="cooled").update(reason="silenced")),
    ("I5", "the end is not told where the beginning was", lambda s: s.unhear("msg_leaf3 resolvedcooled")),
    ("A7", "a message more than the cap allows", send_too_many),
    ("A8", "an acknowledgement that is gone", forget_acknowledgement),
    ("A8", "an acknowledgement without an end", lambda s: s.drop(
        "incident_events", id="leaf4 acknowledgement_expired")),
    ("A8", "an acknowledgement that ends too early", lambda s: s.row(
        "incident_events", id="leaf4 acknowledgement_expired").update(at=T0 + 45.3)),
    ("A8", "refused as if it were over", lambda s: s.events.append(
        Acknowledged(T0 + 50, T0 + 50, "leaf4", T0 + 52, 400))),
    ("A8", "an internal error", lambda s: s.events.append(Acknowledged(T0 + 50, T0 + 50, "leaf4", T0 + 52, 500))),
    ("I5", "those who heard are not reminded", lambda s: s.unhear("msg_leaf4 acknowledgement_expiredcapped")),
]  # fmt: skip


@pytest.mark.parametrize(("invariant", "how", "damage"), LIMITS, ids=[f"{i} {how}" for i, how, _ in LIMITS])
def test_each_way_of_breaking_a_limit_is_seen(invariant: str, how: str, damage: Callable[[Limited], Any]) -> None:
    story = Limited()
    damage(story)
    assert story.report().findings[invariant].violations, how


def test_what_is_resolved_need_not_be_acknowledged() -> None:
    story = Limited()
    story.events.append(Acknowledged(T0 + 20, T0 + 20.1, "leaf1", T0 + 22, 400))
    assert story.report().violations == []


def test_a_cap_is_not_judged_while_something_is_broken() -> None:
    story = Limited()
    send_too_many(story)
    story.disturb(95, 2, "freeze", "notifier-1")
    assert story.report().findings["A7"].violations == []


def test_a_good_history_passes_and_everything_about_alerts_was_checked() -> None:
    report = Story().report()
    assert report.violations == []
    assert all(report.findings[name].applicable for name in ("I5", "I7", "A1", "A2", "A3", "A4", "A5"))
    assert report.totals["alerts acknowledged"] == 10 and report.totals["lost"] == 0


def forget_incident(story: Story) -> None:
    """The API said that it took the alert, and nothing is there."""
    story.drop("incidents", id="green1")
    for table in ("incident_events", "notifications"):
        story.tables[table] = [row for row in story.tables[table] if row["incident"] != "green1"]


def open_again(story: Story) -> None:
    """A repeat of an old alert became an incident."""
    story.tables["incidents"].append({**story.row("incidents", id="red1"), "id": "red2", "opened_at": T0 + 33,
                                      "resolved_at": T0 + 35})  # fmt: skip


def tell_in_silence(story: Story) -> None:
    story.unhear("msg_cry1 openedplain")
    story.hook(PLAIN, 60, "msg_cry1 openedplain", ("cry1 opened",))


def tell_the_silenced(story: Story) -> None:
    for type_, at in (("opened", 55), ("resolved", 60)):
        story.drop("notifications", event=f"hush1 {type_}", channel="plain")
        story.tell(PLAIN, at + 0.2, (f"hush1 {type_}",))


def announce_nothing(story: Story) -> None:
    """What is still wrong at the end of the silence stays untold."""
    for channel in (PLAIN, GROUP):
        row = story.row("notifications", event="cry1 opened", channel=channel.id)
        row.update(status="suppressed", reason="silenced")
        story.unhear(f"msg_cry1 opened{channel.id}")


def split_group(story: Story) -> None:
    """A message that told of two tells of one at its second attempt."""
    story.disturb(41, 1, "freeze", "notifier-1")
    story.hook(GROUP, 42, "msg_green1 openedgroup", ("green1 opened",))


def change_body(story: Story) -> None:
    before = story.webhook("msg_green1 openedgroup")
    story.disturb(41, 1, "freeze", "notifier-1")
    story.events.append(
        Webhook(before.at + 1, before.path, before.webhook_id, before.type, before.incident, "", accepted=True,
                ambiguous=False, entries=before.entries, digest="another")
    )  # fmt: skip


def hear_too_early(story: Story) -> None:
    story.unhear("msg_red1 openedback")
    story.hook(BACK, 10.1, "msg_red1 openedback", ("red1 opened",))


def give_without_death(story: Story) -> None:
    for event in ("green1 opened", "green1 resolved"):
        story.tell(BACK, 46, (event,))


def hold_back_at_the_fallback(story: Story, silence: str, incident: str) -> None:
    """Its channel refuses `incident`, and what its fallback was given is held back by `silence` before it leaves."""
    story.row("notifications", event=f"{incident} opened", channel="deaf").update(status="dead", reason="rejected")
    for type_ in ("opened", "resolved"):
        story.drop("notifications", event=f"{incident} {type_}", channel="back")
        story.unhear(f"msg_{incident} {type_}back")
        story.hold(f"{incident} {type_}", BACK, "silenced" if type_ == "opened" else "not_announced")
    story.row("notifications", event=f"{incident} opened", channel="back")["silence"] = silence


def test_what_a_silence_holds_back_at_the_fallback_need_not_be_heard_there() -> None:
    story = Story()
    hold_back_at_the_fallback(story, "s", "cry1")
    assert story.report().findings["A5"].violations == []


def test_a_silence_holds_back_what_died_late_though_it_began_when_all_was_over() -> None:
    story = Story()
    hold_back_at_the_fallback(story, "s", "cry1")
    story.row("silences", id="s").update(begins_at=T0 + 105, ends_at=T0 + 112)
    late = story.row("notifications", event="cry1 opened", channel="back")
    assert story.report().findings["A5"].violations, "it began when all was over, and nobody was late"
    late["created_at"] = T0 + 106
    assert story.report().findings["A5"].violations == []


Break = Callable[[Story], Any]
BROKEN: list[tuple[str, str, Break]] = [
    ("A1", "an acknowledged alert without an incident", forget_incident),
    ("A1", "a repeat that became an incident", open_again),
    ("A1", "an incident of which nobody said anything", lambda s: s.tables["incidents"].append(
        {**s.row("incidents", id="red1"), "id": "x1", "dedup_key": "unknown"})),
    ("A1", "an acknowledged end without effect", lambda s: s.row("incidents", id="red1").update(resolved_at=None)),
    ("A1", "an end that nobody sent", lambda s: s.row("incidents", id="red1").update(resolved_at=T0 + 20)),
    ("A1", "a beginning before it was sent", lambda s: s.row("incidents", id="red1").update(opened_at=T0 + 5)),
    ("A1", "an alert that is not known any more", lambda s: s.drop("alerts", alert_id="red 1 firing")),
    ("A1", "an alert that is known twice", lambda s: s.tables["alerts"].append(
        dict(s.row("alerts", alert_id="red 1 firing")))),
    ("A1", "an alert that leads to another's incident", lambda s: s.row(
        "alerts", alert_id="red 1 firing").update(incident="lime1")),
    ("A1", "an alert that nobody sent", lambda s: s.tables["alerts"].append({"alert_id": "x", "incident": "red1"})),
    ("A1", "an alert that is never acknowledged, long after the faults", lambda s: s.signal(
        151, "new 1 firing", "new", "blue", firing=True, status=503)),
    ("A1", "an internal error", lambda s: s.signal(80, "red 1 firing", "red", "red", firing=True, status=500)),
    ("A2", "a channel hears what no route leads there", give_without_death),
    ("A2", "a row too many", lambda s: s.hold("green1 opened", DEAF, "silenced")),
    ("A2", "silenced without a silence", lambda s: s.hold("green1 opened", DEAF, "silenced")),
    ("A2", "the wrong reason", lambda s: s.row(
        "notifications", event="hush1 resolved", channel="plain").update(reason="cooldown")),
    ("A2", "no row where one was held back", lambda s: s.drop("notifications", event="hush1 opened", channel="plain")),
    ("A2", "told where it is refused", lambda s: s.row(
        "notifications", event="red1 opened", channel="deaf").update(status="sent", reason=None)),
    ("A2", "the end told where the beginning was not", lambda s: s.row(
        "notifications", event="red1 resolved", channel="deaf").update(status="sent", reason=None)),
    ("A2", "what stays open is not brought to mind", lambda s: [
        s.row("incidents", id="green1").update(resolved_at=None, status="open"),
        s.drop("incident_events", id="green1 resolved")]),
    ("A3", "told while it is silenced", tell_in_silence),
    ("A3", "told though it began and ended in a silence", tell_the_silenced),
    ("A3", "a silence that is never settled", lambda s: s.row("silences", id="s").update(settled_at=None)),
    ("A3", "an acknowledged silence is gone", lambda s: s.tables["silences"].clear()),
    ("I5", "still wrong at the silence's end and not announced", announce_nothing),
    ("I5", "announced long after the silence's end", lambda s: [
        s.unhear("msg_cry1 resolvedplain"), s.unhear("msg_cry1 openedplain"),
        s.hook(PLAIN, 152, "msg_cry1 openedplain", ("cry1 opened",)),
        s.hook(PLAIN, 152.1, "msg_cry1 resolvedplain", ("cry1 resolved",))]),
    ("I5", "one of a group never arrived", lambda s: [
        s.unhear("msg_green1 openedgroup"), s.hook(GROUP, 41.2, "msg_green1 openedgroup", ("green1 opened",))]),
    ("I5", "the fallback is not told the end", lambda s: s.drop(
        "notifications", event="red1 resolved", channel="back")),
    ("I6", "a group that came twice", lambda s: s.hook(
        GROUP, 42, "msg_green1 openedgroup", ("green1 opened", "lime1 opened"))),
    ("I6", "an event in two messages", lambda s: s.hook(GROUP, 42, "msg_red1 openedgroup", ("lime1 opened",))),
    ("I7", "the end before the beginning, in a group", lambda s: [
        s.unhear("msg_green1 openedgroup"),
        s.hook(GROUP, 47, "msg_green1 openedgroup", ("green1 opened", "lime1 opened"))]),
    ("A4", "a message that lost a part on the way", split_group),
    ("A4", "other bytes under the same id", change_body),
    ("A4", "two groups in one message", lambda s: [
        s.drop("notifications", event="lime1 opened", channel="group"), s.unhear("msg_green1 openedgroup"),
        s.row("notifications", event="green1 opened", channel="group").update(message="m"),
        s.row("notifications", event="red1 opened", channel="group").update(message="m"),
        s.hook(GROUP, 41.2, "msg_m", ("red1 opened", "green1 opened"))]),
    ("A4", "several at once on a channel without groups", lambda s: s.hook(
        PLAIN, 41, "msg_green1 openedplain", ("green1 opened", "lime1 opened"))),
    ("A5", "the fallback never heard", lambda s: s.unhear("msg_red1 openedback")
     or s.unhear("msg_red1 resolvedback")),
    ("A5", "held back by a silence that is none", lambda s: hold_back_at_the_fallback(s, "another", "cry1")),
    ("A5", "held back by a silence of others", lambda s: hold_back_at_the_fallback(s, "s", "red1")),
    ("A5", "the fallback heard before it died", hear_too_early),
    ("A5", "the fallback heard of what did not die", give_without_death),
]  # fmt: skip


@pytest.mark.parametrize(("invariant", "how", "damage"), BROKEN, ids=[f"{i} {how}" for i, how, _ in BROKEN])
def test_each_way_of_breaking_it_is_seen(invariant: str, how: str, damage: Break) -> None:
    story = Story()
    damage(story)
    assert story.report().findings[invariant].violations, how


def held_back_and_late(story: Story) -> None:
    """Resolved just after the silence's end, before anybody settled it: either fate is right, the same everywhere."""
    story.row("incidents", id="cry1").update(resolved_at=T0 + 70.5)
    story.row("incident_events", id="cry1 resolved").update(at=T0 + 70.5)
    for event in story.events[:]:
        if isinstance(event, Signal) and event.alert_id == "cry 1 resolved":
            story.events.remove(event)
        if isinstance(event, Webhook) and "cry1" in event.webhook_id:
            story.events.remove(event)
    story.signal(70.4, "cry 1 resolved", "cry", "quiet", firing=False)
    story.tables["notifications"] = [row for row in story.tables["notifications"] if row["incident"] != "cry1"]
    for channel in (PLAIN, GROUP, DEAF):
        story.hold("cry1 opened", channel, "silenced")
        story.hold("cry1 resolved", channel, "not_announced")


def waits_for_a_silence(story: Story, *, end: float = 62, cut_off: bool = False) -> None:
    """Somebody hears before the silence begins; where it still waits, the silence holds it back."""
    story.fire("late", "quiet", 45, end)
    for channel in (GROUP, BACK):
        story.tell(channel, 46.5, ("late1 opened",), written=45.1)
        story.tell(channel, end + 1, ("late1 resolved",))
    story.refuse("late1 opened", 46)
    story.hold("late1 resolved", DEAF, "not_announced")
    story.hold("late1 opened", PLAIN, "silenced")
    if cut_off:
        story.row("notifications", id="late1 openedplain").update(unknown_outcome=True)
        story.tell(PLAIN, end + 1, ("late1 resolved",))
    else:
        story.hold("late1 resolved", PLAIN, "not_announced")


LEGAL: list[tuple[str, Break]] = [
    ("held back by a silence where it still waited when that began", waits_for_a_silence),
    ("the same, after an attempt that may have arrived", lambda s: waits_for_a_silence(s, cut_off=True)),
    ("an alert sent again", lambda s: s.signal(80, "red 1 firing", "red", "red", firing=True)),
    ("an alert refused for now", lambda s: s.signal(9, "red 1 firing", "red", "red", firing=True, status=503)),
    ("an alert without an answer", lambda s: s.signal(9, "red 1 firing", "red", "red", firing=True, status=None)),
    ("an alert that was taken although nobody heard the answer", lambda s: [
        s.signal(90, "new 1 firing", "new", "blue", firing=True, status=None)]),
    ("resolved between a silence's end and its settlement", held_back_and_late),
    ("a group again beside a death, under the same id", lambda s: [
        s.events.append(Death(T0 + 41.3, "notifier-1", 7, "kill")),
        s.hook(GROUP, 43, "msg_green1 openedgroup", ("green1 opened", "lime1 opened"))]),
    ("told in a silence by a notifier that stood still when it began", lambda s: [
        s.disturb(49, 7, "freeze", "notifier-1"), tell_the_silenced(s), s.drop(
            "notifications", event="hush1 opened", channel="group"), s.drop(
            "notifications", event="hush1 resolved", channel="group"), s.drop(
            "notifications", event="hush1 opened", channel="deaf"), s.drop(
            "notifications", event="hush1 resolved", channel="deaf"),
        *(s.tell(c, 56.5 if t == "opened" else 61.5, (f"hush1 {t}",))
          for c in (GROUP, BACK) for t in ("opened", "resolved")),
        s.refuse("hush1 opened", 55.5), s.hold("hush1 resolved", DEAF, "not_announced")]),
]  # fmt: skip


def test_what_a_silence_held_back_later_is_told_at_its_end_if_it_is_still_wrong() -> None:
    story = Story()
    waits_for_a_silence(story, end=110)
    assert story.report().findings["I5"].violations


def test_what_waited_is_not_held_back_without_a_silence() -> None:
    story = Story()
    story.fire("soon", "quiet", 20, 24)
    for channel in (GROUP, BACK):
        story.tell(channel, 21.5, ("soon1 opened",), written=20.1)
        story.tell(channel, 25, ("soon1 resolved",))
    story.refuse("soon1 opened", 21)
    for event, channel, reason in (("resolved", DEAF, "not_announced"), ("opened", PLAIN, "silenced"),
                                   ("resolved", PLAIN, "not_announced")):  # fmt: skip
        story.hold(f"soon1 {event}", channel, reason)
    assert story.report().findings["I5"].violations


@pytest.mark.parametrize(("how", "oddity"), LEGAL, ids=[how for how, _ in LEGAL])
def test_what_is_odd_but_allowed_passes(how: str, oddity: Break) -> None:
    story = Story()
    oddity(story)
    assert story.report().violations == [], how

"""What the channels that speak to people and on-call tools say: stories, links, Slack, PagerDuty, Alertmanager."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from common.channels.base import Event
from common.channels.links import LIFETIME, Links
from common.channels.story import headline, plain, span, tell
from common.domain.delivery import Outcome
from common.http.exchange import HttpExchange
from common.store.notifications import Claimed
from common.vault import Vault, generate_key
from notifier.messages import build
from tests.telling import BASE_URL, CLAIM, INCIDENT, NOW, ORG_ID, VAULT, claim
from tests.wire import BASE, Wire, body_of, context_over, send

OK = HttpExchange(status=200)


def test_a_slack_message_escapes_what_slack_would_obey_and_links_to_the_incident() -> None:
    _, (request,) = send("slack", OK, claims=(claim(title="Shop — <b>down</b> & <!channel>"),))
    said = body_of(request)
    assert said["text"] == "Opened: Shop — &lt;b&gt;down&lt;/b&gt; &amp; &lt;!channel&gt;"
    facts, links = (block["text"]["text"] for block in said["blocks"][1:3])
    assert facts.split("\n") == [
        "Severity: critical (P1)", "Monitor: Shop", "Target: https://shop.example/health", "Cause: status 500",
        "Expected: 200-299", "Seen: 500", "Since: 2026-08-01 11:58:00 UTC",
    ]  # fmt: skip
    incident, acknowledge = links.split(" · ")
    assert incident == f"<https://tocsin.example/v1/incidents/{INCIDENT['id']}|Incident>"
    assert acknowledge.startswith("<https://tocsin.example/ack/")
    assert acknowledge.endswith("|Acknowledge>")


def test_a_group_in_slack_is_a_list_that_ends_somewhere() -> None:
    claims = tuple(claim("opened", number, title=f"Shop {number}") for number in range(25))
    _, (request,) = send("slack", OK, claims=claims)
    said = body_of(request)
    assert said["text"] == "25 alerts: 25 opened"
    assert "Shop 9" in said["blocks"][19]["text"]["text"]
    assert said["blocks"][21]["text"]["text"] == "… and 15 more"


@pytest.mark.parametrize("count", [1, 2])
def test_in_slack_nothing_from_outside_is_mark_up(count: int) -> None:
    forged = "*x* _x_ ~x~ `x` @here <!here>"
    cause = {"reason": "r", "message": forged, "expected": forged, "seen": forged}
    claims = tuple(claim("opened", number, title=forged, cause=cause, description=forged) for number in range(count))
    _, (request,) = send("slack", OK, claims=claims)
    said = body_of(request)
    assert (said["mrkdwn"], said["link_names"]) == (False, False)
    assert "@here" not in json.dumps(said, ensure_ascii=False)
    texts = [text for block in said["blocks"] for text in (block.get("elements") or [block["text"]])]
    assert any("*x*" in text["text"] for text in texts)
    links = [text["text"] for text in texts if text["type"] == "mrkdwn"]
    assert len(links) == count
    assert all(link.startswith("<https://tocsin.example/v1/incidents/") for link in links)
    assert not any(mark in link for link in links for mark in ("*", "`", "~", "here"))


@pytest.mark.parametrize(
    ("event_type", "action"),
    [
        ("opened", "trigger"),
        ("escalated", "trigger"),
        ("reminder", "trigger"),
        ("acknowledged", "acknowledge"),
        ("resolved", "resolve"),
    ],
)
def test_what_pagerduty_is_asked_to_do(event_type: str, action: str) -> None:
    _, (request,) = send("pagerduty", HttpExchange(status=202), claims=(claim(event_type),))
    body = body_of(request)
    assert (body["event_action"], body["dedup_key"]) == (action, INCIDENT["id"])
    assert ("payload" in body) is (action == "trigger")


def test_a_pagerduty_event_stays_within_its_limit_whatever_its_labels() -> None:
    labels = {f"label-{number}": "x" * 400 for number in range(5_000)}
    _, (request,) = send("pagerduty", HttpExchange(status=202), claims=(claim(labels=labels),))
    assert len(request.body or b"") <= 512 * 1024
    assert body_of(request)["payload"]["summary"] == "Shop is down"


def test_of_a_group_the_worst_outcome_counts_and_an_incidents_own_order_holds() -> None:
    claims = (claim("opened", 1), claim("opened", 2), claim("resolved", 1))
    taken, busy = HttpExchange(status=202), HttpExchange(status=500)
    attempt, requests = send("pagerduty", taken, claims=claims)
    assert attempt.outcome is Outcome.DELIVERED
    assert len(requests) == 3
    bodies = [body_of(request) for request in requests]
    first = [body["event_action"] for body in bodies if body["dedup_key"] == claims[0].incident_id]
    assert first == ["trigger", "resolve"]
    # The opening of incident 1 fails: its end is not sent before it.
    attempt, requests = send("pagerduty", busy, taken, claims=claims)
    assert attempt.outcome is Outcome.FAILED
    assert len(requests) == 2
    assert attempt.error == "1 of 2 events: the receiver answered 500"
    # What may yet succeed decides, before what never will.
    attempt, _ = send("pagerduty", HttpExchange(status=400), busy, claims=claims[:2])
    assert attempt.outcome is Outcome.FAILED


def _alerts(*claims: Claimed) -> list[dict[str, Any]]:
    _, (request,) = send("alertmanager", OK, claims=claims)
    assert request.url == f"{BASE}/api/v2/alerts"
    found: list[dict[str, Any]] = body_of(request)
    return found


def test_an_alert_is_the_same_alert_from_its_beginning_to_its_end() -> None:
    (fires,) = _alerts(claim("opened"))
    (ends,) = _alerts(claim("resolved", title="Shop is up", status="resolved", resolved_at="2026-08-01T12:00:00+00:00"))
    assert fires["labels"] == ends["labels"]
    assert fires["labels"] == {
        "team": "shop", "k8s_io_pod": "a-1", "alertname": "Shop", "source": "monitor", "severity": "critical",
        "incident_id": INCIDENT["id"],
    }  # fmt: skip
    assert fires["startsAt"] == ends["startsAt"] == "2026-08-01T11:58:00+00:00"
    assert fires["endsAt"] > "2027"
    assert ends["endsAt"] == "2026-08-01T12:00:00+00:00"
    assert fires["annotations"]["expected"] == "200-299"
    assert fires["generatorURL"].startswith(BASE_URL)


EARLIER = {"severity": "warning", "source": "monitor", "name": None, "labels": INCIDENT["labels"], "monitor": "Shop"}


def test_an_alert_that_got_worse_ends_its_milder_one() -> None:
    alerts = _alerts(replace(claim("escalated", severity="error"), earlier=[EARLIER]))
    assert {alert["labels"]["severity"]: alert["endsAt"] > "2027" for alert in alerts} == {
        "error": True, "warning": False,
    }  # fmt: skip


EDITS = [{"severity": "info"}, {"labels": {"team": "other"}}, {"labels": {}}, {"name": "Till"}, {"monitor": "Store"}]


@pytest.mark.parametrize("edit", EDITS)
def test_an_alert_that_was_told_under_other_labels_ends_with_them(edit: dict[str, Any]) -> None:
    before = EARLIER | {"severity": "critical"} | edit
    ended = claim("resolved", status="resolved", resolved_at="2026-08-01T12:00:00+00:00")
    now, old = _alerts(replace(ended, earlier=[before]))
    assert now["labels"] != old["labels"]
    assert (now["endsAt"], old["endsAt"]) == ("2026-08-01T12:00:00+00:00",) * 2
    assert (now["startsAt"], old["startsAt"]) == ("2026-08-01T11:58:00+00:00",) * 2
    told = {**INCIDENT, **{key: before[key] for key in ("severity", "source", "name", "labels")}}
    snapshot = {"incident": told, "monitor": {"name": before["monitor"]}}
    (fired,) = _alerts(replace(claim("opened"), snapshot=snapshot))
    assert fired["labels"] == old["labels"]


def test_of_one_alert_in_a_group_the_last_word_counts() -> None:
    ended = claim("resolved", status="resolved", resolved_at="2026-08-01T12:00:00+00:00")
    assert [alert["endsAt"] for alert in _alerts(claim("opened"), ended)] == ["2026-08-01T12:00:00+00:00"]


def _story(event_type: str = "opened", **incident: Any) -> Any:
    return tell(build((claim(event_type, **incident),)), CLAIM.channel_id, context_over(Wire(OK)))[0]


def test_a_story_says_how_long_it_lasted() -> None:
    facts = dict(_story("resolved", status="resolved", resolved_at="2026-08-01T13:01:05+00:00").facts)
    assert (facts["Since"], facts["Duration"]) == ("2026-08-01 11:58:00 UTC", "1 h 3 min")
    assert "Duration" not in dict(_story().facts)


SPANS = [(0, "0 s"), (59.6, "1 min"), (61, "1 min 1 s"), (3_600, "1 h"), (90_061, "1 d 1 h"), (86_430, "1 d 30 s"),
         (-5, "0 s")]  # fmt: skip


@pytest.mark.parametrize(("seconds", "said"), SPANS)
def test_how_a_length_of_time_is_said(seconds: float, said: str) -> None:
    assert span(timedelta(seconds=seconds)) == said


@pytest.mark.parametrize("event_type", ["opened", "escalated", "reminder", "acknowledged", "resolved"])
def test_only_what_asks_for_somebody_has_a_link_to_acknowledge(event_type: str) -> None:
    story = _story(event_type)
    assert bool(story.acknowledge) is (event_type in {"opened", "escalated", "reminder"})
    assert headline([story]).endswith(": Shop is down")


def test_a_link_is_the_same_at_every_attempt_and_says_what_it_allows() -> None:
    url = _story().acknowledge
    assert url == _story().acknowledge
    grant = Links(VAULT, "").read(url.rpartition("/")[2])
    assert grant is not None
    assert (grant.org_id, grant.incident_id, grant.channel_id) == (ORG_ID, INCIDENT["id"], CLAIM.channel_id)
    assert grant.expires_at == (NOW + LIFETIME).replace(microsecond=0)


def test_only_a_holder_of_a_key_signs_and_only_for_one_purpose() -> None:
    signed = VAULT.sign("one", b"data")
    assert VAULT.signed("one", b"data", signed)
    assert not VAULT.signed("two", b"data", signed)
    assert not VAULT.signed("one", b"Data", signed)
    assert not VAULT.signed("one", b"data", b"")
    assert not VAULT.signed("one", b"data", signed[:15])
    assert not Vault(generate_key()).signed("one", b"data", signed)


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("a\r\nb\tc", "a b c"),
        ("  a  ", "a"),
        ("\u202egnp.exe", "gnp.exe"),
        ("zero\u200bwidth", "zero width"),
        ("a\x00\x1b[31mb", "a [31mb"),
        ("\ud800", ""),
        ("x" * 600, "x" * 499 + "…"),
        (5, "5"),
    ],
)
def test_what_came_from_outside_is_made_plain(value: Any, said: str) -> None:
    assert plain(value) == said


def test_an_event_without_times_or_cause_is_told_all_the_same() -> None:
    bare = {"id": INCIDENT["id"], "title": "x", "severity": "odd", "priority": "P9"}
    message = replace(build((CLAIM,)), events=(Event("invented", NOW, bare, None),))
    (story,) = tell(message, CLAIM.channel_id, context_over(Wire(OK)))
    assert story.headline == "Invented: x"
    assert story.facts == (("Severity", "odd (P9)"),)

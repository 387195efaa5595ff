"""Messages and HTTP channels without a network: bodies, signatures, what an answer means, what may be said of it."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta, timezone
from typing import Any
from urllib.parse import urlsplit

import pytest
from standardwebhooks import Webhook

from common.channels.base import Destination, Unsendable
from common.channels.http import judge, post, redact, retry_after_s
from common.channels.registry import CHANNELS
from common.domain.checks import Reason
from common.domain.delivery import Attempt, Outcome, Poison
from common.http.exchange import HttpExchange
from notifier.messages import build
from tests.telling import CLAIM, INCIDENT, MONITOR, NOW, claim
from tests.wire import BASE, DESTINATIONS, SECRET, URL, failed, send

ID = CLAIM.id


def test_a_webhook_body_has_version_type_timestamp_and_data() -> None:
    assert json.loads(build((CLAIM,)).body) == {
        "v": 1,
        "type": "incident.opened",
        "timestamp": "2026-08-01T12:00:00.123456+00:00",
        "data": {"incident": INCIDENT, "monitor": MONITOR},
    }


def test_several_notifications_are_one_message_under_the_id_that_they_share() -> None:
    first, second = claim("opened"), replace(claim("resolved", 1), event_at=NOW + timedelta(seconds=5))
    shared = [replace(one, message_id="01989e5c-0000-7aaa-8bbb-0123456789ab") for one in (first, second)]
    message = build(shared)
    assert message.notification_id == "01989e5c-0000-7aaa-8bbb-0123456789ab"
    body = json.loads(message.body)
    assert (body["v"], body["type"], body["timestamp"]) == (1, "incident.group", "2026-08-01T12:00:05.123456+00:00")
    assert [(entry["type"], entry["incident"]["id"]) for entry in body["data"]["incidents"]] == [
        ("incident.opened", first.incident_id),
        ("incident.resolved", second.incident_id),
    ]
    assert all(entry.keys() == {"type", "timestamp", "incident", "monitor"} for entry in body["data"]["incidents"])
    assert build(shared) == message


def test_an_unusable_event_makes_its_group_unsendable() -> None:
    with pytest.raises(Unsendable):
        build((CLAIM, replace(CLAIM, snapshot=None)))


def test_a_body_is_the_same_bytes_at_every_attempt_however_the_database_shows_time() -> None:
    elsewhere = NOW.astimezone(timezone(timedelta(hours=2)))
    assert build((replace(CLAIM, event_at=elsewhere, number=7),)).body == build((CLAIM,)).body


@pytest.mark.parametrize(
    "snapshot",
    [None, {}, {"incident": None}, {"incident": {"id": "i1"}}, {"incident": INCIDENT, "monitor": "shop"}],
)
def test_an_event_without_a_usable_snapshot_cannot_be_sent(snapshot: Any) -> None:
    with pytest.raises(Unsendable) as caught:
        build((replace(CLAIM, snapshot=snapshot),))
    assert caught.value.poison is Poison.MESSAGE_INVALID


def test_a_webhook_is_signed_for_its_constant_id() -> None:
    _, (request,) = send("webhook", HttpExchange(status=204))
    headers = dict(request.headers)
    assert headers["webhook-id"] == f"msg_{ID}"
    assert request.body is not None
    Webhook(SECRET).verify(request.body, headers)
    assert request.traceparent == f"00-{'c' * 32}-{ID.replace('-', '')[-16:]}-01"
    assert request.follow_redirects is False
    assert request.timeout_s == 20


@pytest.mark.parametrize("secret", ["", None, "whsec_", "whsec_no base64!", 7])
def test_a_webhook_without_a_usable_secret_is_never_sent_unsigned(secret: Any) -> None:
    with pytest.raises(Unsendable):
        send("webhook", HttpExchange(status=200), destination=Destination("c", {"url": URL}, {"secret": secret}))


#: All channels over HTTP understand an answer alike.
_ANSWERS = [
    # 2xx is taken, even when the rest of the answer breaks off or is too long.
    (HttpExchange(status=200), Outcome.DELIVERED),
    (HttpExchange(status=204), Outcome.DELIVERED),
    (HttpExchange(status=200, reason=Reason.CONNECTION_RESET), Outcome.DELIVERED),
    (HttpExchange(status=200, reason=Reason.BODY_TOO_LARGE), Outcome.DELIVERED),
    # Redirects and refusals are final.
    (HttpExchange(status=301), Outcome.REJECTED),
    (HttpExchange(status=400), Outcome.REJECTED),
    (HttpExchange(status=401), Outcome.REJECTED),
    (HttpExchange(status=410), Outcome.REJECTED),
    # These say "later".
    (HttpExchange(status=408), Outcome.FAILED),
    (HttpExchange(status=425), Outcome.FAILED),
    (HttpExchange(status=429), Outcome.FAILED),
    (HttpExchange(status=500), Outcome.FAILED),
    (HttpExchange(status=503), Outcome.FAILED),
    # A gateway does not know either.
    (HttpExchange(status=502), Outcome.UNKNOWN),
    (HttpExchange(status=504), Outcome.UNKNOWN),
    # An interim answer is none.
    (HttpExchange(status=100, reason=Reason.CONNECTION_RESET), Outcome.UNKNOWN),
    # It never got there …
    (failed(Reason.CONNECT_REFUSED), Outcome.FAILED),
    (failed(Reason.DNS_NOT_FOUND), Outcome.FAILED),
    (failed(Reason.TLS_CERTIFICATE_EXPIRED), Outcome.FAILED),
    (failed(Reason.EGRESS_DENIED), Outcome.FAILED),
    (failed(Reason.INTERNAL), Outcome.FAILED),
    # … or may have.
    (failed(Reason.TIMEOUT), Outcome.UNKNOWN),
    (failed(Reason.CONNECTION_RESET), Outcome.UNKNOWN),
    (failed(Reason.EMPTY_REPLY), Outcome.UNKNOWN),
]


@pytest.mark.parametrize("type_", sorted(DESTINATIONS))
@pytest.mark.parametrize(("exchange", "outcome"), _ANSWERS)
def test_what_an_answer_means(type_: str, exchange: HttpExchange, outcome: Outcome) -> None:
    attempt, _ = send(type_, exchange)
    assert attempt.outcome is outcome
    assert attempt.gone is (exchange.status == 410)


@pytest.mark.parametrize("type_", sorted(DESTINATIONS))
def test_no_channel_says_a_secret(type_: str) -> None:
    url = f"{BASE}/api/v2/alerts" if type_ == "alertmanager" else URL
    attempt, (request,) = send(type_, failed(Reason.PROTOCOL_ERROR, f"asked {url} \x00 for {urlsplit(url).path}"))
    assert "s3cr3t" not in attempt.error
    assert "t0k3n" not in attempt.error
    assert "\x00" not in attempt.error
    assert SECRET.encode() not in (request.body or b"")


@pytest.mark.parametrize("type_", sorted(CHANNELS))
@pytest.mark.parametrize("wrong", [None, "", 5])
def test_a_channel_without_a_usable_configuration_cannot_be_sent_to(type_: str, wrong: Any) -> None:
    destination = Destination("c", {"url": wrong, "to": wrong}, {"secret": SECRET, "url": wrong})
    with pytest.raises(Unsendable) as caught:
        send(type_, HttpExchange(status=200), destination=destination)
    assert caught.value.poison is Poison.CHANNEL_INVALID


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        (None, None),
        ("120", 120.0),
        (" 7 ", 7.0),
        ("Sat, 01 Aug 2026 12:01:00 GMT", 59.876544),
        ("Sat, 01 Aug 2026 11:00:00 GMT", 0.0),  # past: at once
        ("soon", None),
        ("-5", None),
        ("٣", None),  # digits, but not HTTP's
        ("9" * 400, 999_999_999.0),
    ],
)
def test_how_long_a_receiver_asks_to_be_left_alone(header: str | None, seconds: float | None) -> None:
    assert retry_after_s(header, NOW) == (None if seconds is None else pytest.approx(seconds))


def test_an_error_keeps_host_and_reason_and_loses_path_query_and_credentials() -> None:
    request = post("https://user:hunter2@hooks.example/services/s3cr3t?token=t0k3n", {}, b"")
    said = redact("no answer from hooks.example for /services/s3cr3t token=t0k3n user hunter2", request)
    assert said == "no answer from hooks.example for [hidden] [hidden] [hidden] [hidden]"


def test_whatever_judge_reads_is_an_attempt_without_a_status_when_there_was_none() -> None:
    attempt = judge(failed(Reason.CONNECT_REFUSED, "refused"), post(URL, {}, b""), NOW)
    assert attempt == Attempt(Outcome.FAILED, None, "connect_refused: refused")

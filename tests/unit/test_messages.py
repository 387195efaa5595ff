"""Messages and channels without a network: bodies, signatures, what an answer means, what may be said of it."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from standardwebhooks import Webhook

from common.clock import utc_now
from common.domain.checks import Reason
from common.domain.delivery import Attempt, Outcome, Poison
from common.http.exchange import HttpExchange, HttpRequest
from common.store.notifications import Claimed
from notifier.channels.base import Channel, Context, Destination, Unsendable, judge, post, redact, retry_after_s
from notifier.channels.registry import CHANNELS
from notifier.messages import build

NOW = datetime(2026, 8, 1, 12, 0, 0, 123456, tzinfo=UTC)
ID = "01989e5c-7d2b-7aaa-8bbb-0123456789ab"
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
URL = "https://hooks.example/services/s3cr3t?token=t0k3n"
INCIDENT = {"id": "i1", "title": "Shop — <b>down</b>", "severity": "critical", "priority": "P1", "cause": {}}

CLAIM = Claimed(
    id=ID, org_id="o", incident_id="i1", channel_id="c", event_type="opened", number=1, first_attempt_at=NOW,
    lease_token="t", channel_type="webhook", channel_config={}, channel_secrets=None, failures=0, failing_since=None,
    event_id="e", event_at=NOW, snapshot={"incident": INCIDENT, "monitor": None}, correlation_id="c" * 32,
)  # fmt: skip

#: What each type of channel needs to be told where to go.
DESTINATIONS = {
    "webhook": Destination("c", {"url": URL}, {"secret": SECRET}),
    "slack": Destination("c", {}, {"url": URL}),
}


class Wire:
    """An engine that answers what it is told and keeps what it was asked."""

    def __init__(self, exchange: HttpExchange) -> None:
        self.exchange = exchange
        self.asked: list[HttpRequest] = []

    async def send(self, request: HttpRequest) -> HttpExchange:
        self.asked.append(request)
        return self.exchange


def _send(type_: str, exchange: HttpExchange, destination: Destination | None = None) -> tuple[Attempt, HttpRequest]:
    wire = Wire(exchange)
    context = Context(wire, utc_now, "https://tocsin.example")
    attempt = asyncio.run(CHANNELS[type_].send(build(CLAIM), destination or DESTINATIONS[type_], context))
    return attempt, wire.asked[0]


def _failed(reason: Reason, message: str = "no") -> HttpExchange:
    exchange = HttpExchange()
    exchange.fail(reason, message)
    return exchange


def test_a_webhook_body_has_version_type_timestamp_and_data() -> None:
    assert json.loads(build(CLAIM).body) == {
        "v": 1,
        "type": "incident.opened",
        "timestamp": "2026-08-01T12:00:00.123456+00:00",
        "data": {"incident": INCIDENT, "monitor": None},
    }


def test_a_body_is_the_same_bytes_at_every_attempt_however_the_database_shows_time() -> None:
    elsewhere = NOW.astimezone(timezone(timedelta(hours=2)))
    assert build(replace(CLAIM, event_at=elsewhere, number=7)).body == build(CLAIM).body


@pytest.mark.parametrize(
    "snapshot",
    [None, {}, {"incident": None}, {"incident": {"id": "i1"}}, {"incident": INCIDENT, "monitor": "shop"}],
)
def test_an_event_without_a_usable_snapshot_cannot_be_sent(snapshot: Any) -> None:
    with pytest.raises(Unsendable) as caught:
        build(replace(CLAIM, snapshot=snapshot))
    assert caught.value.poison is Poison.MESSAGE_INVALID


def test_a_webhook_is_signed_for_its_constant_id() -> None:
    _, request = _send("webhook", HttpExchange(status=204))
    headers = dict(request.headers)
    assert headers["webhook-id"] == f"msg_{ID}"
    assert request.body is not None
    Webhook(SECRET).verify(request.body, headers)
    assert request.traceparent == f"00-{'c' * 32}-8bbb0123456789ab-01"
    assert request.follow_redirects is False
    assert request.timeout_s == 20


@pytest.mark.parametrize("secret", ["", None, "whsec_", "whsec_no base64!", 7])
def test_a_webhook_without_a_usable_secret_is_never_sent_unsigned(secret: Any) -> None:
    with pytest.raises(Unsendable):
        _send("webhook", HttpExchange(status=200), Destination("c", {"url": URL}, {"secret": secret}))


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
    (_failed(Reason.CONNECT_REFUSED), Outcome.FAILED),
    (_failed(Reason.DNS_NOT_FOUND), Outcome.FAILED),
    (_failed(Reason.TLS_CERTIFICATE_EXPIRED), Outcome.FAILED),
    (_failed(Reason.EGRESS_DENIED), Outcome.FAILED),
    (_failed(Reason.INTERNAL), Outcome.FAILED),
    # … or may have.
    (_failed(Reason.TIMEOUT), Outcome.UNKNOWN),
    (_failed(Reason.CONNECTION_RESET), Outcome.UNKNOWN),
    (_failed(Reason.EMPTY_REPLY), Outcome.UNKNOWN),
]


@pytest.mark.parametrize("type_", sorted(CHANNELS))
@pytest.mark.parametrize(("exchange", "outcome"), _ANSWERS)
def test_what_an_answer_means(type_: str, exchange: HttpExchange, outcome: Outcome) -> None:
    attempt, _ = _send(type_, exchange)
    assert attempt.outcome is outcome
    assert attempt.gone is (exchange.status == 410)


@pytest.mark.parametrize("type_", sorted(CHANNELS))
def test_no_channel_says_a_secret(type_: str) -> None:
    attempt, request = _send(type_, _failed(Reason.PROTOCOL_ERROR, f"asked {URL} \x00 for /services/s3cr3t"))
    assert "s3cr3t" not in attempt.error
    assert "t0k3n" not in attempt.error
    assert "\x00" not in attempt.error
    assert SECRET.encode() not in (request.body or b"")


@pytest.mark.parametrize("type_", sorted(CHANNELS))
def test_a_channel_without_an_address_cannot_be_sent_to(type_: str) -> None:
    with pytest.raises(Unsendable) as caught:
        _send(type_, HttpExchange(status=200), Destination("c", {}, {"secret": SECRET}))
    assert caught.value.poison is Poison.CHANNEL_INVALID


def test_every_channel_type_has_a_row_in_this_suite() -> None:
    assert DESTINATIONS.keys() == CHANNELS.keys()
    channels: list[Channel] = list(CHANNELS.values())
    assert len(channels) >= 2


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


def test_a_slack_message_escapes_what_slack_would_obey_and_links_to_the_incident() -> None:
    _, request = _send("slack", HttpExchange(status=200))
    said = json.loads(request.body or b"")
    assert said["text"] == "Opened: Shop — &lt;b&gt;down&lt;/b&gt;"
    assert said["blocks"][2]["elements"][0]["text"].startswith("<https://tocsin.example/v1/incidents/i1|Incident>")


def test_a_slack_message_stays_within_slacks_limits_whatever_the_title() -> None:
    loud = replace(CLAIM, snapshot={"incident": {**INCIDENT, "title": "&" * 9000}, "monitor": {"name": "<" * 9000}})
    wire = Wire(HttpExchange(status=200))
    context = Context(wire, utc_now, "https://tocsin.example")
    asyncio.run(CHANNELS["slack"].send(build(loud), DESTINATIONS["slack"], context))
    blocks = json.loads(wire.asked[0].body or b"")["blocks"]
    assert all(len(block["text"]["text"]) <= 3000 for block in blocks if block["type"] == "section")


def test_whatever_judge_reads_is_an_attempt_without_a_status_when_there_was_none() -> None:
    attempt = judge(_failed(Reason.CONNECT_REFUSED, "refused"), post(URL, {}, b""), NOW)
    assert attempt == Attempt(Outcome.FAILED, None, "connect_refused: refused")

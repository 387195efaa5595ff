"""The documented way to verify a webhook takes what we send, and nothing that was touched or is old."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from common.channels.base import Destination
from common.channels.webhook import WebhookSettings
from common.domain.delivery import Outcome
from tests.sink import Sink
from tests.telling import NOW, claim, message, send

DOCUMENT = Path(__file__).parents[2] / "docs" / "alerting.md"
SECRET = WebhookSettings.generate()["secret"]
#: How long after it was signed a message arrives (seconds).
SOON = 2.0

Verify = Callable[[str, dict[str, str], bytes], None]


@dataclass(frozen=True)
class Delivery:
    """A request as the receiver got it."""

    headers: dict[str, str]
    body: bytes

    def with_header(self, name: str, value: str) -> Delivery:
        return replace(self, headers={**self.headers, name: value})


def documented(after_s: float = SOON) -> Verify:
    """The function that stands in the documentation, so long after the message was signed."""
    (code,) = re.findall(r"```python\n(.*?def verify.*?)```", DOCUMENT.read_text(), re.DOTALL)
    names: dict[str, Any] = {}
    exec(compile(code, str(DOCUMENT), "exec"), names)
    names["time"] = SimpleNamespace(time=lambda: NOW.timestamp() + after_s)
    verify: Verify = names["verify"]
    return verify


@pytest.fixture
def deliveries() -> Iterator[list[Delivery]]:
    """Two that were really sent: about an opening and about a resolution."""
    with Sink() as sink:
        told = [message(claim("opened")), message(claim("resolved", 1, status="resolved"))]
        destination = Destination("c", {"url": sink.url()}, {"secret": SECRET})
        for attempt in send("webhook", destination, *told):
            assert attempt.outcome is Outcome.DELIVERED
        yield [Delivery({k.lower(): v for k, v in each.headers.items()}, each.body) for each in sink.received]


def assert_refused(
    delivery: Delivery, why: str = "wrong signature", after_s: float = SOON, secret: str = SECRET
) -> None:
    with pytest.raises(ValueError, match=why):
        documented(after_s)(secret, delivery.headers, delivery.body)


def test_what_we_send_is_verified_as_documented(deliveries: list[Delivery]) -> None:
    assert len(deliveries) == 2
    for delivery in deliveries:
        documented()(SECRET, delivery.headers, delivery.body)


def test_a_changed_body_is_refused(deliveries: list[Delivery]) -> None:
    opened = deliveries[0]
    assert b"Shop is down" in opened.body
    assert_refused(replace(opened, body=opened.body.replace(b"Shop is down", b"All is well")))
    assert_refused(replace(opened, body=opened.body + b"\n"))
    assert_refused(replace(opened, body=b""))


def test_the_signature_of_one_message_is_worth_nothing_for_another(deliveries: list[Delivery]) -> None:
    opened, resolved = deliveries
    assert_refused(replace(opened, body=resolved.body))
    assert_refused(opened.with_header("webhook-signature", resolved.headers["webhook-signature"]))
    assert_refused(opened.with_header("webhook-id", "msg_of_another"))


def test_an_old_message_is_refused_and_a_new_timestamp_does_not_make_it_new(deliveries: list[Delivery]) -> None:
    opened = deliveries[0]
    documented(299)(SECRET, opened.headers, opened.body)
    assert_refused(opened, "too old", after_s=600)
    signed_at = int(opened.headers["webhook-timestamp"])
    assert signed_at == int(NOW.timestamp())
    assert_refused(opened.with_header("webhook-timestamp", str(signed_at + 600)), after_s=600)
    assert_refused(opened.with_header("webhook-timestamp", str(signed_at + 1)))


def test_another_secret_or_none_is_refused(deliveries: list[Delivery]) -> None:
    opened = deliveries[0]
    assert_refused(opened, secret=WebhookSettings.generate()["secret"])
    assert_refused(opened.with_header("webhook-signature", ""))
    assert_refused(opened.with_header("webhook-signature", "v1," + "A" * 43 + "="))

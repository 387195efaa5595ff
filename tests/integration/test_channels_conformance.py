"""Every type of channel keeps the same promises, each against a receiver that holds it to its contract."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from common.channels.registry import CHANNELS
from common.domain.delivery import SEND_DEADLINE_S, Outcome
from common.domain.egress import EgressMode, EgressRules
from tests.certificate import make_certificate
from tests.receivers import CANARY, RECEIVERS, Behaviour, Receiver, receiver_of
from tests.telling import claim, message, send, send_all

TYPES = sorted(CHANNELS)

#: What a behaviour means, for every type that knows it.
MEANINGS = {
    Behaviour.TAKES: Outcome.DELIVERED,
    Behaviour.MOVED: Outcome.REJECTED,
    Behaviour.REFUSES: Outcome.REJECTED,
    Behaviour.GONE: Outcome.REJECTED,
    Behaviour.ASKS_TO_WAIT: Outcome.FAILED,
    Behaviour.BUSY: Outcome.FAILED,
    Behaviour.UNSURE_GATEWAY: Outcome.UNKNOWN,
    Behaviour.RESETS: Outcome.UNKNOWN,
}

NASTY = (
    "Ünï 🚨 \u202eevil\r\nBcc: thief@example.com\r\nX-Evil: 1\x00\x1b[31m <!channel> <b>&amp; \ud800 "
    "<script>alert(1)</script>"
)
#: {what it is: what an incident says}
TEXTS = {
    "nasty": NASTY,
    "huge": "x" * 300_000,
    "escaped": "&" * 20_000,
    "blank": "\n" * 5_000 + "end",
    "wide": "\u4e16\u754c" * 2_000,
    "quote": "'",
}


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return make_certificate(tmp_path_factory.mktemp("tls"))


@pytest.fixture(params=TYPES)
def receiver(request: pytest.FixtureRequest, certificate: tuple[Path, Path]) -> Iterator[Receiver]:
    with receiver_of(request.param, certificate) as receiver:
        yield receiver


def test_every_type_is_in_this_suite() -> None:
    assert RECEIVERS.keys() == CHANNELS.keys()
    assert len(CHANNELS) >= 6


@pytest.mark.parametrize("behaviour", MEANINGS)
def test_what_a_receiver_does_means_the_same_everywhere(receiver: Receiver, behaviour: Behaviour) -> None:
    if behaviour not in receiver.behaviours:
        return  # mail servers know no redirects, gateways or Retry-After
    variants = range(receiver.variants(behaviour))
    for variant in variants:
        receiver.behave(behaviour, variant)
        (attempt,) = send(receiver.type_, receiver.destination)
        assert attempt.outcome is MEANINGS[behaviour], (behaviour, variant, attempt)
        assert attempt.gone is (behaviour is Behaviour.GONE)
        assert attempt.retry_after_s == (7.0 if behaviour is Behaviour.ASKS_TO_WAIT else None)
        assert CANARY not in attempt.error
        assert bool(attempt.error) is (attempt.outcome is not Outcome.DELIVERED)
    receiver.check()


def test_nobody_listening_means_certainly_not_told(receiver: Receiver) -> None:
    destination = receiver.destination
    receiver.close()
    (attempt,) = send(receiver.type_, destination)
    assert (attempt.outcome, attempt.status_code) == (Outcome.FAILED, None)
    assert attempt.error and CANARY not in attempt.error


def test_every_attempt_at_a_message_is_the_same_message(receiver: Receiver) -> None:
    told = message(claim("opened"))
    receiver.behave(Behaviour.BUSY, 1)
    (failed,) = send(receiver.type_, receiver.destination, told)
    receiver.behave(Behaviour.TAKES)
    attempts = send(receiver.type_, receiver.destination, told, told)
    assert [failed.outcome, *(attempt.outcome for attempt in attempts)] == [
        Outcome.FAILED, Outcome.DELIVERED, Outcome.DELIVERED,
    ]  # fmt: skip
    assert len(receiver.messages) == 3
    assert len(set(receiver.messages)) == 1


def test_two_messages_are_two_messages(receiver: Receiver) -> None:
    send(receiver.type_, receiver.destination, message(claim("opened")), message(claim("resolved", status="resolved")))
    assert len(set(receiver.messages)) == 2


@pytest.mark.parametrize("kind", TEXTS)
@pytest.mark.parametrize("event_type", ["opened", "escalated", "reminder", "acknowledged", "resolved"])
def test_whatever_an_incident_says_arrives_within_the_contract(
    certificate: tuple[Path, Path], kind: str, event_type: str
) -> None:
    text = TEXTS[kind]
    cause = {"reason": "timeout", "message": text, "expected": text, "seen": text}
    told = message(claim(event_type, title=text, description=text, cause=cause, labels={text[:100]: text}))
    with ExitStack() as stack:
        # Apprise is a process per message: one text is enough for it, the story is everybody's.
        types = [type_ for type_ in TYPES if type_ != "apprise" or kind == "nasty"]
        for type_ in types:
            receiver = stack.enter_context(receiver_of(type_, certificate))
            (attempt,) = send(type_, receiver.destination, told)
            assert attempt.outcome is Outcome.DELIVERED, (type_, attempt)
            assert len(receiver.messages) == 1
            receiver.check()


def test_a_group_arrives_within_the_contract(receiver: Receiver) -> None:
    claims = [claim("opened", number, title=f"Shop {number} is down") for number in range(120)]
    claims += [claim("resolved", 3, status="resolved", resolved_at="2026-08-01T12:00:00+00:00"), claim("escalated", 5)]
    (attempt,) = send(receiver.type_, receiver.destination, message(*claims))
    assert attempt.outcome is Outcome.DELIVERED, attempt
    receiver.check()


def test_the_egress_policy_holds(receiver: Receiver) -> None:
    (attempt,) = send(receiver.type_, receiver.destination, rules=EgressRules(EgressMode.PUBLIC))
    assert (attempt.outcome, attempt.status_code) == (Outcome.FAILED, None)
    assert attempt.error.startswith("egress_denied")
    assert receiver.messages == []


def test_a_receiver_that_hangs_is_given_up_in_time_by_every_type(certificate: tuple[Path, Path]) -> None:
    with ExitStack() as stack:
        receivers = [stack.enter_context(receiver_of(type_, certificate)) for type_ in TYPES]
        for receiver in receivers:
            receiver.behave(Behaviour.HANGS)
        found = send_all([(receiver.type_, receiver.destination) for receiver in receivers])
    for receiver, (attempt, seconds) in zip(receivers, found, strict=True):
        assert attempt.outcome is Outcome.UNKNOWN, (receiver.type_, attempt)
        assert "timeout" in attempt.error
        # It would hang for three times as long.
        assert SEND_DEADLINE_S - 2 < seconds < 2 * SEND_DEADLINE_S, receiver.type_
